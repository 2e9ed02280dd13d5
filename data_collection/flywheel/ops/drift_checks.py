"""Checks for inputs that are no longer what they were."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flywheel.ops.drift import shifts
from flywheel.ops.exact_tests import holm
from flywheel.ops.findings import INFO, WARNING, Finding
from flywheel.ops.observed import DATASETS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flywheel.ops.config import MonitoringConfig
    from flywheel.ops.drift import Shift
    from flywheel.ops.inputs import Change

FEATURES = 3


def check_drift(changes: Sequence[Change], config: MonitoringConfig) -> Iterator[Finding]:
    """A finding where inputs moved by `drift_psi_threshold` or more, significantly at `drift_alpha` (Holm)."""
    for change in changes:
        found = shifts(change.reference, change.current, config.drift_psi_threshold)
        # What was not tested for its small PSI counts as tested: p = 1.
        untested = {f"untested {number}": 1.0 for number in range(FEATURES - len(found))}
        sure = holm({name: shift.p for name, shift in found.items()} | untested, config.drift_alpha)
        moved = {name: shift for name, shift in found.items() if name in sure}
        if moved:
            yield _production(change, moved) if change.production else _version(change, moved)


def _told(moved: dict[str, Shift]) -> str:
    return ", ".join(f"{name} (PSI {shift.psi:.2f})" for name, shift in moved.items())


def _facts(change: Change, moved: dict[str, Shift]) -> dict[str, object]:
    return {
        "signature": change.signature,
        "version": change.version,
        "compared": {"reference": len(change.reference), "current": len(change.current)},
        "shifts": {name: {"psi": round(s.psi, 3), "p_value": round(s.p, 4)} for name, s in moved.items()},
    }


def _version(change: Change, moved: dict[str, Shift]) -> Finding:
    name = change.signature
    return Finding(
        DATASETS, "dataset_drift", name, INFO, "Dataset Input Drift",
        f"What {change.version} added to {name} differs from what was there: {_told(moved)}",
        change.since, f"python dataset_manager.py list --signature {name}; is the new source what production sends?",
        _facts(change, moved),
    )  # fmt: skip


def _production(change: Change, moved: dict[str, Shift]) -> Finding:
    name = change.signature
    return Finding(
        DATASETS, "production_drift", name, WARNING, "Production Input Drift",
        f"What production sends to {name} differs from dataset {change.version}: {_told(moved)}",
        change.since, "collect from production into the dataset (telemetry); "
        "./cron_monthly_optimization.sh",
        _facts(change, moved),
    )  # fmt: skip
