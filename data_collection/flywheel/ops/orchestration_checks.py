"""Checks over the optimization runs. Streaks are derived from the runs, so that looking changes nothing."""

from __future__ import annotations

import os
import shlex
from datetime import timedelta
from itertools import takewhile
from typing import TYPE_CHECKING

from flywheel.base.clock import iso
from flywheel.base.text import one_line
from flywheel.ops.crontab import MONTHLY, log_folder
from flywheel.ops.findings import ERROR, INFO, WARNING, Finding
from flywheel.ops.observed import ORCHESTRATION

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from flywheel.ops.config import MonitoringConfig
    from flywheel.ops.observed import RunFacts

MONTH = timedelta(days=30)
NO_REASON = "no signature could be evaluated"


def finished(runs: Sequence[RunFacts], config: MonitoringConfig, now: datetime) -> list[RunFacts]:
    """The runs that are over, oldest first: ended ones, and those that stopped without an end long ago."""
    stalled = timedelta(hours=config.run_stalled_hours)
    return [run for run in runs if run.ended is not None or now - run.begun > stalled]


def failure_streak(runs: Sequence[RunFacts]) -> list[RunFacts]:
    """The failed runs since the last successful one, newest first."""
    return list(takewhile(lambda run: not run.success, reversed(runs)))


def check_orchestration(
    runs: Sequence[RunFacts], config: MonitoringConfig, now: datetime, watched_since: datetime
) -> Iterator[Finding]:
    """Every finding about the runs."""
    over = finished(runs, config, now)
    yield from consecutive_failures(over, config)
    yield from stale_optimization(over, config, now)
    yield from missed_cycle(runs, config, now, watched_since)
    yield from deployments(over, config, now)


def consecutive_failures(over: Sequence[RunFacts], config: MonitoringConfig) -> Iterator[Finding]:
    """An error once as many runs in a row have failed as the threshold says."""
    streak = failure_streak(over)
    if len(streak) < config.orchestration_failure_threshold:
        return
    latest = streak[0]
    last_error = latest.error or ("killed before its end" if latest.ended is None else NO_REASON)
    yield Finding(
        ORCHESTRATION, "consecutive_failures", "", ERROR,
        "Orchestration Run Failures",
        f"Orchestration has failed {len(streak)} consecutive times",
        streak[-1].started,
        f"jq . {shlex.quote(latest.folder)}/orchestration_summary.json; {_tail_of_log()}",
        {"run_id": latest.run_id, "consecutive_failures": len(streak), "last_error": one_line(last_error, 500)},
    )  # fmt: skip


def _tail_of_log() -> str:
    """The command that shows what the monthly job said last."""
    return f"tail -100 {shlex.quote(str(log_folder(os.environ) / MONTHLY.log))}"


def _improved(run: RunFacts) -> bool:
    return any(facts.verdict == "deploy" for facts in run.signatures.values())


def stale_optimization(over: Sequence[RunFacts], config: MonitoringConfig, now: datetime) -> Iterator[Finding]:
    """A warning when no run has found a better program for the threshold's months."""
    if not over:
        return
    last = next((run for run in reversed(over) if _improved(run)), None)
    since = last.started if last is not None else over[0].started
    months = config.optimization_no_improvement_threshold
    if now - since < months * MONTH:
        return
    without = sum(run.started > since for run in over) if last is not None else len(over)
    yield Finding(
        ORCHESTRATION, "stale_optimization", "", WARNING,
        "Stale Optimization",
        f"No optimization has improved a signature in {months:g} months ({without} runs)",
        since,
        "python monitoring.py dashboard; collect more and newer examples (--since-days, --synthetic-target), or take "
        "another --model",
        {"last_improvement": iso(last.started) if last is not None else None, "runs_without_improvement": without},
    )  # fmt: skip


def missed_cycle(
    runs: Sequence[RunFacts], config: MonitoringConfig, now: datetime, watched_since: datetime
) -> Iterator[Finding]:
    """An error when no run began although one was due; before the first run the time counts from the first look."""
    last = runs[-1] if runs else None
    due = (last.started if last is not None else watched_since) + timedelta(
        days=config.cycle_interval_days, hours=config.cycle_grace_hours
    )
    if now <= due:
        return
    told = f"the last one is {last.run_id}" if last is not None else "there has been none"
    yield Finding(
        ORCHESTRATION, "missed_cycle", "", ERROR,
        "Optimization Cycle Missed",
        f"No optimization run since one was due on {due:%Y-%m-%d}: {told}",
        due,
        f"python monitoring.py doctor --skip-model; {_tail_of_log()}; ./cron_monthly_optimization.sh",
        {"last_run": last.run_id if last is not None else None, "due": iso(due)},
    )  # fmt: skip


def deployments(over: Sequence[RunFacts], config: MonitoringConfig, now: datetime) -> Iterator[Finding]:
    """A note for every program that a run deployed lately."""
    for run in over:
        at = run.ended or run.started
        if now - at > timedelta(days=config.event_days):
            continue
        for name, facts in run.signatures.items():
            if facts.deployed:
                yield _deployment(run, name, at)


def _deployment(run: RunFacts, name: str, at: datetime) -> Finding:
    facts = run.signatures[name]
    gain = f" ({facts.improvement_percent:+.1f}%)" if facts.improvement_percent is not None else ""
    details = {
        "run_id": run.run_id,
        "signature": name,
        "improvement_percent": facts.improvement_percent,
        "module_path": facts.module_path,
        "dataset_version": facts.dataset_version,
    }
    return Finding(
        ORCHESTRATION, "deployment", f"{run.run_id}/{name}", INFO,
        "Optimized Module Deployed", f"{name}: the program of {run.run_id} was deployed{gain}", at,
        f"nothing; {run.folder}/report.html has the evidence", details, event=True,
    )  # fmt: skip
