"""How experiments on disk are taken back: rollback, restore and reset, the routing file always first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flywheel.base.clock import stamp
from flywheel.base.errors import BadInputError
from flywheel.base.paths import private_folder
from flywheel.serving import transitions
from flywheel.serving.deployment import restore_deployed
from flywheel.serving.experiment_store import off
from flywheel.serving.experiments import COMPLETED, Experiment, check_id

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from flywheel.serving.experiment_store import ExperimentStore
    from flywheel.serving.stage_clock import Moment


@dataclass(frozen=True, slots=True)
class Swept:
    """What rolling back everything did: ids rolled back, and of the records that could not be, why."""

    rolled_back: tuple[str, ...]
    problems: dict[str, str]


def taken_back(store: ExperimentStore, after: Experiment, programs: Path, now: Moment) -> Experiment:
    """Write a rollback, its route first; what a holdback or a completion deployed is undone. The caller holds the lock.

    Raises:
        BadInputError: what was deployed before is gone, or a file cannot be written; its baseline serves all the same.
    """
    store.lower(lambda route: after.route() if route.experiment_id == after.id else route, now)
    try:
        restore_deployed(after, programs)
    finally:
        saved = store.save(after)
    return saved


def rollback(
    store: ExperimentStore, experiment_id: str, reason: str, programs: Path, now: Moment
) -> tuple[Experiment, bool]:
    """Everything back to the baseline, if the experiment is live; whether it was.

    Raises:
        DamagedError: its record cannot be used; its route is off all the same.
    """
    check_id(experiment_id)
    # Traffic first: whoever holds the records' lock, and however long.
    store.lower(lambda route: off(route) if route.experiment_id == experiment_id else route, now)
    with store.lock():
        before = store.read(experiment_id)
        if not before.live:
            return before, False
        return undo(store, before, reason, programs, now), True


def rollback_all(store: ExperimentStore, reason: str, programs: Path, now: Moment) -> Swept:
    """Everything of every live experiment back to its baseline, also of those whose record cannot be read."""
    # Traffic first: whoever holds the records' lock, and however long.
    store.lower(off, now)
    with store.lock():
        # Again, since that somebody may have raised a share meanwhile.
        store.lower(off, now)
        experiments, problems = store.all()
        done = []
        for experiment in experiments:
            if experiment.live:
                try:
                    taken_back(
                        store, transitions.rolled_back(experiment, reason, transitions.OPERATOR, now), programs, now
                    )
                    done.append(experiment.id)
                except BadInputError as error:
                    problems[experiment.id] = str(error)
    return Swept(tuple(done), problems)


def restore(store: ExperimentStore, experiment_id: str, reason: str, programs: Path, now: Moment) -> Experiment:
    """Undo the latest completed experiment of a signature: its baseline serves, and what was deployed is again.

    Raises:
        BadInputError: it is not completed, not the signature's latest, or what was deployed before is gone; in the last
            case its baseline serves all the same.
    """
    with store.lock():
        before = store.read(experiment_id)
        if before.status != COMPLETED:
            msg = f"{experiment_id}: is {before.status}, not completed"
            raise BadInputError(msg)
        experiments, _ = store.all()
        later = [
            other.id
            for other in experiments
            if other.signature == before.signature and other.started_ms > before.started_ms
        ]
        if later:
            msg = f"{experiment_id}: {', '.join(later)} came after it on {before.signature}"
            raise BadInputError(msg)
        return undo(store, before, reason, programs, now)


def undo(store: ExperimentStore, before: Experiment, reason: str, programs: Path, now: Moment) -> Experiment:
    """An experiment rolled back by hand, live or completed; the caller holds the lock."""
    return taken_back(store, transitions.rolled_back(before, reason, transitions.OPERATOR, now), programs, now)


def reset(store: ExperimentStore, ids: Iterable[str], now: Moment) -> list[Path]:
    """Send the experiments' traffic to their baselines and move their files to `archive/`; where each went."""
    moved = []
    with store.lock():
        chosen = set(ids)
        store.lower(lambda route: off(route) if route.experiment_id in chosen else route, now)
        for name in sorted(chosen):
            target = _archive_folder(store.folder, f"{name}_{stamp(now.date)}")
            for path in (store.path(name), store.tick_log(name)):
                if path.exists() or path.is_symlink():
                    path.rename(target / path.name)
            moved.append(target)
    return moved


def _archive_folder(folder: Path, name: str) -> Path:
    archive = private_folder(folder / "archive")
    target = archive / name
    number = 1
    while target.exists():
        number += 1
        target = archive / f"{name}_{number}"
    return private_folder(target)
