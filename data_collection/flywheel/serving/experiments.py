"""The experiment record: everything known of one rollout, in one JSON file that a restart continues from.

A record is frozen; what happens to it makes a new one (`transitions`, `watch`), and `experiment_store` keeps it.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Self

from flywheel.base.errors import BadInputError, DamagedError
from flywheel.serving.bucketing import PER_PERCENT
from flywheel.serving.candidates import Candidate
from flywheel.serving.migration import SCHEMA_VERSION, upgraded
from flywheel.serving.record_checks import check_candidates, check_shares, check_types
from flywheel.serving.routing import WITHDRAWN, Arm, Buckets, Route, check_buckets
from flywheel.serving.settings import PrometheusSettings, config_from, config_object, prometheus_from
from flywheel.serving.stage_clock import StageClock
from flywheel.serving.stage_latencies import StageLatencies

if TYPE_CHECKING:
    from flywheel.serving.rule import RolloutConfig

PENDING = "pending"
RUNNING = "running"
PAUSED = "paused"
COMPLETED = "completed"
ROLLED_BACK = "rolled_back"
FAILED = "failed"
LIVE = frozenset({PENDING, RUNNING, PAUSED})
TERMINAL = frozenset({COMPLETED, ROLLED_BACK, FAILED})
# For all that the record knows, no route of it was ever written.
NEVER_SERVED = frozenset({PENDING, FAILED})
EVIDENCE_RULE = "evidence"
POINT_RULE = "point"
RULES = (EVIDENCE_RULE, POINT_RULE)
_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class Experiment:
    """One rollout.

    `stage` counts from 1; `candidate_traffic_percent` is what the route has. `started_ms` and `stage_ms` are
    milliseconds since the epoch: records from before are no evidence. `warmup_ms` are baseline latencies until the
    cut-offs are frozen, `checkpoint` how far telemetry has been read. `previous_version` is the stored program that was
    deployed before a completion. `decision` is the last look's, `history` what changed, oldest first; every look's
    figures stand in the tick log beside the record. `candidates` are those that take traffic, or took it to the end;
    `ended` says of the others why they don't, and `withdrawn` are the buckets of those that went during this stage.
    `shadow` is the report of the replay before the start. `prometheus` is where metrics come from, None for interaction
    records; `latencies` are the stage's, for percentiles. `revision` grows with every write.
    """

    id: str
    signature: str
    status: str
    created_at: str
    stage: int
    candidate_traffic_percent: float
    rollback_reason: str | None
    rollback_at: str | None
    pause_reason: str | None
    config: RolloutConfig
    rule: str
    baseline_module: str
    candidates: tuple[Candidate, ...]
    previous_version: str | None
    salt: str
    started_ms: int
    stage_ms: int
    clock: StageClock
    warmup_ms: tuple[float, ...]
    checkpoint: dict[str, Any] | None
    decision: dict[str, Any] | None
    history: tuple[dict[str, Any], ...]
    ended: tuple[dict[str, Any], ...] = ()
    withdrawn: Buckets = ()
    shadow: dict[str, Any] | None = None
    prometheus: PrometheusSettings | None = None
    latencies: StageLatencies = field(default_factory=StageLatencies)
    revision: int = 0

    @property
    def candidate_module(self) -> str:
        """The first candidate's program: the only one, or the winner's in the end."""
        return self.candidates[0].module

    @property
    def shared(self) -> bool:
        """Whether candidates have buckets of their own, as where there are, or were, several."""
        return bool(self.candidates[0].buckets)

    @property
    def live(self) -> bool:
        """Whether it may still change by itself."""
        return self.status in LIVE

    @property
    def at_holdback(self) -> bool:
        """Whether it has reached the stage that keeps a last share on the baseline."""
        return self.live and self.config.stages[self.stage - 1] == self.config.holdback_stage

    def config_of(self, candidate: Candidate) -> RolloutConfig:
        """The rule's constants for one candidate: with its own part of alpha."""
        return replace(self.config, alpha=candidate.alpha)

    def route(self) -> Route:
        """The route that its state stands for; a completed one's candidate is the new baseline."""
        done = self.status == COMPLETED
        arms = tuple(item.arm() for item in self.candidates) if self.shared and not done else ()
        if arms and self.withdrawn:
            width = sum(high - low for low, high in self.withdrawn)
            arms += (Arm(WITHDRAWN, self.baseline_module, width / PER_PERCENT, self.withdrawn),)
        return Route(
            experiment_id=self.id,
            signature=self.signature,
            baseline_module=self.candidate_module if done else self.baseline_module,
            candidate_module=self.candidate_module,
            candidate_traffic_percent=arms[0].traffic_percent if arms else self.candidate_traffic_percent,
            status=self.status,
            salt=self.salt,
            arms=arms,
        ).settled()

    def noted(self, at: str, event: str, reason: str, *, by: str = "operator", **changes: Any) -> Experiment:
        """The experiment with `changes` and a line of history that says what happened, why and by whom."""
        changed = replace(self, **changes)
        line = {
            "at": at,
            "event": event,
            "by": by,
            "reason": reason,
            "stage": changed.stage,
            "candidate_traffic_percent": changed.candidate_traffic_percent,
            "figures": None if changed.decision is None else changed.decision["figures"],
        }
        if changed.shared and changed.live:
            line["shares"] = {item.variant: item.width / PER_PERCENT for item in changed.candidates}
        return replace(changed, history=(*changed.history, line))

    def to_object(self) -> dict[str, Any]:
        """The record as the file has it."""
        value = {item.name: getattr(self, item.name) for item in fields(self)}
        return {
            "schema_version": SCHEMA_VERSION,
            **value,
            "experiment_id": self.id,
            "final_status": self.status if self.status in TERMINAL else None,
            "config": config_object(self.config),
            "clock": self.clock.to_object(),
            "candidate_module": self.candidate_module,
            "candidates": [item.to_object() for item in self.candidates],
            "withdrawn": [list(pair) for pair in self.withdrawn],
            "prometheus": None if self.prometheus is None else asdict(self.prometheus),
            "latencies": self.latencies.to_object(),
        }

    @classmethod
    def from_object(cls, value: dict[str, Any], source: str) -> Self:
        """The experiment in a decoded record, also in one of an earlier version.

        Raises:
            DamagedError: a newer schema, keys missing or unknown, or values that cannot be.
        """
        try:
            return cls._read(upgraded(value))
        except (ValueError, TypeError, OverflowError, BadInputError, DamagedError) as error:
            msg = f"{source}: not an experiment that can be used: {error}"
            raise DamagedError(msg) from error

    @classmethod
    def _read(cls, value: dict[str, Any]) -> Self:
        expected = {item.name for item in fields(cls)} | _DERIVED
        if value.keys() != expected:
            msg = f"keys missing {sorted(expected - value.keys())}, unknown {sorted(value.keys() - expected)}"
            raise ValueError(msg)
        body = {item.name: value[item.name] for item in fields(cls)}
        check_types(body)
        body["config"] = config_from(body["config"])
        body["clock"] = _clock_from(body["clock"])
        body["candidates"] = tuple(Candidate.from_object(item) for item in body["candidates"])
        body["withdrawn"] = tuple(tuple(pair) for pair in body["withdrawn"])
        body["prometheus"] = None if body["prometheus"] is None else prometheus_from(body["prometheus"])
        body["latencies"] = StageLatencies.from_object(body["latencies"])
        body |= {name: tuple(body[name]) for name in ("warmup_ms", "history", "ended")}
        found = cls(**body)
        _check_sense(found, value)
        return found


