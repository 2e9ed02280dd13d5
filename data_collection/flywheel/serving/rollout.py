"""How experiments on disk go forward: start, looks, operators' steps, each in an order of writing safe to die in."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING

from flywheel.base.errors import BadInputError
from flywheel.serving import transitions
from flywheel.serving.arm_ticks import RecordSource
from flywheel.serving.contest import chosen, joined, withdrawn
from flywheel.serving.deployment import deploy_candidate, deployed_version
from flywheel.serving.experiments import COMPLETED, LIVE, PENDING, ROLLED_BACK, Experiment
from flywheel.serving.prometheus import PrometheusSource
from flywheel.serving.rollback import taken_back, undo
from flywheel.serving.routing import WITHDRAWN
from flywheel.serving.routing_file import read_routing
from flywheel.serving.watch import tick
from flywheel.serving.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from flywheel.serving.arm_ticks import Source
    from flywheel.serving.candidates import Candidate
    from flywheel.serving.experiment_store import ExperimentStore
    from flywheel.serving.routing import Route
    from flywheel.serving.stage_clock import Moment
    from flywheel.serving.watch import Look

NO_ROUTE = "its route is gone from routing_config.json"
ROUTE_OFF = "its route was rolled back"


def start(store: ExperimentStore, experiment: Experiment, programs: Path, now: Moment) -> Experiment:
    """Put a pending experiment to work: record, route, record, so that no traffic flows that nothing guards.

    Raises:
        BadInputError: the id is taken, or another experiment is live on the signature.
        DamagedError: the routing file cannot be read.
    """
    with store.lock():
        refuse_taken(store, experiment)
        experiment = replace(experiment, previous_version=deployed_version(programs, experiment.signature))
        experiment = store.save(experiment)
        running = transitions.started(experiment, now)
        store.put_route(running, now)
        return store.save(running)


def fail(store: ExperimentStore, experiment: Experiment, reason: str, now: Moment) -> Experiment:
    """Put a pending experiment that may not begin on record; no route is written.

    Raises:
        BadInputError: the id is taken, or another experiment is live on the signature.
    """
    with store.lock():
        refuse_taken(store, experiment)
        return store.save(transitions.failed(experiment, reason, now))


def refuse_taken(store: ExperimentStore, experiment: Experiment) -> None:
    """Refuse an id that is taken, and a signature on which another experiment is live."""
    taken = store.path(experiment.id)
    # A start that died half way may be repeated.
    if (taken.exists() or taken.is_symlink()) and store.read(experiment.id).status != PENDING:
        msg = f"experiment {experiment.id!r} exists; choose another id, or `reset` it"
        raise BadInputError(msg)
    others, _ = store.all()
    live = [item.id for item in others if item.live and item.signature == experiment.signature]
    # Of an experiment whose record is gone or damaged the route may still be there.
    routes = read_routing(store.routing_path).routes
    live += [item.experiment_id for item in routes if item.status in LIVE and item.signature == experiment.signature]
    for name in live:
        if name != experiment.id:
            msg = (
                f"{experiment.signature}: experiment {name!r} is live on it; `start --join` adds a candidate to it, "
                "`rollback` or `reset` ends it"
            )
            raise BadInputError(msg)


def join(
    store: ExperimentStore, experiment_id: str, signature: str, modules: list[str], programs: Path, now: Moment
) -> Experiment:
    """Add candidates to a live experiment.

    Raises:
        BadInputError: it is of another signature, not at work, or full.
    """

    def step(found: Experiment) -> Experiment:
        if found.signature != signature:
            msg = f"{found.id}: tries programs of {found.signature}, not of {signature}"
            raise BadInputError(msg)
        return reduce(lambda present, module: joined(present, module, now), modules, found)

    return change(store, experiment_id, step, programs, now)


def change(
    store: ExperimentStore, experiment_id: str, step: Callable[[Experiment], Experiment], programs: Path, now: Moment
) -> Experiment:
    """Take an operator's step (pause, resume, promote) on one experiment."""
    with store.lock():
        present = store.read(experiment_id)
        agreed = _agreed(store, present, now)
        if agreed is not present:
            agreed = apply(store, agreed, programs, now)
        return apply(store, step(agreed), programs, now)


