"""Which ended experiments nothing needs any more, and moving them to `archive/`."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from flywheel.serving.experiments import COMPLETED
from flywheel.serving.rollback import reset
from flywheel.serving.routing_file import read_routing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from flywheel.serving.experiment_store import ExperimentStore
    from flywheel.serving.experiments import Experiment
    from flywheel.serving.stage_clock import Moment


def retire(store: ExperimentStore, days: float, now: Moment, *, dry_run: bool) -> dict[str, list[str]]:
    """Archive the experiments that ended more than `days` days ago and that nothing needs; {ids, archived: paths}.

    Records that cannot be read stay, and without a routing file all do: nobody can tell then what services follow.

    Raises:
        DamagedError: the routing file cannot be read.
    """
    if not store.routing_path.exists():
        return {"ids": [], "archived": []}
    routed = {route.experiment_id for route in read_routing(store.routing_path).routes}
    experiments, _ = store.all()
    before = now.date - timedelta(days=days)
    ids = sorted(item.id for item in retirable(experiments, routed) if (ended(item) or now.date) < before)
    # One that has ended stays ended, so that no lock is needed between the choice and the move.
    moved: Sequence[Path] = reset(store, ids, now) if ids and not dry_run else ()
    return {"ids": ids, "archived": [str(path) for path in moved]}


def retirable(experiments: Sequence[Experiment], routed: Iterable[str]) -> list[Experiment]:
    """The ended ones without a route, less each signature's latest and latest completed.

    From the latest a lost routing file is rebuilt; the latest completed says what was deployed, and what before.
    """
    needed = set(routed)
    for kind in (experiments, [item for item in experiments if item.status == COMPLETED]):
        latest = {item.signature: item.id for item in sorted(kind, key=lambda item: item.started_ms)}
        needed.update(latest.values())
    return [item for item in experiments if not item.live and item.id not in needed]


def ended(experiment: Experiment) -> datetime | None:
    """When it ended: the moment of its last change; None where the record does not tell."""
    try:
        at = datetime.fromisoformat(experiment.history[-1]["at"])
    except (IndexError, KeyError, TypeError, ValueError):
        return None
    return at if at.tzinfo is not None else None
