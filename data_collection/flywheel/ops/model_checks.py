"""Checks over the canaries: does the model behind a deployed program still do what it did?"""

from __future__ import annotations

from datetime import datetime, timedelta
from math import fsum
from typing import TYPE_CHECKING

from flywheel.ops.exact_tests import MOST_PAIRS, drop_p
from flywheel.ops.findings import ERROR, WARNING, Finding
from flywheel.ops.observed import MODELS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flywheel.base.canaries import CanaryScore
    from flywheel.ops.config import MonitoringConfig
    from flywheel.ops.observed import CanaryFacts

DROP, SNAPSHOT = "canary_drop", "canary_snapshot"
LEAST_COVERAGE = 0.8
RUNBOOK = "python monitoring.py canary; if that repeats it, look for a new program; ./cron_monthly_optimization.sh"


def check_models(canaries: Sequence[CanaryFacts], config: MonitoringConfig, now: datetime) -> Iterator[Finding]:
    """Every finding about the canaries of deployed programs; one that was never scored is not watched."""
    for canary in canaries:
        if canary.scores:
            yield from dropped(canary, config)
            yield from other_model(canary)
            yield from unanswered(canary)
            yield from overdue(canary, config, now)


def differences(first: CanaryScore, latest: CanaryScore) -> list[float]:
    """How much less each group scores now than at first, summed over its examples that were answered both times.

    Groups, not examples, are what could as well have gone the other way: one commit's examples fall together.
    """
    both = first.answered.keys() & latest.answered.keys()
    groups: dict[str, list[float]] = {}
    for name in sorted(both):
        groups.setdefault(first.groups[name], []).append(first.answered[name] - latest.answered[name])
    return [fsum(values) for _, values in sorted(groups.items())][:MOST_PAIRS]


def dropped(canary: CanaryFacts, config: MonitoringConfig) -> Iterator[Finding]:
    """An error when the newest score is significantly below the first one on the same examples.

    The paired sign-flip test, exact, at `canary_alpha`, and a mean drop of `canary_min_drop` or more.
    """
    first, latest = canary.scores[0], canary.scores[-1]
    both = first.answered.keys() & latest.answered.keys()
    if first is latest or not both:
        return
    before, after = (fsum(score.answered[name] for name in both) / len(both) for score in (first, latest))
    p = drop_p(differences(first, latest))
    if p > config.canary_alpha or before - after < config.canary_min_drop:
        return
    yield Finding(
        MODELS, DROP, canary.signature, ERROR, "Deployed Program Degraded",
        f"{canary.signature} scores {after:.3f} on its canary examples, {before:.3f} at first",
        datetime.fromisoformat(latest.at), RUNBOOK,
        {
            **_facts(canary),
            "first_score": round(before, 4),
            "latest_score": round(after, 4),
            "examples": len(both),
            "p_value": float(f"{p:.2g}"),
        },
    )  # fmt: skip


def other_model(canary: CanaryFacts) -> Iterator[Finding]:
    """A warning when another snapshot of the model answers than at first."""
    first, latest = canary.scores[0], canary.scores[-1]
    if first.model_snapshot is None or latest.model_snapshot in {None, first.model_snapshot}:
        return
    since = next(score for score in canary.scores if score.model_snapshot == latest.model_snapshot)
    yield Finding(
        MODELS, SNAPSHOT, canary.signature, WARNING, "Model Changed",
        f"{canary.signature} is answered by {latest.model_snapshot}; its program was first seen with "
        f"{first.model_snapshot}",
        datetime.fromisoformat(since.at), RUNBOOK,
        {**_facts(canary), "first_snapshot": first.model_snapshot, "latest_snapshot": latest.model_snapshot},
    )  # fmt: skip


def unanswered(canary: CanaryFacts) -> Iterator[Finding]:
    """A warning when too few of the examples were answered for the score to say much."""
    latest = canary.scores[-1]
    if len(latest.answered) >= LEAST_COVERAGE * len(latest.scores):
        return
    yield Finding(
        MODELS, "canary_unanswered", canary.signature, WARNING, "Canary Unanswered",
        f"{canary.signature} answered {len(latest.answered)} of {len(latest.scores)} canary examples",
        datetime.fromisoformat(latest.at), "python monitoring.py canary; does it fail, or do answers no longer parse?",
        {**_facts(canary), "answered": len(latest.answered), "asked": len(latest.scores)},
    )  # fmt: skip


def overdue(canary: CanaryFacts, config: MonitoringConfig, now: datetime) -> Iterator[Finding]:
    """A warning when a canary that was once scored is no longer: its job has died."""
    last = datetime.fromisoformat(canary.scores[-1].at)
    due = last + timedelta(days=config.canary_max_age_days)
    if now <= due:
        return
    yield Finding(
        MODELS, "canary_overdue", canary.signature, WARNING, "Canary Overdue",
        f"The canary of {canary.signature} was last scored on {last:%Y-%m-%d}",
        due, "crontab -l | grep canary; python monitoring.py canary", _facts(canary),
    )  # fmt: skip


def _facts(canary: CanaryFacts) -> dict[str, object]:
    latest = canary.scores[-1]
    return {"signature": canary.signature, "program": latest.program, "model": latest.model, "scored_at": latest.at}
