"""Everything as it is now, for those who look: the page, the terminal, Prometheus. Looking changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from flywheel.base.clock import now as clock_now
from flywheel.ops.checks import examine
from flywheel.ops.incidents import Scope
from flywheel.ops.observed import AREAS
from flywheel.ops.reading import observe
from flywheel.ops.state_file import read_state

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from flywheel.ops.config import MonitoringConfig
    from flywheel.ops.findings import Finding
    from flywheel.ops.observed import Observed, Places
    from flywheel.ops.state import MonitoringState

EVERYTHING = Scope(frozenset(AREAS))


@dataclass(frozen=True)
class View:
    """What there is, what the checks find in it (worst first), and what has been told."""

    observed: Observed
    state: MonitoringState
    findings: Sequence[Finding]
    config: MonitoringConfig
    now: datetime


def look(places: Places, state_path: Path, config: MonitoringConfig) -> View:
    """Read and check everything, now."""
    now = clock_now()
    state, _ = read_state(state_path, now)
    observed = observe(places, timedelta(days=config.drift_window_days))
    observed = replace(observed, undelivered=state.undelivered())
    return View(observed, state, examine(observed, config, EVERYTHING, now, state.watched_since), config, now)
