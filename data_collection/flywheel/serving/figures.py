"""What a stage's evidence amounts to: the figures that a decision compares, and that its record keeps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flywheel.serving import evalues
from flywheel.serving.arms import overdue
from flywheel.serving.evidence import current, pool, share_of
from flywheel.serving.noninferiority import agresti_caffo_upper, mean, mean_lower, welch_upper

if TYPE_CHECKING:
    from flywheel.serving.arms import ArmTotals
    from flywheel.serving.evalues import Grid
    from flywheel.serving.evidence import Evidence
    from flywheel.serving.rule import RolloutConfig


@dataclass(frozen=True, slots=True)
class Figures:
    """One tick's figures; None where the evidence does not determine one.

    Differences are candidate minus baseline (error rates: fractions of calls; latency: ms of the mean; positive is
    worse), `pooled` over stages; quality is a mean of scores (0-1, higher is better). `upper` and `lower` are one-sided
    95 % bounds from this stage. `e_` values are held against `e_bound`, `e_sample_ratio` against 1/sample_ratio_alpha.
    `drawn` is how often routing drew the arm at the present shares: units, each once, or calls where units are unknown.
    Times are minutes of the stage clock.
    """

    stage: int
    percent: float
    elapsed_minutes: float
    deadline_minutes: float
    candidate_calls: int
    baseline_calls: int
    candidate_drawn: int
    baseline_drawn: int
    error_rate_candidate: float | None
    error_rate_baseline: float | None
    error_rate_delta: float | None
    error_rate_delta_pooled: float | None
    error_rate_delta_upper: float | None
    latency_ms_candidate: float | None
    latency_ms_baseline: float | None
    latency_delta_ms: float | None
    latency_delta_ms_pooled: float | None
    latency_delta_ms_upper: float | None
    quality_scores: int
    quality_score: float | None
    quality_score_baseline: float | None
    quality_score_lower: float | None
    e_bound: float
    e_errors: float
    e_emergency: float
    e_latency: float
    e_quality: float
    e_quality_delta: float
    e_sample_ratio: float


def figures(config: RolloutConfig, evidence: Evidence) -> Figures:
    """The figures of the evidence as it stands."""
    candidate, baseline = evidence.candidate, evidence.baseline
    rates = (mean(candidate.errors, candidate.calls), mean(baseline.errors, baseline.calls))
    latencies = (mean(candidate.latency_sum_ms, candidate.timed), mean(baseline.latency_sum_ms, baseline.timed))
    pooled = pool(evidence)
    return Figures(
        evidence.stage,
        config.stages[evidence.stage],
        evidence.elapsed_minutes,
        deadline_minutes(config, evidence),
        candidate.calls,
        baseline.calls,
        candidate.drawn,
        baseline.drawn,
        *rates,
        _difference(*rates),
        pooled.error_sum / pooled.error_weight if pooled.error_weight else None,
        agresti_caffo_upper((candidate.errors, candidate.calls), (baseline.errors, baseline.calls)),
        *latencies,
        _difference(*latencies),
        pooled.latency_sum_ms / pooled.latency_weight if pooled.latency_weight else None,
        welch_upper(_latency_sums(candidate), _latency_sums(baseline)),
        candidate.scored,
        mean(candidate.score_sum, candidate.scored),
        mean(baseline.score_sum, baseline.scored),
        mean_lower(candidate.score_sum, candidate.score_squares, candidate.scored),
        config.bound,
        *_e_values(config, evidence),
    )


def _e_values(config: RolloutConfig, evidence: Evidence) -> tuple[float, float, float, float, float, float]:
    now, carried = current(config, evidence), evidence.carried
    stages = config.guarded_stages
    ratio = evalues.share_log(evidence.candidate.drawn, evidence.baseline.drawn, share_of(config, evidence))

    def mixed(before: Grid, logs: Grid) -> float:
        return evalues.e_value(evalues.mixed_log(before, logs, evidence.begun, stages))

    return (
        mixed(carried.errors, now.errors),
        mixed(carried.emergency, now.emergency),
        mixed(carried.latency, now.latency),
        mixed(carried.quality, now.quality),
        mixed(carried.quality_delta, now.quality_delta),
        # Of this stage alone, and alpha divided among stages: units stay where they are, so stages do not multiply.
        evalues.e_value(ratio - math.log(stages)),
    )


def deadline_minutes(config: RolloutConfig, evidence: Evidence) -> float:
    """When the stage must be decided, in minutes of its clock.

    Counted from the min_calls-th candidate call, since slow traffic could never finish otherwise; before it, from the
    last record of an arm that went silent, since a blind rollout must not wait for days.
    """
    span = config.deadline_factor * config.stage_minutes
    start, tick, elapsed = evidence.enough_at, config.tick_seconds / 60, evidence.elapsed_minutes
    if start is None:
        arms = (evidence.candidate, evidence.baseline)
        silent = [arm.seen_at or 0.0 for arm in arms if overdue(arm.calls, arm.seen_at, elapsed, tick)]
        start = min(silent, default=None)
    return config.cap_minutes if start is None else min(config.cap_minutes, start + span)


def _difference(candidate: float | None, baseline: float | None) -> float | None:
    return None if candidate is None or baseline is None else candidate - baseline


def _latency_sums(arm: ArmTotals) -> tuple[float, float, int]:
    return arm.latency_sum_ms, arm.latency_squares, arm.timed


def rate_in_words(fraction: float | None) -> str:
    """A rate (0-1) as findings say it."""
    return "an unknown share" if fraction is None else f"{100 * fraction:.1f} %"
