"""The dashboard's figures, in the shape that the system README shows."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from flywheel.base.clock import iso
from flywheel.ops.orchestration_checks import failure_streak, finished

if TYPE_CHECKING:
    from datetime import datetime

    from flywheel.ops.config import MonitoringConfig
    from flywheel.ops.observed import DatasetFacts, Observed
    from flywheel.ops.state import MonitoringState

RECENT_ALERTS = 10


def dashboard_of(observed: Observed, state: MonitoringState, config: MonitoringConfig, now: datetime) -> dict[str, Any]:
    """The dashboard as JSON; null where there is nothing yet."""
    over = finished(observed.runs, config, now)
    successes = [run for run in over if run.success]
    statuses = Counter(experiment.status for experiment in observed.experiments)
    return {
        "timestamp": iso(now),
        "orchestration": {
            "last_run": observed.runs[-1].run_id if observed.runs else None,
            "last_success": iso(successes[-1].started) if successes else None,
            "consecutive_failures": len(failure_streak(over)),
        },
        "ab_tests": {
            "active": statuses["running"] + statuses["pending"],
            "paused": statuses["paused"],
            "completed": statuses["completed"],
            "rolled_back": statuses["rolled_back"],
        },
        "datasets": {name: _dataset(versions[-1]) for name, versions in observed.versions().items()},
        "alerts": {
            "last_check": iso(state.last_check) if state.last_check is not None else None,
            "recent_alerts": state.recent[-RECENT_ALERTS:],
        },
    }


def _dataset(latest: DatasetFacts) -> dict[str, Any]:
    return {
        "version": latest.version,
        "examples": latest.examples,
        "quality": latest.quality,
        "sources": sorted(latest.sources),
    }
