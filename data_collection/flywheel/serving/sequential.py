"""The decision of a rollout: evidence in; rollback, promote, hold or inconclusive out, with the figures it rests on.

Roll back on evidence of harm, promote on proof of harmlessness, hold in between, and at the deadline stop undecided:
nothing ships because nothing was proved, and nothing is rolled back on noise. `decide_point` is the bare thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from flywheel.serving.exposure import MOST_UNITS
from flywheel.serving.figures import Figures, figures, rate_in_words
from flywheel.serving.gaps import METRICS_MISSING, NO_QUALITY, unproved, unready
from flywheel.serving.rule import ERRORS, LATENCY, QUALITY

if TYPE_CHECKING:
    from flywheel.serving.evidence import Evidence
    from flywheel.serving.gaps import Finding
    from flywheel.serving.rule import RolloutConfig

HARMLESS = "harmless"
# Below this many latencies in an arm the latency e-value means little.
MIN_TIMED = 5

Action = Literal["rollback", "promote", "hold", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now, and why.

    `reasons` are codes, the first the one to record (of a rollback: `rollback_reason`); `text` says all of them in
    words. `next_percent` is the share to promote to, None when the rollout ends with this stage or is not promoted.
    `notes` are what a reader must know whatever the decision, such as `no quality evidence` or how few units called.
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
    gaps = [*unready(config, evidence, now), *unproved(config, evidence, now)]
    return _verdict(config, now, _harm(config, evidence, now), gaps)


def decide_point(config: RolloutConfig, evidence: Evidence) -> Decision:
    """The bare thresholds on point estimates (`--rule point`): an alarm on noise, but never deaf to missing metrics."""
    now = figures(config, evidence)
    enough = now.candidate_calls >= config.min_calls
    harm = [finding for _, finding in _past_thresholds(config, now)] if enough else []
    return _verdict(config, now, harm, unready(config, evidence, now))


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
    notes = _notes(config, now)
    codes = tuple(dict.fromkeys(code for code, _ in findings))
    text = "; ".join([*(words for _, words in findings), *notes])
    return Decision(action, codes, text, now, share, notes)


def _notes(config: RolloutConfig, now: Figures) -> tuple[str, ...]:
    """What a reader must know: a metric that nobody looks at, or calls that few units made and that are no sample."""
    found = [] if QUALITY in config.required else [NO_QUALITY]
    few = now.candidate_drawn < config.min_calls <= now.candidate_calls
    if few and now.candidate_drawn + now.baseline_drawn < MOST_UNITS:
        found.append(f"the candidate's calls are of {now.candidate_drawn} units alone")
    return tuple(found)


def _past_thresholds(config: RolloutConfig, now: Figures) -> list[tuple[str, Finding]]:
    """The required metrics whose estimate in this stage is past its threshold, each with its finding."""
    found = []
    if now.error_rate_delta is not None and now.error_rate_delta > config.error_rate_delta:
        words = f"error rate {rate_in_words(now.error_rate_candidate)} against {rate_in_words(now.error_rate_baseline)}"
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
