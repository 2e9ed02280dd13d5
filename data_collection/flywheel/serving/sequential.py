"""The decision of a rollout: evidence in; rollback, promote, hold or inconclusive out, with the figures it rests on.

Roll back on evidence of harm, promote on proof of harmlessness, hold in between, and at the deadline stop undecided:
nothing ships because nothing was proved, and nothing is rolled back on noise. `decide_point` is the bare thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from flywheel.serving.arms import overdue
from flywheel.serving.evidence import share_of
from flywheel.serving.figures import Figures, figures
from flywheel.serving.rule import ERRORS, LATENCY, QUALITY

if TYPE_CHECKING:
    from flywheel.serving.arms import ArmTotals
    from flywheel.serving.evidence import Evidence
    from flywheel.serving.rule import RolloutConfig

METRICS_MISSING = "metrics_missing"
SAMPLE_RATIO_MISMATCH = "sample_ratio_mismatch"
TOO_YOUNG = "stage too young"
TOO_FEW_CALLS = "not enough calls"
NO_QUALITY = "no quality evidence"
NO_CUTOFFS = "latency cut-offs not frozen"
ERRORS_UNPROVED = "error rate not shown harmless"
LATENCY_UNPROVED = "latency not shown harmless"
QUALITY_UNPROVED = "quality not shown harmless"
HARMLESS = "harmless"

# Below these the latency e-value, the normal approximation of quality's bound, and the baseline as a yardstick (also
# of its own silence: ten mean intervals of ten records are all the time there was) mean little.
MIN_TIMED = 5
MIN_SCORES = 30
MIN_BASELINE_CALLS = 30
# A stage is unusable when more than a twentieth of its records were.
MAX_BAD_FRACTION = 0.05

Action = Literal["rollback", "promote", "hold", "inconclusive"]
# A reason's code, and the same in plain words with its figures.
Finding = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now, and why.

    `reasons` are codes, the first the one to record (of a rollback: `rollback_reason`); `text` says all of them in
    words. `next_percent` is the share to promote to, None when the rollout ends with this stage or is not promoted.
    `notes` are what a reader must know whatever the decision, such as `no quality evidence`.
    """

    action: Action
    reasons: tuple[str, ...]
    text: str
    figures: Figures
    next_percent: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """The first reason."""
        return self.reasons[0]


def decide(config: RolloutConfig, evidence: Evidence) -> Decision:
    """The rule: rollback by e-values, promotion by non-inferiority."""
    now = figures(config, evidence)
    gaps = [*_gaps(config, evidence, now), *_unproved(config, evidence, now)]
    return _verdict(config, now, _harm(config, evidence, now), gaps)


def decide_point(config: RolloutConfig, evidence: Evidence) -> Decision:
    """The bare thresholds on point estimates (`--rule point`): an alarm on noise, but never deaf to missing metrics."""
    now = figures(config, evidence)
    enough = now.candidate_calls >= config.min_calls
    harm = [finding for _, finding in _past_thresholds(config, now)] if enough else []
    return _verdict(config, now, harm, _gaps(config, evidence, now))


def _verdict(config: RolloutConfig, now: Figures, harm: list[Finding], gaps: list[Finding]) -> Decision:
    if harm:
        return _decision(config, now, "rollback", harm)
    if not gaps:
        following = now.stage + 1
        share = config.stages[following] if following < len(config.stages) else None
        found = [(HARMLESS, "every required metric is within its threshold")]
        return _decision(config, now, "promote", found, share)
    if now.elapsed_minutes < now.deadline_minutes:
        return _decision(config, now, "hold", gaps)
    missing = [gap for gap in gaps if gap[0] == METRICS_MISSING]
    return _decision(config, now, "rollback", missing) if missing else _decision(config, now, "inconclusive", gaps)


def _decision(
    config: RolloutConfig, now: Figures, action: Action, findings: list[Finding], share: float | None = None
) -> Decision:
    notes = () if QUALITY in config.required else (NO_QUALITY,)
    codes = tuple(dict.fromkeys(code for code, _ in findings))
    text = "; ".join([*(words for _, words in findings), *notes])
    return Decision(action, codes, text, now, share, notes)


def _past_thresholds(config: RolloutConfig, now: Figures) -> list[tuple[str, Finding]]:
    """The required metrics whose estimate in this stage is past its threshold, each with its finding."""
    found = []
    if now.error_rate_delta is not None and now.error_rate_delta > config.error_rate_delta:
        words = f"error rate {_rate(now.error_rate_candidate)} against {_rate(now.error_rate_baseline)}"
        found.append((ERRORS, (f"error_rate_delta > {config.error_rate_delta:g}", words)))
    if now.latency_delta_ms is not None and now.latency_delta_ms > config.latency_delta_ms:
        words = f"mean latency {now.latency_ms_candidate:.0f} ms against {now.latency_ms_baseline:.0f} ms"
        found.append((LATENCY, (f"latency_delta_ms > {config.latency_delta_ms:g}", words)))
    if now.quality_score is not None and now.quality_score < config.quality_score:
        words = f"quality {now.quality_score:.3f} over {now.quality_scores} scores"
        found.append((QUALITY, (f"quality_score < {config.quality_score:.2f}", words)))
    return [(metric, finding) for metric, finding in found if metric in config.required]


def _harm(config: RolloutConfig, evidence: Evidence, now: Figures) -> list[Finding]:
    """The metrics past their threshold *and* with the evidence for it."""
    e_values = {
        ERRORS: _errors_e_value(config, now),
        LATENCY: _latency_e_value(config, evidence, now),
        QUALITY: _quality_e_value(now),
    }
    return [
        (code, f"{words} over {now.candidate_calls} candidate calls (e-value {e_values[metric]:.4g})")
        for metric, (code, words) in _past_thresholds(config, now)
        if e_values[metric] >= now.e_bound
    ]


