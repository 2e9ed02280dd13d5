"""What keeps a rollout from being promoted: evidence that is missing or young, or harmlessness that is not shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flywheel.serving.arms import overdue
from flywheel.serving.evidence import share_of
from flywheel.serving.figures import rate_in_words
from flywheel.serving.rule import LATENCY, QUALITY

if TYPE_CHECKING:
    from flywheel.serving.arms import ArmTotals
    from flywheel.serving.evidence import Evidence
    from flywheel.serving.figures import Figures
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

# Below these the normal approximation of quality's bound, and the baseline as a yardstick (also of its own silence: ten
# mean intervals of ten records are all the time there was) mean little.
MIN_SCORES = 30
MIN_BASELINE_CALLS = 30
# A stage is unusable when more than a twentieth of its records were.
MAX_BAD_FRACTION = 0.05

# A reason's code, and the same in plain words with its figures.
Finding = tuple[str, str]


def unready(config: RolloutConfig, evidence: Evidence, now: Figures) -> list[Finding]:
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


def unproved(config: RolloutConfig, evidence: Evidence, now: Figures) -> list[Finding]:
    """What keeps the evidence rule from promoting besides: routing in doubt, or harmlessness not shown."""
    found = []
    if now.e_sample_ratio >= 1 / config.sample_ratio_alpha:
        drawn = f"{now.candidate_drawn} of {now.candidate_drawn + now.baseline_drawn}"
        words = f"routing drew the candidate {drawn} times at {100 * share_of(config, evidence):.4g} %"
        found.append((SAMPLE_RATIO_MISMATCH, words))
    upper = now.error_rate_delta_upper
    if upper is None or upper >= config.error_rate_delta:
        found.append((ERRORS_UNPROVED, f"error rate may be up to {rate_in_words(upper)} above the baseline's"))
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
