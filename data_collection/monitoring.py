"""Watch the loop: runs, experiments, datasets, disks; alert by email, Slack, webhook, file and log.

Usage:
  python monitoring.py check-all
  python monitoring.py check-dataset-quality --signature extract_requirements
  python monitoring.py dashboard --html dashboard.html
  python monitoring.py test-alert --config monitoring_config.json
  python monitoring.py doctor

A check prints its findings as JSON and tells each once: again after `repeat_hours`, when it gets worse, and when it is
resolved. What a channel could not deliver is delivered at the next check. The configuration is --config, else
MONITORING_CONFIG, else data_collection/monitoring_config.json, else the defaults.

Exit codes: 0 the checks ran (with --exit-code: and found nothing of level warning or worse); 1 with --exit-code: they
found something, test-alert: a channel failed, doctor: something is broken; 2 bad configuration, or the state is locked
or cannot be written.
"""

from __future__ import annotations

import contextlib
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.base import cli, paths
from flywheel.base.errors import NO, OK, BadInputError, DamagedError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from flywheel.ops.config import MonitoringConfig
    from flywheel.ops.delivery import Channel
    from flywheel.ops.findings import Alert, Finding
    from flywheel.ops.incidents import Scope
    from flywheel.ops.observed import Observed, Places
    from flywheel.ops.state import MonitoringState

CHECKS = {
    "check-all": ("orchestration", "ab_tests", "datasets", "system"),
    "check-orchestration": ("orchestration",),
    "check-ab-tests": ("ab_tests",),
    "check-dataset-quality": ("datasets",),
}


def places_of(args: argparse.Namespace) -> Places:
    """The folders that the command line, the environment or the defaults name."""
    from flywheel.ops.observed import Places

    return Places(
        paths.RUNS.resolve(args.output_dir),
        paths.EXPERIMENTS.resolve(args.experiments_dir),
        paths.DATASETS.resolve(args.data_dir),
    )


@contextlib.contextmanager
def state_lock(path: Path) -> Iterator[None]:
    """Keep other checks away from the state; a folder that takes no lock file is told by the failing write."""
    from flywheel.base.files import locked

    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(path.with_name(f"{path.name}.lock"), wait=False))
        yield


def read_state(path: Path, now: datetime) -> tuple[MonitoringState, str | None]:
    """The stored state, or a fresh one and why the stored one cannot be read."""
    from flywheel.ops.state import MonitoringState

    if not path.exists():
        return MonitoringState(now), None
    try:
        return MonitoringState.read(path), None
    except (BadInputError, DamagedError) as error:
        return MonitoringState(now), str(error)


def set_aside(path: Path, reason: str, now: datetime) -> Finding:
    """Keep the unreadable state file as *.damaged, and tell it."""
    from flywheel.ops.findings import CRITICAL, Finding

    kept = path.with_name(f"{path.name}.damaged")
    with contextlib.suppress(OSError):
        path.replace(kept)
    return Finding(
        "system", "state_damaged", str(path), CRITICAL, "Unreadable State",
        "The monitoring state could not be read; it was started afresh, so alerts may be told twice",
        now, f"look at {kept}; nothing else is needed", {"path": str(path), "reason": reason}, event=True,
    )  # fmt: skip


def unwritable(path: Path, error: OSError, now: datetime) -> Finding:
    """The state cannot be kept, so every check will tell everything again."""
    from flywheel.ops.findings import CRITICAL, Finding

    return Finding(
        "system", "state_unwritable", str(path), CRITICAL, "Monitoring State Not Writable",
        f"{path} cannot be written ({error.strerror}): alerts will be repeated at every check",
        now, f"ls -ld {path.parent} {path}", {"path": str(path)},
    )  # fmt: skip


def examine(
    observed: Observed, config: MonitoringConfig, scope: Scope, now: datetime, since: datetime
) -> list[Finding]:
    """The findings within the scope, worst first, free of secrets."""
    from flywheel.ops.checks import check_all
    from flywheel.ops.scrub import Scrubber

    scrubber = Scrubber(config.secret_values())
    found = check_all(observed, config, now, since)
    return [scrubber.finding(finding) for finding in found if scope.covers(finding.area, finding.subject)]