def apply(store: ExperimentStore, after: Experiment, programs: Path, now: Moment) -> Experiment:
    """Write what became of an experiment that has a route; the caller holds the lock.

    Ends go to the routing file first and are taken over by the next look if the process dies before the record; a
    promotion goes to the record first, and a route that lags behind is put right by the next look.
    """
    if after.status == ROLLED_BACK:
        return taken_back(store, after, programs, now)
    if after.status == COMPLETED:
        # `deployed` after the route: were it the other way round, a death in between and a later rollback would leave
        # the candidate deployed.
        store.put_route(after, now)
        return store.save(deploy_candidate(after, programs))
    if after.withdrawn:
        store.lower(lambda route: after.route() if route.experiment_id == after.id else route, now)
    if after.at_holdback and store.read(after.id).stage != after.stage:
        # Proved like a completion. A later rollback takes it back, also where death comes before the record.
        after = deploy_candidate(after, programs)
    saved = store.save(after)
    # No route is never made anew here: somebody may be pulling the plug this very moment.
    if store.route(after) not in {None, after.route()}:
        store.put_route(after, now)
    return saved


def look(
    store: ExperimentStore, experiment_id: str, telemetry: Path, programs: Path, now: Moment
) -> tuple[Experiment, Look | None]:
    """One tick of the monitor: the experiment after it, and what the look saw (None where there was nothing to see).

    Telemetry is read without the lock, so that a rollback never waits for it; a look that was overtaken is dropped.
    """
    experiment = store.read(experiment_id)
    if experiment.status == COMPLETED:
        return _restored(store, experiment, programs, now), None
    if not experiment.live:
        return experiment, None
    seen = None if experiment.status == PENDING else tick(experiment, _source(experiment, telemetry), now)
    with store.lock():
        present = store.read(experiment_id)
        agreed = _agreed(store, present, now)
        if agreed is not present:
            return apply(store, agreed, programs, now), None
        if seen is None or present.revision != experiment.revision:
            return present, None
        after = apply(store, seen.experiment, programs, now)
    store.log_tick(experiment_id, seen.line)
    return after, seen


def _source(experiment: Experiment, telemetry: Path) -> Source:
    """Where the experiment's metrics come from."""
    if experiment.prometheus is None:
        return RecordSource(Window(telemetry, experiment.checkpoint))
    return PrometheusSource(experiment.prometheus, experiment.checkpoint)


def _agreed(store: ExperimentStore, experiment: Experiment, now: Moment) -> Experiment:
    """The experiment in agreement with what routers see: somebody may have died or pulled the plug in between."""
    route = store.route(experiment)
    by = transitions.OPERATOR
    if experiment.status == PENDING:
        return transitions.started(experiment, now) if route is not None and route.status in LIVE else experiment
    if not experiment.live or route == experiment.route():
        return experiment
    if route is None or route.status == ROLLED_BACK:
        return transitions.rolled_back(experiment, NO_ROUTE if route is None else ROUTE_OFF, by, now)
    if route.status == COMPLETED:
        winner = next(item.variant for item in experiment.candidates if item.module == route.candidate_module)
        return transitions.completed(chosen(experiment, winner, by, now), "its route was completed", by, now)
    # Promoted, paused or joined on record alone. What came under the old share is no evidence for the new one.
    off = {item.variant: ROUTE_OFF for item in experiment.candidates if _is_withdrawn(item, route)}
    return withdrawn(experiment, off, by, now) if off else replace(experiment, stage_ms=now.wall_ms)


def _is_withdrawn(candidate: Candidate, route: Route) -> bool:
    """Whether the route has the candidate's buckets among the withdrawn: somebody died before the record had it."""
    taken = [pair for arm in route.arms if arm.variant == WITHDRAWN for pair in arm.buckets]
    listed = any(arm.variant == candidate.variant for arm in route.arms)
    return not listed and any(pair in taken for pair in candidate.buckets)


def _restored(store: ExperimentStore, experiment: Experiment, programs: Path, now: Moment) -> Experiment:
    """The completed experiment; a restore that died after its route was written is brought to its end."""
    with store.lock():
        present = store.read(experiment.id)
        route = store.route(present)
        if present.status != COMPLETED or route is None or route.status != ROLLED_BACK:
            return present
        return undo(store, present, ROUTE_OFF, programs, now)
