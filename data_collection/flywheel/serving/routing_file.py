"""Reading and writing routing_config.json: whole or not at all, one writer at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flywheel.base.clock import iso
from flywheel.base.errors import DamagedError
from flywheel.base.files import PRIVATE_FILE, locked, to_json, write_atomic
from flywheel.base.paths import shared_group
from flywheel.serving.decoding import decode
from flywheel.serving.routing import Routing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime
    from pathlib import Path

    from flywheel.serving.routing import Route

SHARED_FILE = 0o660
LOCK_NAME = ".routing.lock"


def read_routing(path: Path) -> Routing:
    """The routing in `path`; without a file, one with no routes and generation 0.

    Raises:
        DamagedError: the file, or any of its routes, cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return Routing(0, "")
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror}"
        raise DamagedError(msg) from error
    routing = decode(content, str(path))
    if routing.broken:
        msg = f"{path}: unreadable route: {routing.broken[0].problem}"
        raise DamagedError(msg)
    return routing


def write_routing(path: Path, routes: Iterable[Route], moment: datetime) -> Routing:
    """Replace all routes, whatever the file holds now, even a damaged one; what was written.

    The way back from damage: the caller rebuilds the routes from its experiments. Shares are written as the status
    means them.

    Raises:
        DamagedError: two routes of one signature.
        OSError: it cannot be written; the old file stays.
    """
    with locked(path.with_name(LOCK_NAME)):
        return _replace(path, tuple(routes), _last_generation(path), moment)


def update_routing(path: Path, change: Callable[[tuple[Route, ...]], Iterable[Route]], moment: datetime) -> Routing:
    """Replace the routes by what `change` makes of them, under the lock, so that no writer's update is lost.

    Raises:
        DamagedError: the present file cannot be read (`write_routing` replaces it), or two routes of one signature.
        OSError: it cannot be written; the old file stays.
    """
    with locked(path.with_name(LOCK_NAME)):
        present = read_routing(path)
        return _replace(path, tuple(change(present.routes)), present.generation, moment)


def _last_generation(path: Path) -> int:
    try:
        return decode(path.read_bytes(), str(path)).generation
    except (OSError, DamagedError):
        # A new generation starts from the clock, which is past any that was written.
        return 0


def _replace(path: Path, routes: tuple[Route, ...], last: int, moment: datetime) -> Routing:
    signatures = [route.signature for route in routes]
    if len(set(signatures)) < len(signatures):
        msg = f"{path}: two routes for one signature: {', '.join(sorted(signatures))}"
        raise DamagedError(msg)
    generation = max(last + 1, int(moment.timestamp() * 1000))
    routing = Routing(generation, iso(moment), tuple(route.settled() for route in routes))
    mode = PRIVATE_FILE if shared_group() is None else SHARED_FILE
    write_atomic(path, to_json(routing.to_object()), mode)
    return routing
