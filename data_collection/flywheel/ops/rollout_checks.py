"""Checks over the A/B experiments."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from flywheel.base.clock import iso
from flywheel.base.text import one_line
from flywheel.ops.fields import Fields
from flywheel.ops.findings import INFO, WARNING, Finding
from flywheel.ops.observed import AB_TESTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from flywheel.ops.config import MonitoringConfig
    from flywheel.ops.observed import ExperimentFacts

SHARE = "candidate_traffic_percent"
LIVE = frozenset({"pending", "running", "paused"})
INCONCLUSIVE = "inconclusive"
BY_RULE = "rule"
_ERRORS = re.compile(r"error_rate_delta > (\d+(?:\.\d+)?)")
_LATENCY = re.compile(r"latency_delta_ms > (\d+(?:\.\d+)?)")
_QUALITY = re.compile(r"quality_score < (\d+(?:\.\d+)?)")


def automatic_reason(reason: str) -> str | None:
    """A rollback reason of the framework's own in prose; None for an operator's words."""
    if reason == "metrics_missing":
        return "Metrics missing"
    if found := _ERRORS.fullmatch(reason):
        return f"Error rate increased >{float(found[1]) * 100:g}%"
    if found := _LATENCY.fullmatch(reason):
        return f"Latency increased >{float(found[1]):g}ms"
    if found := _QUALITY.fullmatch(reason):
        return f"Quality score <{float(found[1]) * 100:g}%"
    return None


def live_first(experiments: Sequence[ExperimentFacts]) -> list[ExperimentFacts]:
    """For people: those that are live, then the others, each newest first."""
    return sorted(experiments, key=lambda item: (item.status not in LIVE, -item.created.timestamp()))


def check_ab_tests(
    experiments: Sequence[ExperimentFacts], config: MonitoringConfig, now: datetime
) -> Iterator[Finding]:
    """Every finding about the experiments."""
    for experiment in experiments:
        if experiment.status == "rolled_back" and config.ab_test_rollback_alert:
            yield from rollback(experiment, config, now)
        elif experiment.status in LIVE:
            yield from inconclusive(experiment)
            yield from long_running(experiment, config, now)
        elif experiment.status in {"completed", "failed"}:
            yield from ended(experiment, config, now)


def rollback(experiment: ExperimentFacts, config: MonitoringConfig, now: datetime) -> Iterator[Finding]:
    """A warning for a rollback of the last days; an event, told once."""
    at = experiment.rollback_at or experiment.created
    if now - at > timedelta(days=config.event_days):
        return
    reason = experiment.rollback_reason or "no reason recorded"
    prose = automatic_reason(reason)
    automatic = prose is not None or _last(experiment, "by") == BY_RULE
    name = experiment.experiment_id
    yield Finding(
        AB_TESTS, "rollback", name, WARNING,
        f"A/B Test Rolled Back: {'Auto-Rollback' if automatic else 'Manual Rollback'}",
        f"Experiment {name} was rolled back",
        at,
        f"python ab_testing_framework.py status --experiment-id {name}; all traffic is on the baseline",
        {
            "experiment_id": name,
            "signature": experiment.signature,
            "reason": prose or one_line(reason, 300),
            "final_traffic_percent": final_share(experiment),
        },
        event=True,
    )  # fmt: skip


def final_share(experiment: ExperimentFacts) -> float:
    """The candidate's share in percent when it was rolled back: the last one above 0 that the history has."""
    shares = (row[SHARE] for row in reversed(experiment.history) if SHARE in row)
    return next((share for share in shares if isinstance(share, int | float) and 0 < share <= 100), experiment.share)


def _last(experiment: ExperimentFacts, key: str) -> Any:
    """What the last line of the history has under the key; None without such a line or key."""
    return experiment.history[-1].get(key) if experiment.history else None


def changed_at(experiment: ExperimentFacts) -> datetime:
    """When the experiment last changed, by its history; its creation where that does not say."""
    return (
        Fields(experiment.history[-1], experiment.experiment_id).moment("at")
        if experiment.history
        else experiment.created
    )


def is_inconclusive(experiment: ExperimentFacts) -> bool:
    """Paused because nothing could be decided in time."""
    return experiment.status == "paused" and str(_last(experiment, "reason")).startswith(INCONCLUSIVE)


def inconclusive(experiment: ExperimentFacts) -> Iterator[Finding]:
    """A warning for an experiment that its deadline paused undecided."""
    if not is_inconclusive(experiment):
        return
    name = experiment.experiment_id
    yield Finding(
        AB_TESTS, "inconclusive", name, WARNING,
        "A/B Test Inconclusive",
        f"Experiment {name} is paused at {experiment.share:g}%: its evidence decided nothing in time",
        changed_at(experiment),
        f"python ab_testing_framework.py status --experiment-id {name}; then resume, promote or rollback",
        _facts(experiment),
    )  # fmt: skip


def long_running(experiment: ExperimentFacts, config: MonitoringConfig, now: datetime) -> Iterator[Finding]:
    """A note for an experiment that has been live for more than a week (or as configured)."""
    age = now - experiment.created
    if age <= timedelta(days=config.ab_test_long_running_days):
        return
    name = experiment.experiment_id
    yield Finding(
        AB_TESTS, "long_running", name, INFO,
        "Long-Running A/B Test",
        f"Experiment {name} has been {experiment.status} for {age.days} days",
        experiment.created,
        f"python ab_testing_framework.py status --experiment-id {name}; then promote or rollback",
        {**_facts(experiment), "days": age.days},
    )  # fmt: skip


def ended(experiment: ExperimentFacts, config: MonitoringConfig, now: datetime) -> Iterator[Finding]:
    """A note for an experiment that completed lately, a warning for one that failed; events, told once."""
    at = changed_at(experiment)
    if now - at > timedelta(days=config.event_days):
        return
    name, status = experiment.experiment_id, experiment.status
    yield Finding(
        AB_TESTS, status, name, INFO if status == "completed" else WARNING,
        f"A/B Test {status.capitalize()}", f"Experiment {name} {status}", at,
        f"python ab_testing_framework.py status --experiment-id {name}", _facts(experiment), event=True,
    )  # fmt: skip


def _facts(experiment: ExperimentFacts) -> dict[str, Any]:
    return {
        "experiment_id": experiment.experiment_id,
        "signature": experiment.signature,
        "status": experiment.status,
        "stage": experiment.stage,
        "traffic_percent": experiment.share,
        "created_at": iso(experiment.created),
    }
