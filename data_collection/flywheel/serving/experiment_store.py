"""Experiments on disk: `experiment_<id>.json`, the tick logs, and the routing file that follows them.

Every change of a record happens under the folder's lock. Where traffic leaves a candidate the routing file is written
first; where it goes to one, the record: a process that dies in between leaves the candidate less traffic, never more.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flywheel.base.errors import BadInputError, DamagedError
from flywheel.base.files import locked, read_json_object, write_json
from flywheel.base.paths import private_folder
from flywheel.serving import tick_log
from flywheel.serving.experiments import LIVE, NEVER_SERVED, ROLLED_BACK, Experiment, check_id
from flywheel.serving.routing import FILE_NAME
from flywheel.serving.routing_file import read_routing, update_routing, write_routing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from flywheel.serving.routing import Route
    from flywheel.serving.stage_clock import Moment

PREFIX = "experiment_"
SUFFIX = ".json"


class ExperimentStore:
    """The folder of experiments (AB_EXPERIMENTS_DIR), made when missing.

    Raises:
        BadInputError: the folder is a link, somebody else's or not writable.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = private_folder(folder, shared=True)
        self.routing_path = folder / FILE_NAME

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder's lock, which every change of a record needs."""
        with locked(self.folder / ".experiments.lock"):
            yield

    def path(self, experiment_id: str) -> Path:
        """The record's file.

        Raises:
            BadInputError: the id is none.
        """
        return self.folder / f"{PREFIX}{check_id(experiment_id)}{SUFFIX}"

    def tick_log(self, experiment_id: str) -> Path:
        """The file with one line a look."""
        return self.folder / f"ticks_{check_id(experiment_id)}.jsonl"

    def ids(self) -> list[str]:
        """The ids that have a record, readable or not."""
        names = (path.name for path in self.folder.glob(f"{PREFIX}*{SUFFIX}"))
        return sorted(name.removeprefix(PREFIX).removesuffix(SUFFIX) for name in names)

    def read(self, experiment_id: str) -> Experiment:
        """The experiment.

        Raises:
            BadInputError: no such experiment, a bad id, or a link in the record's place.
            DamagedError: its record cannot be used.
        """
        path = self.path(experiment_id)
        if path.is_symlink():
            msg = f"{path}: is a link; a record is a file of its own"
            raise BadInputError(msg)
        if not path.exists():
            msg = f"no experiment {experiment_id!r} in {self.folder}; `list` shows those there are"
            raise BadInputError(msg)
        found = Experiment.from_object(read_json_object(path, "an experiment's record"), str(path))
        if found.id != experiment_id:
            msg = f"{path}: the record of {found.id!r}"
            raise DamagedError(msg)
        return found

    def all(self) -> tuple[list[Experiment], dict[str, str]]:
        """Every experiment that can be read, and of the others what is wrong."""
        found, problems = [], {}
        for experiment_id in self.ids():
            try:
                found.append(self.read(experiment_id))
            except (BadInputError, DamagedError) as error:
                problems[experiment_id] = str(error)
        return found, problems

    def save(self, experiment: Experiment) -> Experiment:
        """Write the record; the caller holds the lock.

        Raises:
            BadInputError: it cannot be written; the old one stays.
        """
        saved = replace(experiment, revision=experiment.revision + 1)
        path = self.path(experiment.id)
        try:
            write_json(path, saved.to_object())
        except OSError as error:
            msg = f"{path}: cannot be written: {error.strerror}"
            raise BadInputError(msg) from error
        return saved

    def log_tick(self, experiment_id: str, line: dict[str, Any]) -> None:
        """Append a look to the tick log, whose old looks are thinned out.

        Raises:
            BadInputError: it cannot be written.
        """
        path = self.tick_log(experiment_id)
        try:
            tick_log.append(path, line)
        except OSError as error:
            msg = f"{path}: cannot be written: {error.strerror}"
            raise BadInputError(msg) from error

    def ticks(self, experiment_id: str) -> list[dict[str, Any]]:
        """The looks that the tick log has, oldest first; a line torn by a crash is left out."""
        return tick_log.read(self.tick_log(experiment_id))

    def route(self, experiment: Experiment) -> Route | None:
        """The experiment's route as routers see it; None when another experiment or nobody has the signature.

        Raises:
            DamagedError: the routing file cannot be read.
        """
        routes = read_routing(self.routing_path).routes
        return next((route for route in routes if route.experiment_id == experiment.id), None)

    def put_route(self, experiment: Experiment, now: Moment) -> None:
        """Make the experiment's route the signature's only one.

        Raises:
            BadInputError: the routing file cannot be written; the old one stays.
            DamagedError: it cannot be read.
        """
        route = experiment.route()

        def change(routes: tuple[Route, ...]) -> list[Route]:
            return [*(other for other in routes if other.signature != route.signature), route]

        try:
            update_routing(self.routing_path, change, now.date)
        except OSError as error:
            msg = f"{self.routing_path}: cannot be written: {error.strerror}"
            raise BadInputError(msg) from error

    def lower(self, change: Callable[[Route], Route], now: Moment) -> None:
        """Take traffic from candidates by `change`, whatever state the routing file is in.

        A missing or damaged file is rebuilt from the records, with no candidate of a live experiment in it: routers
        have been without it. A file that cannot be written is removed: routers then serve the deployed programs.
        """
        try:
            if self.routing_path.exists():
                with contextlib.suppress(DamagedError):
                    routes = read_routing(self.routing_path).routes
                    if all(change(route) == route for route in routes):
                        return
                    update_routing(self.routing_path, lambda routes: [change(route) for route in routes], now.date)
                    return
            write_routing(self.routing_path, [off(change(route)) for route in self._routes_of_records()], now.date)
        except (OSError, DamagedError):
            self.routing_path.unlink(missing_ok=True)

    def _routes_of_records(self) -> tuple[Route, ...]:
        """A route for each signature, that of its latest experiment that began."""
        experiments, _ = self.all()
        began = (item for item in experiments if item.status not in NEVER_SERVED)
        latest = {item.signature: item for item in sorted(began, key=lambda item: item.started_ms)}
        return tuple(item.route() for item in latest.values())


def off(route: Route) -> Route:
    """The route with its baseline serving everything, if an experiment was live on it."""
    return replace(route, status=ROLLED_BACK, arms=()).settled() if route.status in LIVE else route
