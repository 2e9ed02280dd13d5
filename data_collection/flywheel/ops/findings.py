"""What a check has found, and the alert that is told of it."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flywheel.base.clock import iso
from flywheel.base.paths import PROJECT_ROOT
from flywheel.base.text import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

INFO, WARNING, ERROR, CRITICAL = "info", "warning", "error", "critical"
LEVELS = (INFO, WARNING, ERROR, CRITICAL)
# Where an action's commands are to be run.
RUN_IN = PROJECT_ROOT / "data_collection"
_COMMAND = re.compile(r"(?:python|crontab|du|jq|ls|mv|tail|touch) |\./")


def severity(level: str) -> int:
    """0 for info to 3 for critical; ValueError for anything else."""
    return LEVELS.index(level)


@dataclass(frozen=True)
class Finding:
    """What is wrong (or worth knowing), how bad, since when, and what to do.

    `action` is steps parted by "; ", each a command to be copied (run in RUN_IN) or a few words.

    `check` and `subject` say which condition it is, so that the same one is told once. An event (a rollback, a
    deployment) happened at a moment: it is told once and never resolved; a condition lasts until it is gone.
    """

    area: str
    check: str
    subject: str
    level: str
    title: str
    message: str
    since: datetime
    action: str
    facts: dict[str, Any] = field(default_factory=dict)
    event: bool = False

    @property
    def fingerprint(self) -> str:
        """The same for the same condition of the same thing, whatever its figures are today."""
        identity = json.dumps([self.area, self.check, self.subject])
        return hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:16]

    @property
    def details(self) -> dict[str, Any]:
        """The figures, since when, and what to do where."""
        return {**self.facts, "since": iso(self.since), "action": self.action, "run_in": str(RUN_IN)}


def steps(action: str) -> list[tuple[str, bool]]:
    """The steps of an action, and whether each is a command."""
    return [(step, _COMMAND.match(step) is not None) for step in action.split("; ")]


@dataclass(frozen=True)
class Alert:
    """What goes out. `route_level` chooses the channels: a resolved notice follows the alert that it ends."""

    level: str
    title: str
    message: str
    timestamp: str
    details: dict[str, Any]
    route_level: str

    def to_dict(self) -> dict[str, Any]:
        """The alert as files, logs and webhooks have it."""
        return {
            "level": self.level,
            "title": self.title,
            "message": self.message,
            "timestamp": self.timestamp,
            "details": self.details,
        }


def subject(alerts: Sequence[Alert]) -> str:
    """`[ERROR] Orchestration Run Failures (and 2 more)`, on one line."""
    worst = max(alerts, key=lambda alert: severity(alert.level))
    more = f" (and {len(alerts) - 1} more)" if len(alerts) > 1 else ""
    return one_line(f"[{worst.level.upper()}] {worst.title}{more}")
