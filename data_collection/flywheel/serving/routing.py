"""routing_config.json: which module serves whom. All live experiments stand in it, one per signature.

The file is what adapters in other languages read; tests/vectors/ holds its JSON Schema and golden vectors.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

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
        if not is_text(getattr(record, name)):
            msg = f"{name} {getattr(record, name)!r}: expected text"
            raise ValueError(msg)


def is_text(value: object) -> bool:
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
        check_buckets(arm.buckets)
        if sum(high - low for low, high in arm.buckets) != threshold(arm.traffic_percent):
            msg = f"buckets {arm.buckets!r} are not {arm.traffic_percent!r} percent"
            raise ValueError(msg)
    first = route.arms[0]
    if (first.module, first.traffic_percent) != (route.candidate_module, route.candidate_traffic_percent):
        raise ValueError("arms: the first must be the route's own candidate, with its share")
    variants = [arm.variant for arm in route.arms]
    if BASELINE in variants or len(set(variants)) < len(variants):
        raise ValueError("arms: every variant needs a name of its own, other than baseline")
    taken = sorted(pair for arm in route.arms for pair in arm.buckets)
    if any(one[1] > other[0] for one, other in pairwise(taken)):
        raise ValueError("arms: a bucket belongs to two of them")


def check_buckets(buckets: Buckets) -> None:
    """Refuse (ValueError) what are no rising ranges of buckets."""
    whole = all(len(pair) == 2 and {*map(type, pair)} == {int} for pair in buckets)
    if not whole or not all(0 <= low < high <= BUCKETS for low, high in buckets) or list(buckets) != sorted(buckets):
        msg = f"buckets {buckets!r}: expected rising ranges within 0 and {BUCKETS}"
        raise ValueError(msg)