_DERIVED = frozenset({"schema_version", "experiment_id", "final_status", "candidate_module"})


def _check_sense(found: Experiment, value: dict[str, Any]) -> None:
    check_id(found.id)
    check_candidates(found, value)
    final = found.status if found.status in TERMINAL else None
    if value["experiment_id"] != found.id or value["final_status"] != final:
        msg = f"experiment_id {value['experiment_id']!r} or final_status {value['final_status']!r} contradict the rest"
        raise ValueError(msg)
    if found.rule not in RULES or not 1 <= found.stage <= len(found.config.stages):
        msg = f"rule {found.rule!r} or stage {found.stage}"
        raise ValueError(msg)
    if found.live:
        check_shares(found)
    if found.decision is not None and not isinstance(found.decision.get("figures"), dict):
        msg = f"decision without figures: {found.decision!r}"
        raise ValueError(msg)
    check_buckets(found.withdrawn)
    found.route()


def _clock_from(value: dict[str, Any]) -> StageClock:
    clock = StageClock(**value)
    numbers = (clock.minutes, clock.wall_ms, clock.monotonic_s)
    if not all(type(number) in {int, float} and math.isfinite(number) for number in numbers):
        msg = f"clock: {value!r}"
        raise ValueError(msg)
    return clock


def check_id(experiment_id: str) -> str:
    """The id, if it is one: it becomes part of file names.

    Raises:
        BadInputError: it is none.
    """
    if not _ID.fullmatch(experiment_id):
        msg = f"experiment id {experiment_id!r}: expected 1-64 of a-z 0-9 _ -, the first a letter or digit"
        raise BadInputError(msg)
    return experiment_id
