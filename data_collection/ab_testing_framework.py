"""Gradual rollout of a candidate program against its baseline, rolled back on evidence of harm.

Usage:
  python ab_testing_framework.py start --signature extract_requirements --experiment-id extract_reqs_v1
                                       --baseline reviewer_baseline.json --candidate reviewer_optimized_v1.json
  python ab_testing_framework.py monitor --experiment-id extract_reqs_v1 --daemon
  python ab_testing_framework.py status --experiment-id extract_reqs_v1
  python ab_testing_framework.py rollback --experiment-id extract_reqs_v1 --reason "High error rate"
  python ab_testing_framework.py rollback --all --reason "Emergency"

The experiments folder holds a record of each experiment and routing_config.json, which production services follow
within a second. The interaction records that they write are the evidence.

Exit codes: 0 done, also when there was nothing to roll back and at any end of a daemon's experiment; 2 bad input,
damaged state, or another monitor at work; 143 terminated.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flywheel.base import cli, paths
from flywheel.base.errors import OK, BadInputError, DamagedError
from flywheel.base.text import one_line

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from flywheel.serving.experiment_store import ExperimentStore
    from flywheel.serving.experiments import Experiment
    from flywheel.serving.stage_clock import Moment

    Command = Callable[[argparse.Namespace, "Setting"], int]

RULES = ("evidence", "point")
METRICS = ("records", "prometheus")


@dataclass(frozen=True)
class Setting:
    """Where a command works, and its clock."""

    store: ExperimentStore
    telemetry: Path
    programs: Path
    now: Callable[[], Moment]


def start(args: argparse.Namespace, setting: Setting) -> int:
    """Begin a rollout at its first stage."""
    from flywheel.serving import rollout, transitions
    from flywheel.serving.access import problems
    from flywheel.serving.inputs import read_config

    modules = (module_path(args.baseline, args.signature), module_path(args.candidate, args.signature))
    config, source = read_config(args.config, args.metrics, args.prometheus_url)
    now = setting.now()
    experiment = transitions.pending(args.experiment_id, args.signature, modules, config, args.rule, now)
    if source is None:
        paths.private_folder(setting.telemetry, shared=True)
    running = rollout.start(setting.store, replace(experiment, prometheus=source), setting.programs, now)
    for problem in problems(setting.store.folder, setting.telemetry if source is None else None):
        cli.say(f"warning: {problem.what}; mend it: {problem.fix}")
    return show(running)


def module_path(text: str, signature: str) -> str:
    """The module's absolute path; of one that is no program of ours it is said that its signature is unknown."""
    from flywheel.serving.inputs import find_module

    path, ours = find_module(text, signature)
    if not ours:
        cli.say(f"warning: {path} is no program of ours; its signature cannot be checked")
    return str(path)


def monitor(args: argparse.Namespace, setting: Setting) -> int:
    """Look at the evidence once and act on it, or again and again until the experiment ends."""
    from flywheel.base.signals import EXIT_CODE, TerminatedError, sigterm_raises
    from flywheel.serving.monitor_lock import monitoring
    from flywheel.serving.summary import slowed

    for warning in slowed(setting.store.read(args.experiment_id).config, args.interval):
        cli.say(f"warning: {warning}")
    try:
        with sigterm_raises(), monitoring(setting.store.folder, args.experiment_id):
            watch = keep_watch if args.daemon else look_once
            return show(watch(args.experiment_id, setting, args.interval))
    except TerminatedError:
        cli.say(f"{args.experiment_id}: terminated; the share stays, and a new monitor goes on from here")
        return EXIT_CODE


def look_once(experiment_id: str, setting: Setting, _interval: float | None = None) -> Experiment:
    """One look; what it decided is said."""
    from flywheel.serving.rollout import look

    after, seen = look(setting.store, experiment_id, setting.telemetry, setting.programs, setting.now())
    if seen is None:
        cli.say(f"{experiment_id}: {after.status}, {after.candidate_traffic_percent:g} %")
    else:
        cli.say(f"{experiment_id}: {after.candidate_traffic_percent:g} %: {seen.line['action']}: {seen.line['text']}")
    return after


def keep_watch(experiment_id: str, setting: Setting, interval: float | None) -> Experiment:
    """Look until the experiment ends; trouble with state or disk is said and holds."""
    while True:
        seconds = interval
        try:
            experiment = look_once(experiment_id, setting)
            if not experiment.live:
                return experiment
            seconds = experiment.config.tick_seconds if interval is None else interval
        except (BadInputError, DamagedError) as error:
            if not setting.store.path(experiment_id).exists():
                raise
            cli.say(f"{experiment_id}: hold: {error}")
        time.sleep(60 if seconds is None else seconds)


