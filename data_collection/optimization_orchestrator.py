"""The monthly cycle: collect, validate, gate, version, optimize, evaluate, decide, deploy.

Usage:
  python optimization_orchestrator.py --git-target 30 --synthetic-target 20 --trials 50
  python optimization_orchestrator.py --predict
  python optimization_orchestrator.py --resume latest
  python optimization_orchestrator.py programs list
  python optimization_orchestrator.py programs diff validate_intent deployed latest

For each signature: mine the repository and generate synthetic examples, validate them, hold them against the quality
gates, add them to the versioned dataset, search for a better program on its train and val splits, and compare that
with the baseline on its test split. A program is deployed when it improves by at least --min-improvement percent and
the improvement's interval lies above 0. The model is --model, else FLYWHEEL_MODEL, else an Anthropic model when
ANTHROPIC_API_KEY is set, else a small embedded one. Progress goes to stderr; verdicts and paths to stdout as JSON.

Exit codes: 0 the cycle completed, whatever the verdicts; 1 no signature could be evaluated; 2 bad input or no usable
model; 130 interrupted, 143 terminated.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.base import cli, paths, signals
from flywheel.base.errors import INTERRUPTED, NO, OK
from flywheel.base.given import given_flags
from flywheel.data.registry import all_signatures, chosen, one
from flywheel.ops.program_options import COMMAND, add_commands
from flywheel.ops.run_options import ALL, TERMINATED, Options, add_options, options_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from flywheel.base.programs import Program
    from flywheel.base.progress import Progress
    from flywheel.data.signatures.types import Signature
    from flywheel.learning.assignment import Assignment
    from flywheel.learning.choice import ModelChoice
    from flywheel.learning.cycle import Terms
    from flywheel.learning.intake import Begun
    from flywheel.learning.preflight import Proven
    from flywheel.ops.journal import RunJournal
    from flywheel.ops.runs import RunSummary


@dataclass(frozen=True)
class Run:
    """A run under way: what was asked for, and the journal of what came of it."""

    options: Options
    signatures: Sequence[Signature]
    table: Mapping[str, Signature]
    progress: Progress
    journal: RunJournal
    proven: Proven | None = None


def collect(run: Run) -> list[Path]:
    """Mine and generate; the folders of what was collected, raw."""
    import git_mining_pipeline
    import synthetic_data_generator
    from flywheel.base.alongside import alongside
    from flywheel.ops.runs import COLLECTED

    folders = [run.journal.folder / COLLECTED / name for name in ("git", "synthetic")]
    if run.journal.state.collected:
        return folders
    options, told, seed = run.options, run.progress.line, run.journal.folder.name
    run.progress.phase("collect from git and from templates, side by side")
    mining = git_mining_pipeline.MiningOptions(
        repo_path=options.repo_path, target=options.git_target, since_days=options.since_days
    )
    begun = time.monotonic()
    mine: Any = partial(git_mining_pipeline.collect, mining, run.signatures)
    generate: Any = partial(synthetic_data_generator.generate, run.signatures, options.synthetic_target, seed)
    mined, generated = alongside({"git": mine, "synthetic": generate}, told).values()
    git_mining_pipeline.write(mined, folders[0], git_mining_pipeline.report(mined, mining, time.monotonic() - begun))
    synthetic_data_generator.write(folders[1], generated)
    run.journal.found({"git": mined, "synthetic": generated}, options.git_target + options.synthetic_target, told)
    return folders


def admit(run: Run, folders: Sequence[Path]) -> None:
    """Validate, gate and version what was collected, of the signatures for which that was not done yet."""
    import data_validator
    from flywheel.ops.runs import VALIDATED

    run.progress.phase("validate, gate and version", len(run.signatures))
    left = [signature for signature in run.signatures if signature.name not in run.journal.state.admitted]
    if not left:
        return
    validated = data_validator.validate(folders, run.table, run.signatures)
    data_validator.write(run.journal.folder / VALIDATED, validated)
    for signature in left:
        reasons = dict(validated.reasons.get(signature.name, {}))
        run.journal.facts[signature.name].update(duplicates=reasons.pop("duplicate", 0), rejected=reasons)
        admitted = admit_one(run, signature, validated.accepted.get(signature.name, []))
        run.journal.admitted(signature.name, None if admitted is None else asdict(admitted))
        run.progress.step(signature.name)


def admit_one(run: Run, signature: Signature, accepted: Sequence[Any]) -> Begun | None:
    """Gate and version one signature's batch; what it is to be optimized on, None when its gates rejected it."""
    from flywheel.data.additions import Sharing
    from flywheel.data.store import newest
    from flywheel.learning.cycle import START
    from flywheel.learning.intake import begun, put

    root, folder = Path(run.options.data_dir), run.journal.folder
    fit: Sequence[Any] = []
    if not accepted and newest(root, signature.name) is not None:
        run.progress.line(f"{signature.name}: nothing new was collected; its dataset is used as it is")
    elif not (fit := gate(run, signature, accepted)):
        return None
    added = put(root, signature, fit, folder.name, Sharing(run.options.split, run.options.temporal_holdout))
    if added.retired:
        run.progress.line(f"{signature.name}: the test split was used up and is training data now")
    run.journal.added(signature.name, added)
    return begun(root, signature.name, Path(run.options.programs_dir), folder / START)


