"""routing_config.json: which module serves whom. All live experiments stand in it, one per signature.

The file is what adapters in other languages read; tests/vectors/ holds its JSON Schema and golden vectors.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

from flywheel.base.errors import DamagedError
from flywheel.serving.bucketing import BUCKETS, threshold

SCHEMA_VERSION = 1
FILE_NAME = "routing_config.json"
BASELINE = "baseline"
CANDIDATE = "candidate"
# Buckets of a candidate that was rolled back in mid-stage: its baseline serves them, and they are nobody's evidence.
WITHDRAWN = "withdrawn"
STATUSES = frozenset({"pending", "running", "paused", "completed", "rolled_back", "failed"})
_FULL = frozenset({"completed"})
_NONE = frozenset({"pending", "rolled_back", "failed"})


Buckets = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Arm:
    """A candidate of an experiment with several; `traffic_percent` within 0 .. 100 in steps of 0.01.

    `buckets` are its ranges of the bucket line, each from its first bucket up to and without its last, rising. They are
    written out, since arms whose shares change keep as many of their units as the new shares allow.
    """

    variant: str
    module: str
    traffic_percent: float
    buckets: Buckets


@dataclass(frozen=True, slots=True)
class Route:
    """How one signature's traffic is split.

    Where an experiment has, or had, several candidates, `arms` lists those that take traffic, and alone says who serves
    which bucket; the first repeats the route's own candidate. Buckets of no arm are the baseline's.
    """

    experiment_id: str
    signature: str
    baseline_module: str
    candidate_module: str
    candidate_traffic_percent: float
    status: str
    salt: str
    arms: tuple[Arm, ...] = ()

    def __post_init__(self) -> None:
        _check_texts(self, "experiment_id", "signature", "baseline_module", "candidate_module", "status", "salt")
        if self.status not in STATUSES:
            msg = f"status {self.status!r}: expected one of {', '.join(sorted(STATUSES))}"
            raise ValueError(msg)
        _check_share(self.candidate_traffic_percent)
        if self.arms:
            _check_arms(self)

    def candidates(self) -> tuple[Arm, ...]:
        """Who serves which buckets by the status; what is of no arm is the baseline's.

        Paused keeps the shares, rolled back (pending, failed) has none, completed gives everything to the candidate.
        """
        if self.status in _FULL:
            return (_only(self.candidate_module, 100),)
        if self.status in _NONE:
            return (_only(self.candidate_module, 0),)
        return self.arms or (_only(self.candidate_module, self.candidate_traffic_percent),)

    def settled(self) -> Route:
        """The route with the shares that its status means, as it is written for readers that look at shares alone."""
        if self.status in _FULL | _NONE:
            return replace(self, candidate_traffic_percent=self.candidates()[0].traffic_percent, arms=())
        return self

    def to_object(self) -> dict[str, Any]:
        """The route as the file has it: `arms` only where there are any."""
        value = asdict(self)
        return value if self.arms else {key: item for key, item in value.items() if key != "arms"}


@dataclass(frozen=True, slots=True)
class BrokenRoute:
    """An entry that cannot be read; its baseline serves where at least that and the signature can be."""

    signature: str | None
    baseline_module: str | None
    problem: str


@dataclass(frozen=True, slots=True)
class Routing:
    """The whole file. `generation` only ever grows, but readers follow the content, never the number."""

    generation: int
    updated_at: str
    routes: tuple[Route, ...] = ()
    broken: tuple[BrokenRoute, ...] = ()

    def to_object(self) -> dict[str, Any]:
        """The file's JSON object."""
        return {
            "schema_version": SCHEMA_VERSION,
            "generation": self.generation,
            "updated_at": self.updated_at,
            "routes": [route.to_object() for route in self.routes],
        }


def _check_texts(record: object, *names: str) -> None:
    for name in names:
        if not _is_text(getattr(record, name)):
            msg = f"{name} {getattr(record, name)!r}: expected text"
            raise ValueError(msg)


def _is_text(value: object) -> bool:
    """Non-empty text that UTF-8 can carry: JSON's escapes can smuggle in a lone surrogate."""
    return isinstance(value, str) and value != "" and not any("\ud800" <= char <= "\udfff" for char in value)


