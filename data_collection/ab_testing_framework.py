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
damaged state, or another monitor at work; 1 start: the shadow proved the candidate harmful; 143 terminated.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flywheel.base import cli, paths
from flywheel.base.errors import NO, OK
from flywheel.base.text import one_line
from flywheel.serving.order import add_start, order_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from flywheel.serving.daemon import Setting
    from flywheel.serving.experiments import Experiment
    from flywheel.serving.stage_clock import Moment

    Command = Callable[[argparse.Namespace, "Setting"], int]


def start(args: argparse.Namespace, setting: Setting) -> int:
    """Begin a rollout at its first stage, or add a further candidate to one that is live."""
    from flywheel.serving.launch import join, launch, prepared
    from flywheel.serving.summary import guard_hint, line

    order = order_of(args)
    if args.join:
        return show(join(order, setting))
    experiment = prepared(order, setting)
    if args.shadow is not None:
        experiment = replace(experiment, shadow=shadow(args, experiment, setting))
    experiment = launch(experiment, setting)
    show(experiment)
    cli.say(guard_hint(experiment) if experiment.live else line(experiment))
    return OK if experiment.live else NO


def shadow(args: argparse.Namespace, experiment: Experiment, setting: Setting) -> dict[str, Any]:
    """Replay recorded calls through the baseline and every candidate; the report."""
    from flywheel.data.registry import all_signatures, one
    from flywheel.learning.choice import choose_model
    from flywheel.serving.replay import newest_calls

    signature = one(all_signatures(args.signature_file), experiment.signature)
    records = newest_calls(setting.telemetry, experiment, args.shadow)
    choice = choose_model(args.model, api_base=args.api_base)
    cli.say(choice.describe())
    from flywheel.learning.ledger import Limits
    from flywheel.learning.pairwise import Terms
    from flywheel.learning.shadow import replay

    modules = {"baseline": experiment.baseline_module, **{item.variant: item.module for item in experiment.candidates}}
    limits = Limits(max_calls=args.max_calls, max_cost_usd=args.max_cost)
    rule = experiment.config
    terms = Terms(rule.error_rate_delta, rule.latency_delta_ms, rule.quality_score, rule.alpha, limits)
    return replay(signature, modules, records, choice, terms)


def monitor(args: argparse.Namespace, setting: Setting) -> int:
    """Look at the evidence once and act on it, or again and again until the experiment ends."""
    from flywheel.base.signals import EXIT_CODE, TerminatedError, sigterm_raises
    from flywheel.serving.daemon import keep_watch, look_once
    from flywheel.serving.monitor_lock import monitoring
    from flywheel.serving.summary import slowed

    for warning in slowed(setting.store.read(args.experiment_id).config, args.interval):
        cli.say(f"warning: {warning}")
    try:
        with sigterm_raises(), monitoring(setting.store.folder, args.experiment_id):
            if args.daemon:
                return show(keep_watch(args.experiment_id, setting, args.interval))
            return show(look_once(args.experiment_id, setting))
    except TerminatedError:
        cli.say(f"{args.experiment_id}: terminated; the share stays, and a new monitor goes on from here")
        return EXIT_CODE


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
    """Raise the share by one stage, or to --to, on the operator's own account; it ends a holdback."""
    from flywheel.serving import contest, rollout, transitions

    now = setting.now()

    def step(found: Experiment) -> Experiment:
        following = found.config.stages[min(found.stage, len(found.config.stages) - 1)]
        percent = following if args.to is None else args.to
        if args.arm is not None:
            found = contest.chosen(found, args.arm, transitions.OPERATOR, now)
        if percent == 100:
            return transitions.completed(found, transitions.OVERRIDE, transitions.OPERATOR, now)
        return transitions.promoted(found, percent, transitions.OVERRIDE, transitions.OPERATOR, now)

    return show(rollout.change(setting.store, args.experiment_id, step, setting.programs, now))


def rollback(args: argparse.Namespace, setting: Setting) -> int:
    """Send everything back to the baseline; nothing happens to an experiment that is not live."""
    from flywheel.serving import rollback as back

    now = setting.now()
    if args.all:
        swept = back.rollback_all(setting.store, args.reason, setting.programs, now)
        for name, problem in swept.problems.items():
            cli.say(f"{name}: its route is off, but its record is not: {problem}")
        cli.emit_json({"rolled_back": list(swept.rolled_back), "problems": swept.problems})
        return OK
    if args.arm is not None:
        return show(withdraw(args, setting, now))
    found, was_live = back.rollback(setting.store, args.experiment_id, args.reason, setting.programs, now)
    if not was_live and args.include_completed and found.status == "completed":
        found = back.restore(setting.store, args.experiment_id, args.reason, setting.programs, now)
    elif not was_live:
        cli.say(f"{found.id}: is {found.status}; nothing to roll back")
    return show(found)


def withdraw(args: argparse.Namespace, setting: Setting, now: Moment) -> Experiment:
    """Send one of several candidates back, and go on with the others."""
    from flywheel.serving import contest, rollout, transitions

    def step(found: Experiment) -> Experiment:
        return contest.withdrawn(found, {args.arm: args.reason}, transitions.OPERATOR, now)

    return rollout.change(setting.store, args.experiment_id, step, setting.programs, now)


def status(args: argparse.Namespace, setting: Setting) -> int:
    """Show one experiment: where it stands, what traffic does, the last decision and its figures."""
    from flywheel.serving.monitor_lock import monitored
    from flywheel.serving.summary import line, summary

    found = setting.store.read(args.experiment_id)
    watched = monitored(setting.store.folder, found.id)
    cli.emit_json({**summary(found), "monitor_at_work": watched})
    cli.say(f"{line(found)}; monitor {'at work' if watched else 'not at work'}")
    return OK


def list_all(_args: argparse.Namespace, setting: Setting) -> int:
    """Show every experiment, and the records that cannot be read."""
    from flywheel.serving.summary import line, summary

    found, problems = setting.store.all()
    cli.emit_json({"experiments": [summary(item) for item in found], "problems": problems})
    for item in found:
        cli.say(line(item))
    for name, problem in problems.items():
        cli.say(f"{name}: {problem}")
    return OK


def history(args: argparse.Namespace, setting: Setting) -> int:
    """Show what happened to an experiment, oldest first; with --ticks every look with its figures."""
    from flywheel.serving.summary import event, look

    experiment = setting.store.read(args.experiment_id)
    entries = setting.store.ticks(experiment.id) if args.ticks else list(experiment.history)
    cli.emit_json(entries)
    for entry in entries:
        cli.say(look(entry) if args.ticks else event(entry))
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
    from flywheel.serving.rollback import reset as take_away

    chosen = setting.store.ids() if args.experiment_id is None else [args.experiment_id]
    for name in chosen:
        if not setting.store.path(name).exists():
            setting.store.read(name)
    cli.emit_json({"archived": [str(path) for path in take_away(setting.store, chosen, setting.now())]})
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
    sub.add_argument("--arm", metavar="VARIANT", help="go on with this one of several candidates alone")
    sub = _command(commands, "rollback", rollback, "all")
    sub.add_argument("--reason", type=one_line, required=True, help="why, for the record")
    sub.add_argument("--include-completed", action="store_true", help="also undo the signature's latest completed one")
    sub.add_argument("--arm", metavar="VARIANT", help="only this one of several candidates; the others go on")
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
    from flywheel.serving.daemon import Setting
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
