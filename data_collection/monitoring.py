"""Watch the loop: runs, experiments, datasets, models, disks; alert by email, Slack, webhook, file and log.

Usage:
  python monitoring.py check-all
  python monitoring.py check-dataset-quality --signature extract_requirements
  python monitoring.py dashboard --watch
  python monitoring.py serve
  python monitoring.py canary
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

import shlex
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.base import cli, paths
from flywheel.base.errors import NO, OK, USAGE, BadInputError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from flywheel.ops.config import MonitoringConfig
    from flywheel.ops.delivery import Channel
    from flywheel.ops.findings import Alert, Finding
    from flywheel.ops.observed import Observed, Places
    from flywheel.ops.state import MonitoringState
    from flywheel.ops.view import View

CHECKS = {
    "check-all": ("orchestration", "ab_tests", "datasets", "models", "system"),
    "check-orchestration": ("orchestration",),
    "check-ab-tests": ("ab_tests",),
    "check-dataset-quality": ("datasets",),
    "canary": ("models",),
}


def places_of(args: argparse.Namespace) -> Places:
    """The folders that the command line, the environment or the defaults name."""
    from flywheel.ops.observed import Places

    return Places(
        paths.RUNS.resolve(args.output_dir),
        paths.EXPERIMENTS.resolve(args.experiments_dir),
        paths.DATASETS.resolve(args.data_dir),
        paths.PROGRAMS.resolve(args.programs_dir),
        paths.TELEMETRY.resolve(args.telemetry_dir),
    )


def tell(state: MonitoringState, alerts: list[Alert], channels: Sequence[Channel], path: Path) -> dict[str, str]:
    """Record the alerts, then deliver them; why each channel failed that did.

    What is to be delivered is on disk before the first attempt, so that a killed check loses nothing.

    Raises:
        BadInputError: the state cannot be written; the alerts went out all the same, with that among them.
    """
    from flywheel.ops.delivery import deliver, enqueue
    from flywheel.ops.incidents import alert_of
    from flywheel.ops.state_file import unwritable

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
    from flywheel.ops.config import load_config

    findings, body, _ = checked(args, load_config(args.config))
    return conclude(args, findings, body)


def checked(args: argparse.Namespace, config: MonitoringConfig) -> tuple[list[Finding], dict[str, Any], Observed]:
    """Look, and deliver what is to be told; the findings, the report, and what was looked at."""
    from dataclasses import replace

    from flywheel.base.clock import now as clock_now
    from flywheel.ops.checks import examine
    from flywheel.ops.delivery import open_channels
    from flywheel.ops.incidents import Scope, plan
    from flywheel.ops.reading import observe
    from flywheel.ops.state_file import read_state, set_aside, state_lock

    scope = Scope(frozenset(CHECKS[args.command]), getattr(args, "signature", None))
    path, now = paths.MONITORING_STATE.resolve(args.state), clock_now()
    with state_lock(path):
        state, damage = read_state(path, now)
        findings = [set_aside(path, damage, now)] if damage is not None else []
        window = timedelta(days=config.drift_window_days) if "datasets" in scope.areas else None
        observed = replace(observe(places_of(args), window), undelivered=state.undelivered())
        findings += examine(observed, config, scope, now, state.watched_since)
        repeat = timedelta(hours=config.repeat_hours)
        state.incidents, alerts = plan(state.incidents, findings, scope, now, repeat)
        state.last_check = now
        failures = tell(state, alerts, open_channels(config, paths.ALERTS.resolve(args.alert_dir)), path)
    return findings, report(findings, alerts, failures, now), observed


def report(
    findings: Sequence[Finding], alerts: Sequence[Alert], failures: dict[str, str], now: datetime
) -> dict[str, Any]:
    """What was found, as JSON; which channels failed is also said."""
    from flywheel.base.clock import iso
    from flywheel.ops.incidents import alert_of

    for name, reason in failures.items():
        cli.say(f"alert channel {name} failed, its alerts wait for the next check: {reason}")
    return {
        "timestamp": iso(now),
        "findings": [alert_of(finding, finding.since, now).to_dict() for finding in findings],
        "told": len(alerts),
        "failed_channels": failures,
    }


def conclude(args: argparse.Namespace, findings: Sequence[Finding], body: dict[str, Any]) -> int:
    """Print the report; the exit code."""
    from flywheel.base.files import to_json
    from flywheel.ops.findings import WARNING, severity

    cli.emit(to_json(body).rstrip())
    return NO if args.exit_code and any(severity(f.level) >= severity(WARNING) for f in findings) else OK


def canary(args: argparse.Namespace) -> int:
    """Ask every deployed program its frozen examples again, and tell when the model behind it has changed."""
    from flywheel.data.registry import all_signatures
    from flywheel.ops.config import load_config
    from flywheel.ops.trigger import start_cycle

    config, table, places = load_config(args.config), all_signatures(args.signature_file), places_of(args)
    from flywheel.learning.canary import score_deployed

    scored = score_deployed(places.programs, places.datasets, table)
    for name, reason in scored.items():
        if isinstance(reason, str):
            cli.say(f"{name}: {reason}")
    findings, body, observed = checked(args, config)
    body["canaries"] = {name: {"error": s} if isinstance(s, str) else s.told() for name, s in scored.items()}
    body["on_drift"] = start_cycle(args.on_drift, findings, observed.canaries) if args.on_drift else None
    code = conclude(args, findings, body)
    return USAGE if any(isinstance(score, str) for score in scored.values()) else code


def view_of(args: argparse.Namespace) -> View:
    """Everything as it is now."""
    from flywheel.ops.config import load_config
    from flywheel.ops.view import look

    return look(places_of(args), paths.MONITORING_STATE.resolve(args.state), load_config(args.config))


def dashboard(args: argparse.Namespace) -> int:
    """Print the state of everything as JSON, as a page, or live in the terminal; nothing changes, nobody is alerted."""
    if args.watch:
        from flywheel.ops.watch import watch

        return watch(lambda: view_of(args), args.every)
    if args.html is not None:
        from flywheel.ops.page import write_page

        write_page(Path(args.html), view_of(args))
        cli.say(f"page: {args.html}")
        return OK
    from flywheel.base.clock import now as clock_now
    from flywheel.base.files import to_json
    from flywheel.ops.config import load_config
    from flywheel.ops.dashboard import dashboard_of
    from flywheel.ops.reading import observe
    from flywheel.ops.state_file import read_state

    config, now = load_config(args.config), clock_now()
    state, damage = read_state(paths.MONITORING_STATE.resolve(args.state), now)
    observed = observe(places_of(args))
    for reason in (*(item.reason for item in observed.damage), *([damage] if damage is not None else ())):
        cli.say(f"cannot be read: {reason}")
    cli.emit(to_json(dashboard_of(observed, state, config, now)).rstrip())
    return OK


def serve(args: argparse.Namespace) -> int:
    """Show the page on this machine, refreshed by itself, until Ctrl-C or SIGTERM."""
    from flywheel.ops.server import serve_page

    view_of(args)  # a bad configuration is told now, not in the browser
    return serve_page(lambda: view_of(args), args.port, args.every)


def metrics(args: argparse.Namespace) -> int:
    """Print the figures in Prometheus' text format; nothing is changed and nobody is alerted."""
    from flywheel.ops.prometheus import metrics_text

    cli.emit(metrics_text(view_of(args)).rstrip())
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
    for name, text in zip(CHECKS, helps, strict=False):
        sub = _command(commands, name, check, text)
        _add_alerting(sub)
        if name == "check-dataset-quality":
            sub.add_argument("--signature", metavar="NAME", help="only this signature's datasets")
    sub = _command(commands, "canary", canary)
    _add_alerting(sub)
    cli.add_signature_file(sub)
    drift = "run this command when a program's model drifted, once a program (its output goes to stderr)"
    sub.add_argument("--on-drift", metavar="COMMAND", type=shlex.split, help=drift)
    sub = _command(commands, "dashboard", dashboard)
    form = sub.add_mutually_exclusive_group()
    form.add_argument("--html", metavar="FILE", help="write one page, no JSON")
    form.add_argument("--watch", action="store_true", help="live in the terminal, until Ctrl-C")
    _add_every(sub, 10)
    sub = _command(commands, "serve", serve)
    sub.add_argument("--port", type=cli.whole_number, default=8765, help="on 127.0.0.1; 0: a free one")
    _add_every(sub, 30)
    _command(commands, "metrics", metrics)
    _add_alerting(_command(commands, "test-alert", test_alert), code=False)
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
    cli.add_place(sub, "--programs-dir", paths.PROGRAMS)
    cli.add_place(sub, "--telemetry-dir", paths.TELEMETRY)
    cli.add_place(sub, "--state", paths.MONITORING_STATE)
    return sub


def _add_alerting(sub: argparse.ArgumentParser, *, code: bool = True) -> None:
    cli.add_place(sub, "--alert-dir", paths.ALERTS)
    if code:
        sub.add_argument("--exit-code", action="store_true", help="exit 1 when something is at least a warning")


def _add_every(sub: argparse.ArgumentParser, seconds: int) -> None:
    sub.add_argument("--every", type=cli.positive_int, default=seconds, metavar="SECONDS", help="between looks")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring for exit codes."""
    args = build_parser().parse_args(argv)
    function: Callable[[argparse.Namespace], int] = args.function
    return function(args)


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