def _check_share(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        msg = f"traffic percent {value!r}: expected a number"
        raise ValueError(msg)  # noqa: TRY004 - one error for every wrong value of the format
    threshold(value)


def _only(module: str, percent: float) -> Arm:
    """The one candidate of a route without arms: from the first bucket on."""
    width = threshold(percent)
    return Arm(CANDIDATE, module, percent, ((0, width),) if width else ())


def _check_arms(route: Route) -> None:
    for arm in route.arms:
        _check_texts(arm, "variant", "module")
        _check_share(arm.traffic_percent)
        _check_buckets(arm)
    first = route.arms[0]
    if (first.module, first.traffic_percent) != (route.candidate_module, route.candidate_traffic_percent):
        raise ValueError("arms: the first must be the route's own candidate, with its share")
    variants = [arm.variant for arm in route.arms]
    if BASELINE in variants or len(set(variants)) < len(variants):
        raise ValueError("arms: every variant needs a name of its own, other than baseline")
    taken = sorted(pair for arm in route.arms for pair in arm.buckets)
    if any(one[1] > other[0] for one, other in pairwise(taken)):
        raise ValueError("arms: a bucket belongs to two of them")


def _check_buckets(arm: Arm) -> None:
    whole = all(len(pair) == 2 and {*map(type, pair)} == {int} for pair in arm.buckets)
    if not whole or not all(0 <= low < high <= BUCKETS for low, high in arm.buckets):
        msg = f"buckets {arm.buckets!r}: expected ranges within 0 and {BUCKETS}"
        raise ValueError(msg)
    if sum(high - low for low, high in arm.buckets) != threshold(arm.traffic_percent):
        msg = f"buckets {arm.buckets!r} are not {arm.traffic_percent!r} percent"
        raise ValueError(msg)
    if list(arm.buckets) != sorted(arm.buckets):
        msg = f"buckets {arm.buckets!r} do not rise"
        raise ValueError(msg)


def _exact(value: object, required: frozenset[str], optional: frozenset[str] = frozenset()) -> dict[str, Any]:
    if not isinstance(value, dict):
        msg = f"expected an object, found {type(value).__name__}"
        raise ValueError(msg)  # noqa: TRY004 - one error for every wrong value of the format
    missing, unknown = required - value.keys(), value.keys() - required - optional
    if missing or unknown:
        msg = f"keys missing {sorted(missing)}, unknown {sorted(unknown)}"
        raise ValueError(msg)
    return value


_TOP = frozenset({"schema_version", "generation", "updated_at", "routes"})
_ARM = frozenset(Arm.__dataclass_fields__)
_ROUTE = frozenset(Route.__dataclass_fields__) - {"arms"}


def _route(value: object) -> Route:
    body = dict(_exact(value, _ROUTE, frozenset({"arms"})))
    arms = body.pop("arms", [])
    if not isinstance(arms, list):
        msg = f"arms: expected a list, found {type(arms).__name__}"
        raise ValueError(msg)  # noqa: TRY004 - one error for every wrong value of the format
    return Route(arms=tuple(_arm(arm) for arm in arms), **body)


def _arm(value: object) -> Arm:
    body = dict(_exact(value, _ARM))
    buckets = body.pop("buckets")
    if not isinstance(buckets, list) or not all(isinstance(pair, list) for pair in buckets):
        msg = f"buckets {buckets!r}: expected a list of pairs"
        raise ValueError(msg)
    return Arm(buckets=tuple(tuple(pair) for pair in buckets), **body)


def _broken(value: object, problem: str) -> BrokenRoute:
    found = value if isinstance(value, dict) else {}
    signature, module = found.get("signature"), found.get("baseline_module")
    return BrokenRoute(
        signature if isinstance(signature, str) and _is_text(signature) else None,
        module if isinstance(module, str) and _is_text(module) else None,
        problem,
    )


def _entries(values: list[object]) -> tuple[tuple[Route, ...], tuple[BrokenRoute, ...]]:
    routes: dict[str, Route] = {}
    broken: list[BrokenRoute] = []
    for value in values:
        try:
            route = _route(value)
        except ValueError as error:
            broken.append(_broken(value, str(error)))
            continue
        if route.signature in routes:
            broken.append(_broken(value, f"a second route for {route.signature}"))
        else:
            routes[route.signature] = route
    damaged = {entry.signature for entry in broken}
    return tuple(route for name, route in routes.items() if name not in damaged), tuple(broken)


def _top(value: object) -> dict[str, Any]:
    # The version first: a newer schema may well have other keys.
    version = value.get("schema_version") if isinstance(value, dict) else None
    if type(version) is not int or version != SCHEMA_VERSION:
        msg = f"schema version {version!r}, this reader knows {SCHEMA_VERSION}"
        raise ValueError(msg)
    body = _exact(value, _TOP)
    if type(body["generation"]) is not int or type(body["updated_at"]) is not str or type(body["routes"]) is not list:
        raise ValueError("generation, updated_at or routes of the wrong type")
    return body


def decode(content: bytes | str, source: str) -> Routing:
    """The routing in `content`; entries that cannot be read stand in `broken`, and so does a signature's second one.

    Raises:
        DamagedError: it is no routing file of this schema version.
    """
    try:
        value = _top(json.loads(content))
    except (ValueError, RecursionError) as error:
        msg = f"{source}: not a routing file: {error}"
        raise DamagedError(msg) from error
    return Routing(value["generation"], value["updated_at"], *_entries(value["routes"]))
