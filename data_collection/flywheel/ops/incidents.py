"""Which findings are told now: once when they appear or get worse, again after `repeat_hours`, once when resolved."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from flywheel.base.clock import iso
from flywheel.base.progress import duration
from flywheel.ops.findings import INFO, Alert, severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from flywheel.ops.findings import Finding

UNREADABLE = "unreadable"
# cron's minute wanders by seconds; an hourly job must not miss its 24th hour for that.
SLACK = timedelta(minutes=5)


@dataclass(frozen=True)
class Incident:
    """A finding that has been told; `level` is the worst that was told since `told_at`'s round began."""

    area: str
    check: str
    subject: str
    event: bool
    level: str
    title: str
    message: str
    since: datetime
    told_at: datetime


@dataclass(frozen=True)
class Scope:
    """What the present command has checked: areas, and of the datasets perhaps one signature only."""

    areas: frozenset[str]
    subject: str | None = None

    def covers(self, area: str, subject: str) -> bool:
        """Was this thing looked at? What concerns a file concerns the folder that it is in."""
        return area in self.areas and (self.subject in {None, subject} or f"/{self.subject}/" in subject)


def plan(
    known: Mapping[str, Incident], findings: Iterable[Finding], scope: Scope, now: datetime, repeat: timedelta
) -> tuple[dict[str, Incident], list[Alert]]:
    """The incidents after this look, and what is to be told of them.

    What was not looked at stays as it was; where a state file cannot be read, nothing counts as resolved.
    """
    found = {finding.fingerprint: finding for finding in findings}
    blind = {finding.area for finding in found.values() if finding.check == UNREADABLE}
    overtaken = {(finding.area, finding.subject) for finding in found.values() if finding.event}
    after: dict[str, Incident] = {}
    alerts: list[Alert] = []
    for fingerprint, finding in found.items():
        incident = known.get(fingerprint)
        told = _is_due(incident, finding, now, repeat)
        after[fingerprint] = _incident(incident, finding, now, told=told)
        if told:
            alerts.append(alert_of(finding, after[fingerprint].since, now))
    for fingerprint, incident in known.items():
        if fingerprint in found:
            continue
        if not scope.covers(incident.area, incident.subject) or (
            incident.area in blind and incident.check != UNREADABLE
        ):
            after[fingerprint] = incident
        elif not incident.event and not _goes_without_saying(incident, overtaken):
            alerts.append(resolved(incident, now))
    return after, alerts


def _goes_without_saying(incident: Incident, overtaken: set[tuple[str, str]]) -> bool:
    """A rollback says enough: that its experiment, or a variant of it, is no longer slow or long-running is no news."""
    return not overtaken.isdisjoint(
        {(incident.area, incident.subject), (incident.area, incident.subject.split("/")[0])}
    )


def _is_due(incident: Incident | None, finding: Finding, now: datetime, repeat: timedelta) -> bool:
    if incident is None or severity(finding.level) > severity(incident.level):
        return True
    # A clock that went back must not silence an alert until it has caught up.
    return not finding.event and not timedelta(0) <= now - incident.told_at < repeat - min(SLACK, repeat / 10)


def _incident(incident: Incident | None, finding: Finding, now: datetime, *, told: bool) -> Incident:
    since = finding.since if incident is None else min(finding.since, incident.since)
    if incident is not None and not told:
        return replace(incident, message=finding.message, since=since)
    return Incident(
        finding.area, finding.check, finding.subject, finding.event, finding.level, finding.title, finding.message,
        since, now,
    )  # fmt: skip


def alert_of(finding: Finding, since: datetime, now: datetime) -> Alert:
    """The alert that tells a finding."""
    details = {**finding.details, "since": iso(since)}
    return Alert(finding.level, finding.title, finding.message, iso(now), details, finding.level)


def resolved(incident: Incident, now: datetime) -> Alert:
    """The notice that an incident is over; it goes where its alert went."""
    lasted = duration(max(0.0, (now - incident.since).total_seconds()))
    details = {"resolved": incident.title, "subject": incident.subject, "since": iso(incident.since)}
    message = f"No longer so, after {lasted}: {incident.message}"
    return Alert(INFO, f"Resolved: {incident.title}", message, iso(now), details, incident.level)
