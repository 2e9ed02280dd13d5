"""The monthly cycle: collect, validate, gate, version, optimize, evaluate, decide, deploy.

Usage:
  python optimization_orchestrator.py --git-target 30 --synthetic-target 20 --trials 50
  python optimization_orchestrator.py --predict
  python optimization_orchestrator.py programs list
  python optimization_orchestrator.py programs diff validate_intent deployed latest

For each signature: mine the repository and generate synthetic examples, validate them, hold them against the quality
gates, add them to the versioned dataset, search for a better program on its train and val splits, and compare that
with the baseline on its test split. A program is deployed when it improves by at least --min-improvement percent and
the improvement's interval lies above 0. The model is --model, else FLYWHEEL_MODEL, else an Anthropic model when
ANTHROPIC_API_KEY is set, else a small embedded one. Progress goes to stderr; verdicts and paths to stdout as JSON.

Exit codes: 0 the cycle completed, whatever the verdicts; 1 no signature could be evaluated; 2 bad input or no usable
model; 143 terminated.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.base import cli, paths, signals
from flywheel.base.errors import NO, OK
from flywheel.data.registry import all_signatures, chosen, one
from flywheel.ops.program_options import COMMAND, add_commands
from flywheel.ops.run_options import ALL, Options, add_options, options_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from flywheel.base.programs import Program
    from flywheel.base.progress import Progress
    from flywheel.data.signatures.types import Signature
    from flywheel.learning.choice import ModelChoice
    from flywheel.learning.cycle import Terms
    from flywheel.learning.preflight import Proven
    from flywheel.learning.session import Assignment
    from flywheel.ops.runs import RunJournal, RunSummary


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

    options, told, seed = run.options, run.progress.line, run.journal.folder.name
    run.progress.phase("collect from git and from templates, side by side")
    mining = git_mining_pipeline.MiningOptions(
        repo_path=options.repo_path, target=options.git_target, since_days=options.since_days
    )
    begun = time.monotonic()
    mine: Any = partial(git_mining_pipeline.collect, mining, run.signatures)
    generate: Any = partial(synthetic_data_generator.generate, run.signatures, options.synthetic_target, seed)
    mined, generated = alongside({"git": mine, "synthetic": generate}, told).values()
    report = git_mining_pipeline.report(mined, mining, time.monotonic() - begun)
    folders = [run.journal.folder / COLLECTED / name for name in ("git", "synthetic")]
    git_mining_pipeline.write(mined, folders[0], report)
    synthetic_data_generator.write(folders[1], generated)
    target = options.git_target + options.synthetic_target
    found = (("git", mined), ("synthetic", generated))
    for name in run.journal.facts:
        counts = {"git": len(mined.examples[name]), "synthetic": len(generated.examples[name])}
        short = [(source, result.shortfalls[name]) for source, result in found if name in result.shortfalls]
        for source, reason in short:
            told(f"{name}: {source}: {reason}")
        shortfall = "; ".join(f"{source}: {reason}" for source, reason in short) or None
        facts = {"collected_by_source": counts, "target": target, "shortfall": shortfall}
        run.journal.facts[name].update(facts, collected=sum(counts.values()))
    run.journal.save()
    return folders


def admit(run: Run, folders: Sequence[Path]) -> list[Assignment]:
    """Validate, gate and version what was collected; what there is to optimize on."""
    import data_validator
    from flywheel.data.store import newest
    from flywheel.ops.runs import VALIDATED

    run.progress.phase("validate, gate and version", len(run.signatures))
    validated = data_validator.validate(folders, run.table, run.signatures)
    data_validator.write(run.journal.folder / VALIDATED, validated)
    assignments = []
    for signature in run.signatures:
        reasons = dict(validated.reasons.get(signature.name, {}))
        run.journal.facts[signature.name].update(duplicates=reasons.pop("duplicate", 0), rejected=reasons)
        accepted = validated.accepted.get(signature.name, [])
        if not accepted and newest(Path(run.options.data_dir), signature.name) is not None:
            run.progress.line(f"{signature.name}: nothing new was collected; its dataset is used as it is")
            store(run, signature, [])
            assignments.append(assignment(run, signature))
        elif fit := gate(run, signature, accepted):
            store(run, signature, fit)
            assignments.append(assignment(run, signature))
        run.progress.step(signature.name)
    run.journal.save()
    return assignments


def gate(run: Run, signature: Signature, examples: Sequence[Any]) -> Sequence[Any]:
    """The examples that the quality gates let through: those of sufficient quality, or none of a rejected batch."""
    import quality_gates
    from flywheel.base.files import write_atomic, write_json
    from flywheel.ops.runs import GATE_REPORTS

    facts = run.journal.facts[signature.name]
    fit = quality_gates.above_minimum(signature, examples)
    poor = quality_gates.below_minimum(signature, examples)
    facts["rejected"].update(Counter(rejection.reason for rejection in poor))
    strict = quality_gates.evaluate(signature, fit or examples, strict=True)
    report = quality_gates.evaluate(signature, fit or examples, strict=run.options.strict)
    gates = {"verdict": report.verdict, "reasons": report.reasons, "strict_verdict": strict.verdict}
    facts.update(validated=len(fit), quality_gates=gates)
    reports = run.journal.folder / GATE_REPORTS
    write_json(reports / f"{signature.name}.json", report.to_dict())
    write_atomic(reports / f"{signature.name}.rejected.jsonl", "".join(item.to_json_line() for item in poor))
    if report.reasons:
        would = "" if run.options.strict else f" (strict mode: {strict.verdict})"
        told = f"{signature.name}: quality_gates: {report.verdict}, reason: {'; '.join(report.reasons)}{would}"
        run.progress.line(told)
    if report.verdict == quality_gates.REJECT or not fit:
        reason = report.reasons[0].replace("quality_score=", "quality=")
        run.journal.error = run.journal.error or f"Quality gates failed: {signature.name} {reason}"
        return []
    return fit


def store(run: Run, signature: Signature, examples: Sequence[Any]) -> None:
    """Add the batch to the signature's dataset; without examples it only retires a test split that is used up."""
    from flywheel.base.clock import now
    from flywheel.data.additions import Sharing, add_examples
    from flywheel.data.publishing import Batch

    batch = Batch("cycle", f"added by {run.journal.folder.name}", now())
    root, sharing = Path(run.options.data_dir), Sharing(run.options.split, run.options.temporal_holdout)
    added = add_examples(root, signature, examples, batch, onto_latest=True, sharing=sharing)
    if added.retired:
        run.progress.line(f"{signature.name}: the test split was used up and is training data now")
    facts = run.journal.facts[signature.name]
    facts["duplicates"] += added.refused.pop("duplicate", 0)
    facts["rejected"].update(added.refused)
    facts.update(new_examples=added.new)