def tell(state: MonitoringState, alerts: list[Alert], channels: Sequence[Channel], path: Path) -> dict[str, str]:
    """Record the alerts, then deliver them; why each channel failed that did.

    What is to be delivered is on disk before the first attempt, so that a killed check loses nothing.

    Raises:
        BadInputError: the state cannot be written; the alerts went out all the same, with that among them.
    """
    from flywheel.ops.delivery import deliver, enqueue
    from flywheel.ops.incidents import alert_of

    waited = any(state.pending.values())
    state.remember(alerts)
    state.pending = enqueue(state.pending, alerts, channels)
    try:
        state.write(path)
        failures = deliver(state.pending, channels)
        if alerts or failures or waited:
            state.write(path)
    except OSError as error:
        now = state.last_check or state.watched_since
        more = alert_of(unwritable(path, error, now), now, now)
        deliver(enqueue(state.pending, [more], channels), channels)
        msg = f"{path}: cannot be written: {error.strerror}"
        raise BadInputError(msg) from error
    return failures


def check(args: argparse.Namespace) -> int:
    """Run the checks and tell what is new."""
    from flywheel.base.clock import now as clock_now
    from flywheel.ops.config import load_config
    from flywheel.ops.delivery import open_channels
    from flywheel.ops.findings import WARNING, severity
    from flywheel.ops.incidents import Scope, plan
    from flywheel.ops.observed import observe

    config = load_config(args.config)
    scope = Scope(frozenset(CHECKS[args.command]), getattr(args, "signature", None))
    path, now = paths.MONITORING_STATE.resolve(args.state), clock_now()
    with state_lock(path):
        state, damage = read_state(path, now)
        findings = [set_aside(path, damage, now)] if damage is not None else []
        findings += examine(observe(places_of(args)), config, scope, now, state.watched_since)
        repeat = timedelta(hours=config.repeat_hours)
        state.incidents, alerts = plan(state.incidents, findings, scope, now, repeat)
        state.last_check = now
        failures = tell(state, alerts, open_channels(config, paths.ALERTS.resolve(args.alert_dir)), path)
    report(findings, alerts, failures, now)
    return NO if args.exit_code and any(severity(f.level) >= severity(WARNING) for f in findings) else OK


def report(findings: Sequence[Finding], alerts: Sequence[Alert], failures: dict[str, str], now: datetime) -> None:
    """Print what was found, and say which channels failed."""
    from flywheel.base.clock import iso
    from flywheel.base.files import to_json
    from flywheel.ops.incidents import alert_of

    for name, reason in failures.items():
        cli.say(f"alert channel {name} failed, its alerts wait for the next check: {reason}")
    body = {
        "timestamp": iso(now),
        "findings": [alert_of(finding, finding.since, now).to_dict() for finding in findings],
        "told": len(alerts),
        "failed_channels": failures,
    }
    cli.emit(to_json(body).rstrip())


def dashboard(args: argparse.Namespace) -> int:
    """Print the state of everything as JSON, or write it as a page; nothing else changes and nobody is alerted."""
    from flywheel.base.clock import now as clock_now
    from flywheel.base.files import to_json
    from flywheel.ops.config import load_config
    from flywheel.ops.dashboard import dashboard_of
    from flywheel.ops.observed import observe

    config, now = load_config(args.config), clock_now()
    state, damage = read_state(paths.MONITORING_STATE.resolve(args.state), now)
    observed = observe(places_of(args))
    for reason in (*(item.reason for item in observed.damage), *([damage] if damage is not None else ())):
        cli.say(f"cannot be read: {reason}")
    if args.html is None:
        cli.emit(to_json(dashboard_of(observed, state, config, now)).rstrip())
    else:
        write_page(Path(args.html), observed, state, config, now)
    return OK


def write_page(path: Path, observed: Observed, state: MonitoringState, config: MonitoringConfig, now: datetime) -> None:
    """The dashboard as one page in `path`; BadInputError when it cannot be written."""
    from flywheel.base.files import write_atomic
    from flywheel.ops.incidents import Scope
    from flywheel.ops.page import render_page

    everything = Scope(frozenset(CHECKS["check-all"]))
    findings = examine(observed, config, everything, now, state.watched_since)
    try:
        write_atomic(path, render_page(observed, state, findings, config, now))
    except OSError as error:
        msg = f"{path}: cannot be written: {error.strerror}"
        raise BadInputError(msg) from error
    cli.say(f"page: {path}")


