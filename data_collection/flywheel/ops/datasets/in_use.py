"""Which stored programs something serves: deployed, in a live experiment, or named by the routing file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from flywheel.base.programs import deployed_program

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flywheel.serving.routing import Route

_WHOLE = 100


def modules_in_use(programs: Path, experiments: Path, signature: str) -> set[Path]:
    """The signature's modules that serve, or may before the next decision; their files, links resolved.

    Raises:
        DamagedError: an experiment or the routing file cannot be read: it may name any of them.
    """
    deployed = deployed_program(programs, signature)
    return {*([deployed] if deployed is not None else []), *_named(experiments, signature)}


def _named(experiments: Path, signature: str) -> Iterator[Path]:
    from flywheel.serving.experiment_store import ExperimentStore
    from flywheel.serving.routing_file import read_routing

    if not experiments.is_dir():
        return
    store = ExperimentStore(experiments)
    for experiment in map(store.read, store.ids()):
        if experiment.live and experiment.signature == signature:
            route = experiment.route()
            yield from (Path(module).resolve() for module in (route.baseline_module, *_modules(route)))
    for route in read_routing(store.routing_path).routes:
        if route.signature == signature:
            yield from (Path(module).resolve() for module in _serving(route))


def _modules(route: Route) -> list[str]:
    return [candidate.module for candidate in route.candidates()]


def _serving(route: Route) -> Iterator[str]:
    """Whom services that follow the route call: an ended experiment's stays until another takes the signature."""
    taken = [candidate for candidate in route.candidates() if candidate.traffic_percent > 0]
    yield from (candidate.module for candidate in taken)
    if sum(candidate.traffic_percent for candidate in taken) < _WHOLE:
        yield route.baseline_module