def gate(run: Run, signature: Signature, examples: Sequence[Any]) -> Sequence[Any]:
    """The examples that the quality gates let through: those of sufficient quality, or none of a rejected batch."""
    import quality_gates

    fit = quality_gates.above_minimum(signature, examples)
    poor = quality_gates.below_minimum(signature, examples)
    report = quality_gates.evaluate(signature, fit or examples, strict=run.options.strict)
    strict = quality_gates.evaluate(signature, fit or examples, strict=True)
    passed = run.journal.gated(signature.name, (len(fit), poor), report, strict.verdict, run.progress.line)
    return fit if passed else []


def assignments(run: Run) -> list[Assignment]:
    """What is to be optimized still, each signature with what the run began on."""
    from flywheel.learning.intake import to_work_on

    left = {name: on.model_dump() for name, on in run.journal.left()}
    work, gone = to_work_on(Path(run.options.data_dir), run.signatures, left, run.journal.folder.name)
    for name, reason in gone.items():
        run.journal.learned(name, {"verdict_reason": reason})
    return work


def cycle(run: Run, choice: ModelChoice) -> None:
    """All phases of the run, in order."""
    from flywheel.learning.cycle import run_all
    from flywheel.learning.ledger import FILE_NAME, Ledger, Limits
    from flywheel.learning.plan import fund
    from flywheel.learning.power import tell_power
    from flywheel.learning.spending import run_spend
    from flywheel.learning.spreading import Spread, spread_out
    from flywheel.ops.plan_view import tell_plan

    options = run.options
    spread = Spread(options.workers, options.max_concurrency, options.executor, options.ray_address)
    executor = spread_out(spread, warm=len(run.signatures) > 1 and not choice.embedded)
    admit(run, collect(run))
    work = assignments(run)
    tell_power(work, terms := _terms(run, choice), run.progress)
    limits = Limits(options.max_calls, options.max_cost_usd, concurrency=options.max_concurrency)
    calls = run.journal.folder / FILE_NAME
    if run.proven is not None:
        run.proven.note(calls)
    with Ledger(calls, limits, tell=run.progress.line) as ledger:
        funded = fund(work, terms, ledger, run.proven)
        tell_plan(funded.plan, run.journal)
        try:
            error = run_all(work, terms, ledger, run.progress, run.journal.concluded, executor, funded.budget)
        finally:
            run.journal.spend = run_spend(calls, funded.plan)
    run.journal.error = error or run.journal.error


def plan_only(run: Run, choice: ModelChoice, output: Path) -> int:
    """Say what the run would take, by datasets as collecting would leave them; nothing is asked of a model."""
    from flywheel.learning.past_calls import past_calls
    from flywheel.learning.plan import Known, plan_run
    from flywheel.ops.plan_view import tell_plan

    past = past_calls(output / run.journal.folder.name, choice.name)
    admit(run, collect(run))
    plan = plan_run(assignments(run), _terms(run, choice), Known(past))
    run.progress.close()
    tell_plan(plan, run.journal)
    cli.emit(plan.model_dump_json(indent=2))
    return OK if plan.signatures else NO


def _terms(run: Run, choice: ModelChoice) -> Terms:
    from flywheel.learning.terms import terms_of
    from flywheel.ops.history import past_results
    from flywheel.ops.rollout_begin import begin_rollout
    from flywheel.ops.runs import RESULTS

    options, folder = run.options, run.journal.folder
    begin = partial(begin_rollout, Path(options.experiments_dir), Path(options.programs_dir))
    past = past_results(folder.parent, run.progress.line, without=folder.name)
    resumed = bool(run.journal.state.resumed_at)
    return replace(terms_of(options, choice, folder / RESULTS, begin=begin, past=past), resumed=resumed)


def finish(run: Run, error: str | None = None) -> RunSummary:
    """Write the summary and the report, tell the verdicts, and log the run; `error`: why it did not end by itself."""
    from flywheel.learning.tracking import log_run
    from flywheel.ops.report import tell_and_write
    from flywheel.ops.tracked import track

    summary = run.journal.summary(ended=True, broken_off=error)
    run.progress.close()
    tell_and_write(summary, run.journal.folder)
    if run.options.mlflow is not None:
        track(run.options.mlflow, summary, run.journal.folder, log_run)
    run.journal.end(error)
    return summary


