""".monitoring_state.json: what has been told, what is still to be delivered. Deleting it is harmless."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from flywheel.base.clock import iso
from flywheel.base.errors import DamagedError
from flywheel.base.files import read_json_object, write_json
from flywheel.ops.fields import Fields
from flywheel.ops.findings import LEVELS, Alert
from flywheel.ops.incidents import Incident
from flywheel.ops.observed import UndeliveredFacts

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA_VERSION = 1
RECENT = 20
# A channel that is down for weeks must not grow the state without end.
MOST_PENDING = 200


@dataclass
class MonitoringState:
    """The state between two looks. `pending` holds the alerts that a channel could not deliver, oldest first."""

    watched_since: datetime
    last_check: datetime | None = None
    incidents: dict[str, Incident] = field(default_factory=dict)
    pending: dict[str, list[Alert]] = field(default_factory=dict)
    recent: list[dict[str, Any]] = field(default_factory=list)

    def remember(self, alerts: list[Alert]) -> None:
        """Keep what was told, for the dashboard."""
        told = [{"level": a.level, "title": a.title, "message": a.message, "timestamp": a.timestamp} for a in alerts]
        self.recent = (self.recent + told)[-RECENT:]

    def undelivered(self) -> tuple[UndeliveredFacts, ...]:
        """What waits for which channel."""
        return tuple(
            UndeliveredFacts(name, len(alerts), min(datetime.fromisoformat(alert.timestamp) for alert in alerts))
            for name, alerts in self.pending.items()
            if alerts
        )

    def write(self, path: Path) -> None:
        """Write it atomically, for its owner alone; OSError when it cannot be written."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(
            path,
            {
                "schema_version": SCHEMA_VERSION,
                "watched_since": iso(self.watched_since),
                "last_check": iso(self.last_check) if self.last_check is not None else None,
                "incidents": {key: _incident_row(incident) for key, incident in self.incidents.items()},
                "pending": {name: [asdict(a) for a in alerts[-MOST_PENDING:]] for name, alerts in self.pending.items()},
                "recent_alerts": self.recent,
            },
        )

    @classmethod
    def read(cls, path: Path) -> Self:
        """The state in `path`.

        Raises:
            DamagedError: it is not whole.
        """
        fields = Fields(read_json_object(path, "monitoring state"), str(path))
        if fields.count("schema_version") != SCHEMA_VERSION:
            msg = f"{path}: not of schema {SCHEMA_VERSION}"
            raise DamagedError(msg)
        pending = fields.inner("pending")
        return cls(
            fields.moment("watched_since"),
            fields.maybe_moment("last_check"),
            {key: _incident(inner) for key, inner in fields.inner("incidents").entries()},
            {name: [_alert(row, f"{path}: pending") for row in pending.rows(name)] for name in pending.names()},
            [_recent(Fields(row, f"{path}: recent_alerts")) for row in fields.rows("recent_alerts")],
        )


def _incident_row(incident: Incident) -> dict[str, Any]:
    return {**asdict(incident), "since": iso(incident.since), "told_at": iso(incident.told_at)}


def _incident(fields: Fields) -> Incident:
    return Incident(
        fields.text("area"),
        fields.text("check"),
        fields.text("subject"),
        fields.flag("event"),
        _level(fields, "level"),
        fields.text("title"),
        fields.text("message"),
        fields.moment("since"),
        fields.moment("told_at"),
    )


def _alert(row: dict[str, Any], source: str) -> Alert:
    fields = Fields(row, source)
    details = fields.inner("details")
    return Alert(
        _level(fields, "level"),
        fields.text("title"),
        fields.text("message"),
        iso(fields.moment("timestamp")),
        {key: details.raw(key) for key in details.names()},
        _level(fields, "route_level"),
    )


def _recent(fields: Fields) -> dict[str, Any]:
    return {"level": _level(fields, "level"), **{key: fields.text(key) for key in ("title", "message", "timestamp")}}


def _level(fields: Fields, key: str) -> str:
    level = fields.text(key)
    if level not in LEVELS:
        msg = f"{key}: {level!r:.40} is no level"
        raise DamagedError(msg)
    return level