def _errors_e_value(config: RolloutConfig, now: Figures) -> float:
    pooled = now.error_rate_delta_pooled
    steady = pooled is not None and pooled > config.error_rate_delta and now.candidate_calls >= config.min_calls
    return max(now.e_emergency, now.e_errors if steady else 0.0)


def _latency_e_value(config: RolloutConfig, evidence: Evidence, now: Figures) -> float:
    pooled = now.latency_delta_ms_pooled
    steady = pooled is not None and pooled > config.latency_delta_ms and now.candidate_calls >= config.min_calls
    timed = min(evidence.candidate.timed, evidence.baseline.timed) >= MIN_TIMED
    return now.e_latency if steady and timed else 0.0


def _quality_e_value(now: Figures) -> float:
    # Below the absolute threshold, and below the baseline: a shock that both arms share is no reason.
    other, here = now.quality_score_baseline, now.quality_score
    below = other is not None and here is not None and here < other
    return min(now.e_quality, now.e_quality_delta) if below else 0.0


def _gaps(config: RolloutConfig, evidence: Evidence, now: Figures) -> list[Finding]:
    """What keeps any rule from promoting: metrics missing or stale, a young stage, few calls."""
    found = [(METRICS_MISSING, words) for words in _missing(config, evidence)]
    if now.elapsed_minutes < config.stage_minutes:
        found.append((TOO_YOUNG, f"the stage is {now.elapsed_minutes:.0f} of {config.stage_minutes:g} min old"))
    if now.candidate_calls < config.min_calls:
        found.append((TOO_FEW_CALLS, f"{now.candidate_calls} of {config.min_calls} candidate calls"))
    if now.baseline_calls < MIN_BASELINE_CALLS:
        found.append((TOO_FEW_CALLS, f"{now.baseline_calls} of {MIN_BASELINE_CALLS} baseline calls"))
    return found


def _missing(config: RolloutConfig, evidence: Evidence) -> list[str]:
    found = []
    if evidence.last_problem is not None:
        found.append(f"last tick unusable ({evidence.last_problem})")
    # A whole stage time must be sound: who cannot be trusted now and then cannot be trusted.
    elif evidence.bad_at is not None and evidence.elapsed_minutes - evidence.bad_at < config.stage_minutes:
        found.append(f"{evidence.bad_ticks} of {evidence.ticks} ticks unusable, the last at {evidence.bad_at:.0f} min")
    for name, arm in (("candidate", evidence.candidate), ("baseline", evidence.baseline)):
        found.extend(f"{name}: {words}" for words in _arm_missing(config, arm, evidence.elapsed_minutes))
    return found


def _arm_missing(config: RolloutConfig, arm: ArmTotals, elapsed: float) -> list[str]:
    found = []
    if arm.invalid > MAX_BAD_FRACTION * (arm.calls + arm.invalid):
        found.append(f"{arm.invalid} unusable records beside {arm.calls}")
    streams = [("records", arm.calls, arm.seen_at)]
    if QUALITY in config.required:
        streams.append(("quality scores", arm.scored, arm.scored_at))
    for name, count, last in streams:
        if overdue(count, last, elapsed, config.tick_seconds / 60):
            found.append(f"no {name}" + ("" if last is None else f" for {elapsed - last:.0f} min"))
    return found


def _unproved(config: RolloutConfig, evidence: Evidence, now: Figures) -> list[Finding]:
    """What keeps the rule from promoting beyond the gaps: routing in doubt, or harmlessness not shown."""
    found = []
    if now.e_sample_ratio >= 1 / config.sample_ratio_alpha:
        drawn = f"{now.candidate_drawn} of {now.candidate_drawn + now.baseline_drawn}"
        words = f"routing drew the candidate {drawn} times at {100 * share_of(config, evidence):.4g} %"
        found.append((SAMPLE_RATIO_MISMATCH, words))
    upper = now.error_rate_delta_upper
    if upper is None or upper >= config.error_rate_delta:
        found.append((ERRORS_UNPROVED, f"error rate may be up to {_rate(upper)} above the baseline's"))
    if LATENCY in config.required:
        found.extend(_latency_unproved(config, evidence, now))
    if QUALITY in config.required:
        found.extend(_quality_unproved(config, evidence, now))
    return found


def _latency_unproved(config: RolloutConfig, evidence: Evidence, now: Figures) -> list[Finding]:
    found = [(NO_CUTOFFS, NO_CUTOFFS)] if evidence.cutoffs is None else []
    upper = now.latency_delta_ms_upper
    if upper is None or upper >= config.latency_delta_ms:
        bound = "by an unknown amount" if upper is None else f"by up to {upper:.0f} ms"
        found.append((LATENCY_UNPROVED, f"mean latency may be above the baseline's {bound}"))
    return found


def _quality_unproved(config: RolloutConfig, evidence: Evidence, now: Figures) -> list[Finding]:
    found = []
    scores = min(evidence.candidate.scored, evidence.baseline.scored)
    if scores < MIN_SCORES or now.quality_score_lower is None:
        found.append((NO_QUALITY, f"{scores} of {MIN_SCORES} quality scores in an arm"))
    elif now.quality_score_lower <= config.quality_score:
        found.append((QUALITY_UNPROVED, f"quality may be as low as {now.quality_score_lower:.3f}"))
    if now.quality_score_baseline is not None and now.quality_score_baseline < config.quality_score:
        code = f"baseline quality below {config.quality_score:.2f}"
        found.append((code, f"the baseline's own quality is {now.quality_score_baseline:.3f}"))
    return found


def _rate(fraction: float | None) -> str:
    return "an unknown share" if fraction is None else f"{100 * fraction:.1f} %"