def assignment(run: Run, signature: Signature) -> Assignment:
    """All of the signature's dataset, with groups as they are by now: what there is to optimize on."""
    from flywheel.base.programs import deployed_program
    from flywheel.data.whole import load_whole
    from flywheel.learning.session import Assignment

    root = Path(run.options.data_dir)
    metadata, examples = load_whole(root, signature.name)
    facts = {"dataset_version": metadata.version, "dataset_examples": metadata.example_count}
    run.journal.facts[signature.name].update(facts)
    deployed = deployed_program(Path(run.options.programs_dir), signature.name)
    return Assignment(signature, examples, metadata.version, metadata.content_hash, deployed, root)


def cycle(run: Run, choice: ModelChoice) -> None:
    """All phases of the run, in order."""
    from flywheel.learning.cycle import run_all, tell_power
    from flywheel.learning.ledger import FILE_NAME, Ledger, Limits
    from flywheel.learning.plan import fund
    from flywheel.learning.spending import run_spend
    from flywheel.learning.spreading import Spread, spread_out
    from flywheel.ops.plan_view import tell_plan

    options = run.options
    spread = Spread(options.workers, options.max_concurrency, options.executor, options.ray_address)
    executor = spread_out(spread, warm=len(run.signatures) > 1 and not choice.embedded)
    assignments = admit(run, collect(run))
    tell_power(assignments, terms := _terms(run, choice), run.progress)
    limits = Limits(options.max_calls, options.max_cost_usd, concurrency=options.max_concurrency)
    calls = run.journal.folder / FILE_NAME
    if run.proven is not None:
        run.proven.note(calls)
    with Ledger(calls, limits, tell=run.progress.line) as ledger:
        funded = fund(assignments, terms, ledger, run.proven)
        tell_plan(funded.plan, run.journal)
        try:
            error = run_all(assignments, terms, ledger, run.progress, run.journal.learned, executor, funded.budget)
        finally:
            run.journal.spend = run_spend(calls, funded.plan)
    run.journal.error = error or run.journal.error


def plan_only(run: Run, choice: ModelChoice, output: Path) -> int:
    """Say what the run would take, by datasets as collecting would leave them; nothing is asked of a model."""
    from flywheel.learning.past_calls import past_calls
    from flywheel.learning.plan import Known, plan_run
    from flywheel.ops.plan_view import tell_plan

    past = past_calls(output / run.journal.folder.name, choice.name)
    plan = plan_run(admit(run, collect(run)), _terms(run, choice), Known(past))
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
    return terms_of(options, choice, folder / RESULTS, begin=begin, past=past)


def finish(run: Run, *, crashed: bool) -> RunSummary:
    """Write the summary and the report, tell the verdicts, and log the run where that is asked for."""
    from flywheel.learning.tracking import log_run
    from flywheel.ops.report import tell_and_write
    from flywheel.ops.tracked import track

    summary = run.journal.summary(ended=True, crashed=crashed)
    run.progress.close()
    tell_and_write(summary, run.journal.folder)
    if run.options.mlflow is not None:
        track(run.options.mlflow, summary, run.journal.folder, log_run)
    return summary


def execute(run: Run, choice: ModelChoice) -> int:
    """Run the cycle and write its summary, whatever happens; the exit code."""
    run.journal.save()
    try:
        with signals.sigterm_raises():
            cycle(run, choice)
    except signals.TerminatedError:
        run.journal.error = "terminated"
        finish(run, crashed=True)
        return signals.EXIT_CODE
    except BaseException as error:
        run.journal.error = f"{type(error).__name__}: {error}"
        run.journal.summary(ended=True, crashed=True).write(run.journal.folder)
        run.progress.close()
        raise
    return OK if finish(run, crashed=False).success else NO


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
    args = build_parser().parse_args(argv)
    if args.command == COMMAND:
        return look(args)
    if args.predict:
        return foretell(args)

    from flywheel.base.clock import now
    from flywheel.base.progress import open_progress
    from flywheel.data.git import locate
    from flywheel.learning.choice import choose_judge, choose_model
    from flywheel.learning.preflight import check_judge, check_search
    from flywheel.learning.tracking import check_tracking
    from flywheel.ops.runs import RunJournal

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
    return execute(Run(options, signatures, table, open_progress(), journal, proven), choice)


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
