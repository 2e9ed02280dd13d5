"""What a production service calls to learn which module serves a request. It never raises and never waits.

    router = Router(".ab_experiments/routing_config.json", programs="optimized_modules", telemetry=recorder)
    with router.call("extract_requirements", unit_id=user, input={...}) as call:
        call.output = modules[call.choice.module](...)

Imports the standard library and mmh3, nothing else.
"""

from __future__ import annotations

import logging
import os
import stat
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from flywheel.base.errors import DamagedError
from flywheel.base.programs import deployed_program
from flywheel.base.text import one_line
from flywheel.serving.bucketing import BUCKETS, position, salted, threshold
from flywheel.serving.decoding import decode
from flywheel.serving.routing import BASELINE

if TYPE_CHECKING:
    from collections.abc import Callable

    from flywheel.serving.call import Call, Sink
    from flywheel.serving.routing import BrokenRoute, Route, Routing

LOOK_SECONDS = 1.0
LARGEST_FILE = 16 << 20
_MOST_WARNINGS = 1_000
# Two writes within one tick of the file system's clock look alike from outside: a file this young is read again.
_SETTLED_NS = 2_000_000_000

log = logging.getLogger("flywheel.router")


class Choice(NamedTuple):
    """Who serves a request.

    `module` is a path, or the router's default; `propensity` (0 .. 1) is the probability with which this variant was
    drawn. `experiment_id` is None where no draw took place (no live route, or a unit that cannot be hashed): such a
    call is no evidence.
    """

    module: str
    variant: str
    experiment_id: str | None
    propensity: float


class _Lane(NamedTuple):
    """A route made ready: choices with the buckets below which they hold, and the one for units without a bucket."""

    prefix: bytes
    ladder: tuple[tuple[int, Choice], ...]
    unhashable: Choice


def _lane(route: Route) -> _Lane:
    ranges = [(low, high, arm) for arm in route.candidates() for low, high in arm.buckets]
    taken = sum(high - low for low, high, _ in ranges)
    rest = Choice(route.baseline_module, BASELINE, route.experiment_id, (BUCKETS - taken) / BUCKETS)
    steps: list[tuple[int, Choice]] = []
    end = 0
    for low, high, arm in sorted(ranges, key=lambda item: item[0]):
        if low > end:
            steps.append((low, rest))
        propensity = threshold(arm.traffic_percent) / BUCKETS
        steps.append((high, Choice(arm.module, arm.variant, route.experiment_id, propensity)))
        end = high
    unhashable = Choice(route.baseline_module, BASELINE, None, 1.0)
    return _Lane(salted(route.salt), (*steps, (BUCKETS, rest)), unhashable)


def _baseline_lane(module: str) -> _Lane:
    choice = Choice(module, BASELINE, None, 1.0)
    return _Lane(b"", ((BUCKETS, choice),), choice)


def wall_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class Router:
    """Splits traffic as the routing file says, and follows it within `LOOK_SECONDS`; safe for any number of threads.

    A missing, unreadable or newer file means the deployed program of `programs` for everything, and `default` where
    none is deployed; an unreadable route means its baseline. Each problem is logged once. `telemetry` takes the records
    that `call` makes; `clock` counts seconds and never goes back, `now_ms` is the time of day that records bear.
    """

    def __init__(
        self,
        routing_path: str | os.PathLike[str],
        *,
        programs: str | os.PathLike[str] | None = None,
        default: str = "",
        telemetry: Sink | None = None,
        clock: Callable[[], float] = time.monotonic,
        now_ms: Callable[[], int] = wall_ms,
    ) -> None:
        self.clock = clock
        self.now_ms = now_ms
        self.telemetry = telemetry
        self._path = Path(routing_path)
        self._programs = None if programs is None else Path(programs)
        self._default = Choice(default, BASELINE, None, 1.0)
        self._lock = threading.Lock()
        self._warned: set[str] = set()
        self._seen: tuple[int, ...] | None = None
        self._lanes: dict[str, _Lane] = {}
        self._deployed: dict[str, Choice] = {}
        self._next_look = clock()
        self._look()

    def route(self, signature: str, unit_id: object) -> Choice:
        """Who serves this unit's request: the same unit meets the same variant as long as the share allows it."""
        if self.clock() >= self._next_look:
            self._look()
        lane = self._lanes.get(signature)
        if lane is None:
            return self._deployed.get(signature) or self._find_deployed(signature)
        place = position(lane.prefix, unit_id)
        if place is not None:
            for limit, choice in lane.ladder:
                if place < limit:
                    return choice
        return lane.unhashable

    def call(self, signature: str, unit_id: object, **details: Any) -> Call:
        """A context manager that measures one call and records it; `details` are those of `Call`."""
        from flywheel.serving.call import Call

        return Call(self, self.route(signature, unit_id), signature, unit_id, **details)

    def _look(self) -> None:
        """Follow the file if it has changed; a thread that finds another one looking goes on with what is known."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            # First of all: whatever goes wrong below, the next look is due a whole interval from now.
            self._next_look = self.clock() + LOOK_SECONDS
            self._deployed = {}
            self._follow()
        except OSError as error:
            self._seen = None
            self._serve_deployed(error)
        except DamagedError as error:
            self._serve_deployed(error)
        finally:
            self._lock.release()

    def _follow(self) -> None:
        status = self._path.stat()
        if _identity(status) == self._seen:
            return
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_FILE:
            msg = f"{self._path}: no regular file of at most {LARGEST_FILE} bytes"
            raise DamagedError(msg)
        with self._path.open("rb") as stream:
            status = os.fstat(stream.fileno())
            content = stream.read(LARGEST_FILE)
        self._seen = _identity(status) if time.time_ns() - status.st_mtime_ns > _SETTLED_NS else None
        self._lanes = self._compile(decode(content, str(self._path)))

    def _serve_deployed(self, error: Exception) -> None:
        self._lanes = {}
        self._warn(f"{error}; the deployed programs serve everything")

    def _compile(self, routing: Routing) -> dict[str, _Lane]:
        lanes = {route.signature: _lane(route) for route in routing.routes}
        for entry in routing.broken:
            lanes.update(self._fallback(entry))
        return lanes

    def _fallback(self, entry: BrokenRoute) -> dict[str, _Lane]:
        self._warn(f"{self._path}: unreadable route of {entry.signature}; its baseline serves: {entry.problem}")
        if entry.signature is None or entry.baseline_module is None:
            return {}
        return {entry.signature: _baseline_lane(entry.baseline_module)}

    def _find_deployed(self, signature: str) -> Choice:
        found = None
        if self._programs is not None:
            try:
                found = deployed_program(self._programs, signature)
            except (OSError, RuntimeError, ValueError) as error:
                self._warn(f"deployed program of {signature}: {error}; the default serves")
        choice = self._default if found is None else self._default._replace(module=str(found))
        self._deployed[signature] = choice
        return choice

    def _warn(self, problem: str) -> None:
        if problem not in self._warned and len(self._warned) < _MOST_WARNINGS:
            self._warned.add(problem)
            log.warning("%s", one_line(problem, 400))
