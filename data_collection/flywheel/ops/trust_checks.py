"""Checks over whether a live experiment's evidence can be trusted, and over candidates that its guard took out.

The rollout itself holds on each of these; the finding is for whoever can mend the cause.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from flywheel.base.text import one_line
from flywheel.ops.fields import Fields
from flywheel.ops.findings import WARNING, Finding
from flywheel.ops.observed import AB_TESTS
from flywheel.ops.rollout_checks import LIVE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from flywheel.ops.config import MonitoringConfig
    from flywheel.ops.observed import ExperimentFacts

WITHDRAWN = "arm_withdrawn"
# A stage begins without records; that is nothing yet.
PATIENCE_MINUTES = 10
# Code: title, what it means, what to look for.
DOUBTS = {
    "sample_ratio_mismatch": (
        "A/B Test Sample Ratio Mismatch",
        "the variants are not drawn with the shares they are routed by",
        "look for calls or users of one variant that leave no record, or a service with an old routing file",
    ),
    "multiple_exposures": (
        "A/B Test Units Meet Several Variants",
        "units meet more than one variant at one share",
        "look for services with different routing files, or unit ids that are not the ones routed by",
    ),
    "clock_went_back": (
        "A/B Test Clock Jumped",
        "a clock showed less than at the look before, so nothing was read",
        "look at the machine's time service",
    ),
    "metrics_missing": (
        "A/B Test Metrics Missing",
        "records are missing, stale or unusable",
        "look whether the service writes records, and where the monitor reads them",
    ),
}


def check_trust(experiments: Sequence[ExperimentFacts], config: MonitoringConfig, now: datetime) -> Iterator[Finding]:
    """Every finding about the evidence of live experiments, and about candidates withdrawn lately."""
    for experiment in experiments:
        if experiment.status in LIVE:
            yield from doubts(experiment)
        yield from withdrawals(experiment, config, now)


def doubts(experiment: ExperimentFacts) -> Iterator[Finding]:
    """A warning for each thing that keeps the last look from trusting what it saw."""
    minutes = experiment.figures.get("elapsed_minutes", 0)
    young = not isinstance(minutes, int | float) or minutes < PATIENCE_MINUTES
    for code, (title, meaning, advice) in DOUBTS.items():
        if code not in experiment.reasons or (code == "metrics_missing" and young):
            continue
        name = experiment.experiment_id
        yield Finding(
            AB_TESTS, code, name, WARNING, title,
            f"Experiment {name} holds at {experiment.share:g}%: {meaning}",
            experiment.looked or experiment.created,
            f"{advice}; python ab_testing_framework.py status --experiment-id {name}",
            _details(experiment),
        )  # fmt: skip


def withdrawals(experiment: ExperimentFacts, config: MonitoringConfig, now: datetime) -> Iterator[Finding]:
    """A warning for each candidate that the rule took out of an experiment with several lately; events, told once."""
    name = experiment.experiment_id
    lines = [line for line in experiment.history if line.get("event") == WITHDRAWN and line.get("by") == "rule"]
    for line in lines:
        at = Fields(line, f"{name}: history").moment("at")
        if now - at > timedelta(days=config.event_days):
            continue
        reason = one_line(str(line.get("reason")), 300)
        yield Finding(
            AB_TESTS, WITHDRAWN, f"{name}/{at:%Y%m%dT%H%M%S}", WARNING,
            "A/B Test Candidate Withdrawn", f"Experiment {name} goes on without {reason}", at,
            f"python ab_testing_framework.py status --experiment-id {name}",
            {**_details(experiment), "reason": reason}, event=True,
        )  # fmt: skip


def _details(experiment: ExperimentFacts) -> dict[str, Any]:
    return {
        "experiment_id": experiment.experiment_id,
        "signature": experiment.signature,
        "status": experiment.status,
        "stage": experiment.stage,
        "traffic_percent": experiment.share,
        "decision": experiment.decision and one_line(experiment.decision, 300),
    }
