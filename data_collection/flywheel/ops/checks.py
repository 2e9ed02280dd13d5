"""All checks, as pure functions of what was observed, the configuration and the time."""

from __future__ import annotations

import shlex
from datetime import timedelta
from typing import TYPE_CHECKING

from flywheel.base.text import one_line
from flywheel.ops.dataset_checks import check_datasets
from flywheel.ops.drift_checks import check_drift
from flywheel.ops.findings import CRITICAL, WARNING, Finding, severity
from flywheel.ops.model_checks import check_models
from flywheel.ops.observed import SYSTEM
from flywheel.ops.orchestration_checks import check_orchestration, finished
from flywheel.ops.rollout_checks import check_ab_tests
from flywheel.ops.scrub import Scrubber
from flywheel.ops.spend import check_spend
from flywheel.ops.trend_checks import check_trends
from flywheel.ops.trust_checks import check_trust
from flywheel.ops.variant_checks import check_variants

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from flywheel.ops.config import MonitoringConfig
    from flywheel.ops.incidents import Scope
    from flywheel.ops.observed import Damage, DiskFacts, Observed, UndeliveredFacts


def check_all(observed: Observed, config: MonitoringConfig, now: datetime, watched_since: datetime) -> list[Finding]:
    """Every finding, worst first; `watched_since` is when monitoring first looked."""
    found = [
        *check_orchestration(observed.runs, config, now, watched_since),
        *check_spend(observed, config, now),
        *check_trends(finished(observed.runs, config, now), observed.versions(), config),
        *check_ab_tests(observed.experiments, config, now),
        *check_trust(observed.experiments, config, now),
        *check_variants(observed.experiments, config, now),
        *check_datasets(observed.versions(), config, now),
        *check_drift(observed.changes, config),
        *check_models(observed.canaries, config, now),
        *check_disks(observed.disks, config, now),
        *check_channels(observed.undelivered, config, now),
        *check_damage(observed.damage, now),
    ]
    return sorted(found, key=lambda finding: -severity(finding.level))


def examine(
    observed: Observed, config: MonitoringConfig, scope: Scope, now: datetime, since: datetime
) -> list[Finding]:
    """The findings within the scope, worst first, free of secrets."""
    scrubber = Scrubber(config.secret_values())
    found = check_all(observed, config, now, since)
    return [scrubber.finding(finding) for finding in found if scope.covers(finding.area, finding.subject)]


def check_damage(damage: Sequence[Damage], now: datetime) -> Iterator[Finding]:
    """A critical finding for every state file that cannot be read."""
    for item in damage:
        yield Finding(
            item.area, "unreadable", item.path, CRITICAL,
            "Unreadable State",
            f"{item.path} cannot be read: what depends on it is not checked",
            now,
            f"mv {shlex.quote(item.path)} {shlex.quote(item.path)}.damaged; then restore it from a backup",
            {"path": item.path, "reason": one_line(item.reason, 300)},
        )  # fmt: skip


def check_channels(
    undelivered: Sequence[UndeliveredFacts], config: MonitoringConfig, now: datetime
) -> Iterator[Finding]:
    """A warning, which the other channels tell, for one that has taken nothing for hours."""
    for waiting in undelivered:
        if now - waiting.since >= timedelta(hours=config.channel_silent_hours):
            yield Finding(
                SYSTEM, "channel_silent", waiting.channel, WARNING, "Alerts Undelivered",
                f"Channel {waiting.channel} does not take its alerts; {waiting.alerts} wait", waiting.since,
                "python monitoring.py test-alert", {"channel": waiting.channel, "waiting": waiting.alerts},
            )  # fmt: skip


def check_disks(disks: Sequence[DiskFacts], config: MonitoringConfig, now: datetime) -> Iterator[Finding]:
    """A warning for a nearly full disk; critical when it is full or a folder cannot be written."""
    for disk in disks:
        facts = {"path": disk.path, "used_percent": disk.used_percent, "free_gb": disk.free_gb}
        if not disk.writable:
            yield Finding(
                SYSTEM, "not_writable", disk.path, CRITICAL,
                "Folder Not Writable", f"{disk.path} cannot be written by this user", now,
                f"ls -ld {shlex.quote(disk.path)}; give it to the user that runs the jobs", facts,
            )  # fmt: skip
        if disk.used_percent >= config.disk_usage_warning_percent:
            full = disk.used_percent >= config.disk_usage_critical_percent
            yield Finding(
                SYSTEM, "disk", disk.path, CRITICAL if full else WARNING,
                "Disk Full" if full else "Disk Nearly Full",
                f"{disk.path}: {disk.used_percent:g}% used, {disk.free_gb:g} GB free", now,
                f"du -sh {shlex.quote(disk.path)}/*; ./cron_cleanup.sh --dry-run", facts,
            )  # fmt: skip