def execute(run: Run, choice: ModelChoice) -> int:
    """Run the cycle and write its summary, whatever happens; the exit code."""
    run.journal.save()
    try:
        cycle(run, choice)
        return OK if finish(run).success else NO
    except (signals.TerminatedError, KeyboardInterrupt) as told:
        with signals.ignored():
            finish(run, TERMINATED)
        return INTERRUPTED if isinstance(told, KeyboardInterrupt) else signals.EXIT_CODE
    except BaseException as error:
        run.journal.summary(ended=True, broken_off=f"{type(error).__name__}: {error}").write(run.journal.folder)
        run.progress.close()
        raise


def resume(args: argparse.Namespace, given: set[str]) -> int:
    """Go on with a run that was cut short, with its own settings."""
    from flywheel.base.clock import now
    from flywheel.base.progress import open_progress
    from flywheel.learning.calls import forget_failures
    from flywheel.learning.choice import choose_model
    from flywheel.learning.ledger import FILE_NAME
    from flywheel.ops import resumption

    folder = resumption.find(paths.RUNS.resolve(args.output_dir), args.resume, now())
    if folder is None:
        cli.say("no run was cut short lately; nothing to resume")
        return OK
    with resumption.held(folder):
        journal, options = resumption.reopened(folder, args, given)
        table = all_signatures(options.signature_file)
        choice = choose_model(options.model, api_base=resumption.api_base(args, options), prices=options.prices)
        if args.retry_failed:
            forget_failures(folder / FILE_NAME)
        journal.go_on(now())
        cli.say(f"{folder.name} goes on; {choice.describe()}")
        return execute(Run(options, chosen(table, list(journal.facts)), table, open_progress(), journal), choice)


def look(args: argparse.Namespace) -> int:
    """Show stored programs; nothing is run."""
    from flywheel.base.files import to_json
    from flywheel.ops.program_views import view

    def plain(signature: Signature) -> Program:
        from flywheel.learning.program import plain_envelope

        return plain_envelope(signature)

    def render(program: Program, signature: Signature, inputs: dict[str, Any] | None) -> list[dict[str, Any]]:
        from flywheel.learning.rendering import placeholders, render_call

        return render_call(program, signature, placeholders(signature) if inputs is None else inputs)

    cli.emit(to_json(view(args, all_signatures(args.signature_file), plain, render)).rstrip())
    return OK


def foretell(args: argparse.Namespace) -> int:
    """Tell what a run could show and may bring, from stored datasets and earlier runs; nothing is run."""
    from flywheel.learning.choice import choose_model
    from flywheel.learning.prediction import tell_stored
    from flywheel.ops.history import past_results

    names = [signature.name for signature in chosen(all_signatures(args.signature_file), args.signatures)]
    past = past_results(paths.RUNS.resolve(args.output_dir), cli.say)
    wanted = args.min_improvement, choose_model(args.model, api_base=args.api_base).name
    cli.emit(tell_stored(paths.DATASETS.resolve(args.data_dir), names, past, wanted, cli.say))
    return OK


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__ or "")
    parser.set_defaults(command=None)
    add_options(parser)
    add_commands(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring for exit codes."""
    args = (parser := build_parser()).parse_args(argv)
    if args.command == COMMAND:
        return look(args)
    if args.predict:
        return foretell(args)
    with signals.sigterm_raises():
        return resume(args, given_flags(parser, argv, args)) if args.resume is not None else begin(args)


def begin(args: argparse.Namespace) -> int:
    """Begin a run."""
    from flywheel.base.clock import now
    from flywheel.base.progress import open_progress
    from flywheel.data.git import locate
    from flywheel.learning.choice import choose_judge, choose_model
    from flywheel.learning.preflight import check_judge, check_search
    from flywheel.learning.tracking import check_tracking
    from flywheel.ops.journal import RunJournal
    from flywheel.ops.resumption import held

    table = all_signatures(args.signature_file)
    signatures = chosen(table, args.signatures)
    if args.quick not in {None, ALL}:
        one({signature.name: signature for signature in signatures}, args.quick)
    locate(args.repo_path).require_commits()
    output = paths.private_folder(paths.RUNS.resolve(args.output_dir))
    choice = choose_model(args.model, api_base=args.api_base, require_model=args.require_model, prices=args.prices)
    cli.say(choice.describe())
    options, names = options_of(args, choice.name), [signature.name for signature in signatures]
    if args.plan:
        with paths.scratch_copy(Path(options.data_dir)) as copied:
            options = replace(options, data_dir=str(copied))
            journal = RunJournal.begin(copied.parent / "runs", now(), asdict(options), names)
            return plan_only(Run(options, signatures, table, open_progress(), journal), choice, output)
    judge = choose_judge(args.judge, args.judge_api_base, choice, force=args.force_judge, prices=args.prices)
    proven = check_search(args.optimizer, choice, args.reflection_model, args.max_cost_usd)
    proven = proven.also(check_judge(judge, args.max_cost_usd))
    check_tracking(args.mlflow)
    journal = RunJournal.begin(output, now(), asdict(options), names)
    with held(journal.folder):
        return execute(Run(options, signatures, table, open_progress(), journal, proven), choice)


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
