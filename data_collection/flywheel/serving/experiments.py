"""The experiment record: everything known of one rollout, in one JSON file that a restart continues from.

A record is frozen; what happens to it makes a new one (`transitions`, `watch`), and `experiment_store` keeps it.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Self

from flywheel.base.errors import BadInputError, DamagedError
from flywheel.serving.evidence import Evidence
from flywheel.serving.routing import Route
from flywheel.serving.settings import PrometheusSettings, config_from, config_object, prometheus_from
from flywheel.serving.stage_clock import StageClock
from flywheel.serving.stage_latencies import StageLatencies

if TYPE_CHECKING:
    from flywheel.serving.rule import RolloutConfig

SCHEMA_VERSION = 1
PENDING = "pending"
RUNNING = "running"
PAUSED = "paused"
COMPLETED = "completed"
ROLLED_BACK = "rolled_back"
FAILED = "failed"
LIVE = frozenset({PENDING, RUNNING, PAUSED})
TERMINAL = frozenset({COMPLETED, ROLLED_BACK, FAILED})
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
    figures stand in the tick log beside the record. `prometheus` is where metrics come from, None for interaction
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
    candidate_module: str
    previous_version: str | None
    salt: str
    started_ms: int
    stage_ms: int
    clock: StageClock
    evidence: Evidence
    warmup_ms: tuple[float, ...]
    checkpoint: dict[str, Any] | None
    decision: dict[str, Any] | None
    history: tuple[dict[str, Any], ...]
    prometheus: PrometheusSettings | None = None
    latencies: StageLatencies = field(default_factory=StageLatencies)
    revision: int = 0

    @property
    def live(self) -> bool:
        """Whether it may still change by itself."""
        return self.status in LIVE

    def route(self) -> Route:
        """The route that its state stands for; a completed one's candidate is the new baseline."""
        done = self.status == COMPLETED
        return Route(
            experiment_id=self.id,
            signature=self.signature,
            baseline_module=self.candidate_module if done else self.baseline_module,
            candidate_module=self.candidate_module,
            candidate_traffic_percent=self.candidate_traffic_percent,
            status=self.status,
            salt=self.salt,
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
            "evidence": self.evidence.to_object(),
            "prometheus": None if self.prometheus is None else asdict(self.prometheus),
            "latencies": self.latencies.to_object(),
        }

    @classmethod
    def from_object(cls, value: dict[str, Any], source: str) -> Self:
        """The experiment in a decoded record.

        Raises:
            DamagedError: a newer schema, keys missing or unknown, or values that cannot be.
        """
        try:
            return cls._read(value)
        except (ValueError, TypeError, OverflowError, BadInputError, DamagedError) as error:
            msg = f"{source}: not an experiment that can be used: {error}"
            raise DamagedError(msg) from error

    @classmethod
    def _read(cls, value: dict[str, Any]) -> Self:
        if value.get("schema_version") != SCHEMA_VERSION:
            msg = f"schema version {value.get('schema_version')!r}, this reader knows {SCHEMA_VERSION}"
            raise ValueError(msg)
        expected = {item.name for item in fields(cls)} | {"schema_version", "experiment_id", "final_status"}
        if value.keys() != expected:
            msg = f"keys missing {sorted(expected - value.keys())}, unknown {sorted(value.keys() - expected)}"
            raise ValueError(msg)
        body = {item.name: value[item.name] for item in fields(cls)}
        _check_types(body)
        body["config"] = config_from(body["config"])
        body["clock"] = _clock_from(body["clock"])
        body["evidence"] = Evidence.from_object(body["evidence"])
        body["prometheus"] = None if body["prometheus"] is None else prometheus_from(body["prometheus"])
        body["latencies"] = StageLatencies.from_object(body["latencies"])
        body["warmup_ms"], body["history"] = tuple(body["warmup_ms"]), tuple(body["history"])
        found = cls(**body)
        _check_sense(found, value)
        return found


_OPTIONAL_TEXT = (str, type(None))
_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("id", "signature", "status", "created_at", "rule", "baseline_module", "candidate_module"), (str,)),
    **dict.fromkeys(("rollback_reason", "rollback_at", "pause_reason", "previous_version"), _OPTIONAL_TEXT),
    **dict.fromkeys(("stage", "started_ms", "stage_ms", "revision"), (int,)),
    **dict.fromkeys(("config", "clock", "evidence", "latencies"), (dict,)),
    **dict.fromkeys(("checkpoint", "decision", "prometheus"), (dict, type(None))),
    **dict.fromkeys(("warmup_ms", "history"), (list,)),
    "candidate_traffic_percent": (int, float),
    "salt": (str,),
}


def _check_types(body: dict[str, Any]) -> None:
    for name, types in _TYPES.items():
        if type(body[name]) not in types:
            msg = f"{name}: {body[name]!r}"
            raise ValueError(msg)
    for number in body["warmup_ms"]:
        if type(number) not in {int, float} or not math.isfinite(number):
            msg = f"warmup_ms: {number!r}"
            raise ValueError(msg)
    for line in body["history"]:
        if not isinstance(line, dict):
            msg = f"history: {line!r}"
            raise ValueError(msg)  # noqa: TRY004 - one error for every wrong value of the format


def _check_sense(found: Experiment, value: dict[str, Any]) -> None:
    check_id(found.id)
    final = found.status if found.status in TERMINAL else None
    if value["experiment_id"] != found.id or value["final_status"] != final:
        msg = f"experiment_id {value['experiment_id']!r} or final_status {value['final_status']!r} contradict the rest"
        raise ValueError(msg)
    if found.rule not in RULES or not 1 <= found.stage <= len(found.config.stages):
        msg = f"rule {found.rule!r} or stage {found.stage}"
        raise ValueError(msg)
    if found.live and found.evidence.stage != found.stage - 1:
        msg = f"stage {found.stage} has evidence of stage {found.evidence.stage + 1}"
        raise ValueError(msg)
    if found.live and found.candidate_traffic_percent != found.config.stages[found.stage - 1]:
        msg = f"stage {found.stage} with {found.candidate_traffic_percent!r} percent"
        raise ValueError(msg)
    if found.decision is not None and not isinstance(found.decision.get("figures"), dict):
        msg = f"decision without figures: {found.decision!r}"
        raise ValueError(msg)
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