def stop(args: argparse.Namespace, setting: Setting) -> int:
    """End the experiment's monitor; the candidate keeps its share."""
    from flywheel.serving.monitor_lock import end_monitor

    ended = end_monitor(setting.store.folder, args.experiment_id, args.timeout)
    cli.say(f"{args.experiment_id}: {'no monitor was at work' if ended is None else f'monitor {ended} ended'}")
    cli.emit_json({"experiment_id": args.experiment_id, "stopped": ended})
    return OK


def pause(args: argparse.Namespace, setting: Setting) -> int:
    """Keep the share, promote no further, stop the stage's clock; the guard stays."""
    from flywheel.serving import rollout, transitions

    now = setting.now()

    def step(found: Experiment) -> Experiment:
        return transitions.paused(found, args.reason, transitions.OPERATOR, now)

    return show(rollout.change(setting.store, args.experiment_id, step, setting.programs, now))


def resume(args: argparse.Namespace, setting: Setting) -> int:
    """Go on with a paused rollout."""
    from flywheel.serving import rollout, transitions

    now = setting.now()

    def step(found: Experiment) -> Experiment:
        return transitions.resumed(found, now)

    return show(rollout.change(setting.store, args.experiment_id, step, setting.programs, now))


def promote(args: argparse.Namespace, setting: Setting) -> int:
    """Raise the share by one stage, or to --to, on the operator's own account."""
    from flywheel.serving import rollout, transitions

    now = setting.now()

    def step(found: Experiment) -> Experiment:
        following = found.config.stages[min(found.stage, len(found.config.stages) - 1)]
        percent = following if args.to is None else args.to
        if percent == 100:
            return transitions.completed(found, transitions.OVERRIDE, transitions.OPERATOR, now)
        return transitions.promoted(found, percent, transitions.OVERRIDE, transitions.OPERATOR, now)

    return show(rollout.change(setting.store, args.experiment_id, step, setting.programs, now))


def rollback(args: argparse.Namespace, setting: Setting) -> int:
    """Send everything back to the baseline; nothing happens to an experiment that is not live."""
    from flywheel.serving import rollback as back

    now = setting.now()
    if args.all:
        swept = back.rollback_all(setting.store, args.reason, now)
        for name, problem in swept.problems.items():
            cli.say(f"{name}: its route is off, but its record is not: {problem}")
        cli.emit_json({"rolled_back": list(swept.rolled_back), "problems": swept.problems})
        return OK
    found, was_live = back.rollback(setting.store, args.experiment_id, args.reason, now)
    if not was_live and args.include_completed and found.status == "completed":
        found = back.restore(setting.store, args.experiment_id, args.reason, setting.programs, now)
    elif not was_live:
        cli.say(f"{found.id}: is {found.status}; nothing to roll back")
    return show(found)


def status(args: argparse.Namespace, setting: Setting) -> int:
    """Show one experiment: where it stands, what traffic does, the last decision and its figures."""
    from flywheel.serving.monitor_lock import monitored
    from flywheel.serving.summary import summary, traffic

    found = setting.store.read(args.experiment_id)
    watched = monitored(setting.store.folder, found.id)
    cli.say(f"{found.id}: {found.status}; {traffic(found)}; monitor {'at work' if watched else 'not at work'}")
    cli.emit_json({**summary(found), "monitor_at_work": watched})
    return OK


def list_all(_args: argparse.Namespace, setting: Setting) -> int:
    """Show every experiment, and the records that cannot be read."""
    from flywheel.serving.summary import summary

    found, problems = setting.store.all()
    cli.emit_json({"experiments": [summary(item) for item in found], "problems": problems})
    for name, problem in problems.items():
        cli.say(f"{name}: {problem}")
    return OK


def history(args: argparse.Namespace, setting: Setting) -> int:
    """Show what happened to an experiment, oldest first; with --ticks every look with its figures."""
    experiment = setting.store.read(args.experiment_id)
    cli.emit_json(setting.store.ticks(experiment.id) if args.ticks else list(experiment.history))
    return OK


def plot(args: argparse.Namespace, setting: Setting) -> int:
    """Draw an experiment over time: as text here, as SVG or PNG with --output."""
    from flywheel.ops.rollout_picture import picture

    experiment = setting.store.read(args.experiment_id)
    ticks = setting.store.ticks(experiment.id)
    cli.say(picture(f"{experiment.id}: {experiment.signature}, {experiment.status}", ticks, args.output))
    cli.emit_json({"experiment_id": experiment.id, "looks": len(ticks), "output": args.output})
    return OK


def reset(args: argparse.Namespace, setting: Setting) -> int:
    """Send one experiment's traffic (or everybody's) to the baseline and move the state to archive/."""
    from flywheel.serving.rollback import reset as archive

    chosen = setting.store.ids() if args.experiment_id is None else [args.experiment_id]
    for name in chosen:
        if not setting.store.path(name).exists():
            setting.store.read(name)
    cli.emit_json({"archived": [str(path) for path in archive(setting.store, chosen, setting.now())]})
    return OK


