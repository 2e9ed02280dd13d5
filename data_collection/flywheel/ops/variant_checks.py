"""Checks over what each variant of a live experiment does to its callers: errors and slow calls.

These are limits for an operator's eye, over figures of the present stage. Whether a candidate is *worse than its
baseline* is decided with evidence by the rollout itself; here both variants may be bad together.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from flywheel.ops.findings import WARNING, Finding
from flywheel.ops.observed import AB_TESTS
from flywheel.ops.rollout_checks import LIVE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from flywheel.ops.config import MonitoringConfig
    from flywheel.ops.observed import ExperimentFacts

VARIANTS = ("candidate", "baseline")
# E-values grow without end; what is larger is no figure of ours.
MOST = 1e300


def figure(experiment: ExperimentFacts, key: str) -> float | None:
    """A figure of the last look; None where the experiment has no such figure (yet)."""
    value = experiment.figures.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) >= MOST:
        return None
    return float(value)


def check_variants(
    experiments: Sequence[ExperimentFacts], config: MonitoringConfig, now: datetime
) -> Iterator[Finding]:
    """Every finding about the variants of live experiments that have had `variant_min_calls` calls in this stage."""
    for experiment in experiments:
        if experiment.status not in LIVE:
            continue
        for number, (name, found) in enumerate(candidates(experiment)):
            yield from _check(found, name, config, now, baseline=number == 0)


def candidates(experiment: ExperimentFacts) -> list[tuple[str, ExperimentFacts]]:
    """Each candidate's name, and the experiment as that one's figures tell it; most experiments have one."""
    several = [(name, replace(experiment, figures=figures)) for name, figures in experiment.arms.items()]
    return several or [(VARIANTS[0], experiment)]


def _check(
    experiment: ExperimentFacts, name: str, config: MonitoringConfig, now: datetime, *, baseline: bool
) -> Iterator[Finding]:
    """The findings about one candidate, called `name`, and where asked for about the baseline that all share."""
    seen = [arm for arm in VARIANTS if (figure(experiment, f"{arm}_calls") or 0) >= config.variant_min_calls]
    for variant in (arm for arm in seen if baseline or arm == VARIANTS[0]):
        told = name if variant == VARIANTS[0] else variant
        yield from error_rate(experiment, variant, told, config, now)
        yield from slow_calls(experiment, variant, told, config, now)
    if len(seen) == len(VARIANTS):
        yield from slower_tail(experiment, name, config, now)


def error_rate(
    experiment: ExperimentFacts, variant: str, name: str, config: MonitoringConfig, now: datetime
) -> Iterator[Finding]:
    """A warning for a variant that fails too often."""
    rate = figure(experiment, f"error_rate_{variant}")
    if rate is None or rate <= config.variant_error_rate_threshold:
        return
    message = f"{100 * rate:.1f}% of the {name}'s calls fail"
    yield _finding(experiment, "variant_errors", name, "Variant Error Rate High", message, now)


def slow_calls(
    experiment: ExperimentFacts, variant: str, name: str, config: MonitoringConfig, now: datetime
) -> Iterator[Finding]:
    """A warning for a variant whose 95th percentile passes the limit, where one is set."""
    p95, limit = figure(experiment, f"latency_ms_p95_{variant}"), config.variant_latency_p95_ms
    if p95 is None or limit is None or p95 <= limit:
        return
    message = f"One in twenty of the {name}'s calls takes {p95:.0f} ms or more (limit {limit:g})"
    yield _finding(experiment, "variant_latency", name, "Variant Latency High", message, now)


def slower_tail(experiment: ExperimentFacts, name: str, config: MonitoringConfig, now: datetime) -> Iterator[Finding]:
    """A warning for a candidate whose 95th percentile is a multiple of the baseline's: means hide that."""
    ours, theirs = (figure(experiment, f"latency_ms_p95_{variant}") for variant in VARIANTS)
    if ours is None or not theirs or ours <= config.variant_latency_p95_ratio * theirs:
        return
    message = f"The {name}'s 95th percentile is {ours:.0f} ms, {ours / theirs:.1f} times the baseline's"
    yield _finding(experiment, "variant_tail", name, "Candidate Latency Tail", message, now)


def _finding(experiment: ExperimentFacts, check: str, variant: str, title: str, message: str, now: datetime) -> Finding:
    name = experiment.experiment_id
    return Finding(
        AB_TESTS, check, f"{name}/{variant}", WARNING, title, f"Experiment {name}: {message}", now,
        f"python ab_testing_framework.py status --experiment-id {name}; then rollback if callers suffer",
        {
            "experiment_id": name,
            "signature": experiment.signature,
            "variant": variant,
            "stage": experiment.stage,
            "calls": {arm: experiment.figures.get(f"{arm}_calls") for arm in VARIANTS},
            "error_rate": {arm: experiment.figures.get(f"error_rate_{arm}") for arm in VARIANTS},
            "latency_p95_ms": {arm: experiment.figures.get(f"latency_ms_p95_{arm}") for arm in VARIANTS},
        },
    )  # fmt: skip