def metrics(args: argparse.Namespace) -> int:
    """Print the figures in Prometheus' text format; nothing is changed and nobody is alerted."""
    from flywheel.base.clock import now as clock_now
    from flywheel.ops.config import load_config
    from flywheel.ops.incidents import Scope
    from flywheel.ops.observed import observe
    from flywheel.ops.prometheus import metrics_text

    config, now = load_config(args.config), clock_now()
    state, _ = read_state(paths.MONITORING_STATE.resolve(args.state), now)
    observed = observe(places_of(args))
    findings = examine(observed, config, Scope(frozenset(CHECKS["check-all"])), now, state.watched_since)
    cli.emit(metrics_text(observed, findings, config, now).rstrip())
    return OK


def test_alert(args: argparse.Namespace) -> int:
    """Send one alert through every enabled channel, whatever its level."""
    from flywheel.base.clock import iso
    from flywheel.base.clock import now as clock_now
    from flywheel.base.files import to_json
    from flywheel.ops.config import load_config
    from flywheel.ops.delivery import deliver, open_channels
    from flywheel.ops.findings import INFO, Alert

    channels = open_channels(load_config(args.config), paths.ALERTS.resolve(args.alert_dir))
    message = "If you read this, alerts reach you here. Nothing is wrong."
    alert = Alert(INFO, "Test Alert", message, iso(clock_now()), {"sent_by": "monitoring.py test-alert"}, INFO)
    failures = deliver({channel.name: [alert] for channel in channels}, channels)
    results: dict[str, Any] = {channel.name: failures.get(channel.name, "ok") for channel in channels}
    cli.emit(to_json(results).rstrip())
    return NO if failures or not channels else OK


def doctor(args: argparse.Namespace) -> int:
    """Check machine, folders, model and cron; say what is wrong and the command that mends it. Changes nothing."""
    from flywheel.learning.choice import choose_model
    from flywheel.ops.doctor import Model, Subject, tell

    def ask() -> None:
        from flywheel.learning.preflight import check_model

        check_model(choose_model())

    model = Model(choose_model, None if args.skip_model else ask)
    subject = Subject(places_of(args), paths.MONITORING_STATE.resolve(args.state), args.config, model)
    return tell(subject, as_json=args.json)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__ or "")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    helps = ("every check", "only the optimization runs", "only the experiments", "only the datasets")
    for name, text in zip(CHECKS, helps, strict=True):
        sub = _command(commands, name, check, text)
        sub.add_argument("--exit-code", action="store_true", help="exit 1 when something is at least a warning")
        _add_alerting(sub)
        if name == "check-dataset-quality":
            sub.add_argument("--signature", metavar="NAME", help="only this signature's datasets")
    _command(commands, "dashboard", dashboard).add_argument("--html", metavar="FILE", help="write one page, no JSON")
    _command(commands, "metrics", metrics)
    _add_alerting(_command(commands, "test-alert", test_alert))
    sub = _command(commands, "doctor", doctor)
    sub.add_argument("--skip-model", action="store_true", help="do not ask the model; the call is paid like any other")
    sub.add_argument("--json", action="store_true", help="JSON on stdout instead of a table")
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    function: Callable[[argparse.Namespace], int],
    text: str | None = None,
) -> argparse.ArgumentParser:
    about = (function.__doc__ or "").strip().splitlines()[0]
    sub = commands.add_parser(
        name, help=text or about, description=about, formatter_class=cli.HelpFormatter, allow_abbrev=False
    )
    sub.set_defaults(function=function)
    sub.add_argument("--config", metavar="FILE", help="the configuration (environment: MONITORING_CONFIG)")
    cli.add_place(sub, "--output-dir", paths.RUNS)
    cli.add_place(sub, "--experiments-dir", paths.EXPERIMENTS)
    cli.add_place(sub, "--data-dir", paths.DATASETS)
    cli.add_place(sub, "--state", paths.MONITORING_STATE)
    return sub


def _add_alerting(sub: argparse.ArgumentParser) -> None:
    cli.add_place(sub, "--alert-dir", paths.ALERTS)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring for exit codes."""
    args = build_parser().parse_args(argv)
    function: Callable[[argparse.Namespace], int] = args.function
    return function(args)


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