def archive(args: argparse.Namespace, setting: Setting) -> int:
    """Move experiments that ended --days ago, and that no service or deployed program needs, to archive/."""
    from flywheel.serving.retirement import retire

    cli.emit_json(retire(setting.store, args.days, setting.now(), dry_run=args.dry_run))
    return OK


def show(experiment: Experiment) -> int:
    """Print an experiment as JSON."""
    from flywheel.serving.summary import summary

    cli.emit_json(summary(experiment))
    return OK


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__ or "")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_start(_command(commands, "start", start, "own"))
    sub = _command(commands, "monitor", monitor, "own")
    sub.add_argument("--daemon", action="store_true", help="go on until the experiment ends")
    slower = "between looks (default: tick_seconds); a stage ages by at most two tick_seconds a look"
    sub.add_argument("--interval", type=cli.positive_number, metavar="SECONDS", help=slower)
    sub = _command(commands, "pause", pause, "own")
    sub.add_argument("--reason", type=one_line, default="paused by the operator", help="why, for the record")
    _command(commands, "resume", resume, "own")
    sub = _command(commands, "promote", promote, "own")
    sub.add_argument("--to", type=cli.number, metavar="PERCENT", help="a later stage's share; 100 completes")
    sub = _command(commands, "rollback", rollback, "all")
    sub.add_argument("--reason", type=one_line, required=True, help="why, for the record")
    sub.add_argument("--include-completed", action="store_true", help="also undo the signature's latest completed one")
    sub = _command(commands, "stop", stop, "own")
    sub.add_argument("--timeout", type=cli.number, default=30.0, metavar="SECONDS", help="wait so long for its end")
    _command(commands, "status", status, "own")
    _command(commands, "list", list_all, "none")
    sub = _command(commands, "history", history, "own")
    sub.add_argument("--ticks", action="store_true", help="every look, not only what changed")
    sub = _command(commands, "plot", plot, "own")
    sub.add_argument("--output", metavar="FILE", help="write the picture: SVG, or PNG by its name (extra `plots`)")
    _command(commands, "reset", reset, "optional")
    sub = _command(commands, "archive", archive, "none")
    sub.add_argument("--days", type=cli.number, default=90.0, metavar="N", help="ended at least so long ago")
    sub.add_argument("--dry-run", action="store_true", help="only tell which")
    return parser


def add_start(sub: argparse.ArgumentParser) -> None:
    """The flags of start."""
    sub.add_argument("--signature", required=True, metavar="NAME", help="the signature whose traffic is split")
    sub.add_argument("--baseline", required=True, metavar="FILE", help="the program that serves now")
    sub.add_argument("--candidate", required=True, metavar="FILE", help="the program to roll out")
    sub.add_argument("--config", metavar="FILE", help="JSON of stages, stage_minutes, min_calls, thresholds, required")
    sub.add_argument("--metrics", choices=METRICS, default=METRICS[0], help="interaction records, or Prometheus")
    sub.add_argument("--prometheus-url", metavar="URL", help="its address; queries and times: `prometheus` in --config")
    sub.add_argument("--rule", choices=RULES, default=RULES[0], help="evidence, or the bare thresholds")


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, function: Command, ids: str
) -> argparse.ArgumentParser:
    """A subcommand; `ids` says which experiments it takes: own (one), all (one or --all), optional, none."""
    text = (function.__doc__ or "").strip()
    sub = commands.add_parser(name, help=text, description=text, formatter_class=cli.HelpFormatter, allow_abbrev=False)
    sub.set_defaults(function=function)
    group = sub.add_mutually_exclusive_group(required=True) if ids == "all" else sub
    if ids != "none":
        group.add_argument("--experiment-id", metavar="ID", required=ids == "own", help="the experiment")
    if ids == "all":
        group.add_argument("--all", action="store_true", help="every live experiment")
    cli.add_place(sub, "--experiments-dir", paths.EXPERIMENTS)
    cli.add_place(sub, "--telemetry-dir", paths.TELEMETRY)
    cli.add_place(sub, "--programs-dir", paths.PROGRAMS)
    return sub


def main(argv: Sequence[str] | None = None, now: Callable[[], Moment] | None = None) -> int:
    """Run the command line; see the module's docstring for exit codes. `now` is the clock."""
    args = build_parser().parse_args(argv)
    from flywheel.serving.experiment_store import ExperimentStore
    from flywheel.serving.stage_clock import Moment

    setting = Setting(
        ExperimentStore(paths.EXPERIMENTS.resolve(args.experiments_dir)),
        paths.TELEMETRY.resolve(args.telemetry_dir),
        paths.PROGRAMS.resolve(args.programs_dir),
        Moment.now if now is None else now,
    )
    function: Command = args.function
    return function(args, setting)


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
