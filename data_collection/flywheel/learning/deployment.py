"""What a verdict leads to: the figures for the summary; the candidate kept, published, deployed or rolled out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flywheel.base.clock import now
from flywheel.base.errors import BadInputError, FlywheelError
from flywheel.base.files import write_atomic
from flywheel.base.paths import private_folder
from flywheel.base.programs import FILE_NAME, publish, require_predecessor, succeed
from flywheel.data.additions import retire_test
from flywheel.data.store import load
from flywheel.learning.expense import TOO_EXPENSIVE
from flywheel.learning.program import plain_envelope
from flywheel.learning.verdict import DEPLOY, INCONCLUSIVE
from flywheel.learning.waiting import Waiting, forget, keep, read_waiting

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from flywheel.base.evaluations import Evaluation
    from flywheel.base.programs import Program
    from flywheel.learning.assignment import Assignment
    from flywheel.learning.cycle import Terms
    from flywheel.learning.session import Outcome
    from flywheel.learning.waiting import Evidence

# What a plain program that is published as a rollout's baseline has in common with the candidate.
SHARED_FACTS = ("adapter", "model", "model_snapshot", "model_parameters", "run_id", "created")


def concluded(assignment: Assignment, outcome: Outcome, terms: Terms) -> dict[str, Any]:
    """The outcome as the run's summary tells it, after publishing what the verdict says to deploy."""
    facts: dict[str, Any] = {
        "baseline": outcome.baseline,
        "baseline_score": outcome.baseline_score,
        "n_test": outcome.n_test,
        "n_failed": outcome.n_failed,
        "n_test_by_source": outcome.n_test_by_source,
        "verdict": outcome.verdict.verdict,
        "verdict_reason": outcome.verdict.reason,
        "examples_needed": outcome.verdict.examples_needed,
    }
    if outcome.comparison is None:
        return facts
    compared = ("optimized_score", "improvement_percent", "improvement_ci", "p_value", "minimum_detectable_percent")
    return {
        **facts,
        **{name: getattr(outcome.comparison, name) for name in compared},
        "optimizer": outcome.optimizer,
        "trials": len(outcome.trials),
        "validation_score": max(trial.best for trial in outcome.trials) / 100 if outcome.trials else None,
        **_searched(outcome),
        **_taken(outcome),
        **_waited(outcome),
        **_publish(assignment, outcome, terms),
    }


def _searched(outcome: Outcome) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    if outcome.searched is not None:
        how = ("trials_used", "trials_saved", "stopped")
        facts = {name: getattr(outcome.searched, name) for name in how} | {"search_ended": outcome.searched.ended}
    if outcome.floor is not None:
        facts |= {"floor_score": outcome.floor.score, "floor_ci": outcome.floor.improvement_ci}
        facts["beats_floor"] = outcome.floor.beaten
    return facts


def _taken(outcome: Outcome) -> dict[str, Any]:
    names = ("cost_delta", "cost_ratio", "token_ratio", "latency_delta_ms")
    return {name: getattr(outcome.expense, name) for name in names} if outcome.expense else {}


def _waited(outcome: Outcome) -> dict[str, Any]:
    if outcome.evidence is None:
        return {}
    return {"e_value": outcome.evidence.e_value, "tests": len(outcome.evidence.tests)}


def _publish(assignment: Assignment, outcome: Outcome, terms: Terms) -> dict[str, Any]:
    """Keep the candidate and its figures with the run; publish and deploy it where the verdict says so."""
    folder = private_folder(terms.results / assignment.signature.name)
    if outcome.evaluation is not None:
        _show(assignment, outcome.evaluation, terms.run_id)
        tests = outcome.evidence.history if outcome.evidence else []
        outcome.evaluation.model_copy(update={"tests": tests}).write(folder)
    if outcome.program is None:
        return {}
    write_atomic(folder / FILE_NAME, outcome.program.to_json())
    _keep_or_forget(assignment.signature.name, outcome, terms)
    snapshot = {"model_snapshot": outcome.program.model_snapshot}
    if outcome.verdict.verdict != DEPLOY:
        return {**snapshot, "module_path": str(folder / FILE_NAME)}
    if terms.roll_out is not None:
        return {**snapshot, **_roll_out(terms.roll_out, assignment, outcome.program, outcome.verdict.reason, terms)}
    path = publish(terms.programs, outcome.program, now())
    facts = {**snapshot, "module_path": str(path)}
    try:
        succeed(terms.programs, assignment.deployed, path)
    except BadInputError as moved:
        return {**facts, "verdict_reason": f"{outcome.verdict.reason}; not deployed: {moved}"}
    return {**facts, "deployed": True}


def _show(assignment: Assignment, evaluation: Evaluation, run_id: str) -> None:
    """Retire the test split into train before its texts are shown, unless that was done."""
    name, root = assignment.signature.name, assignment.datasets
    if evaluation.shown_split != "test":
        return
    shown = {row.id for row in evaluation.test}
    if any(example.split == "test" and example.id in shown for example in load(root, name)[1]):
        retire_test(root, assignment.signature, f"shown in the report of {run_id}", now())


def _keep_or_forget(name: str, outcome: Outcome, terms: Terms) -> None:
    """Let what more test groups could decide wait for them; what is decided waits no longer."""
    undecided = outcome.verdict.verdict == INCONCLUSIVE and not outcome.verdict.reason.startswith(TOO_EXPENSIVE)
    if undecided and outcome.evidence is not None and outcome.program is not None:
        if outcome.searched and not outcome.given_up and _more_promising(name, outcome.evidence, terms):
            return
        keep(terms.programs, Waiting(outcome.program, outcome.evidence))
    elif outcome.given_up or outcome.verdict.verdict == DEPLOY or not outcome.searched:
        forget(terms.programs, name)


def _more_promising(name: str, found: Evidence, terms: Terms) -> bool:
    """Whether a candidate waits already, for want of fresh groups, that more speaks for than for the one found now."""
    old = read_waiting(terms.waiting, name)
    return old is not None and old.evidence.e_value > found.e_value


def _roll_out(
    begin: Callable[[str, Path, Path], str], assignment: Assignment, program: Program, reason: str, terms: Terms
) -> dict[str, Any]:
    """Publish the candidate and start its rollout against what serves now; without one, against the plain program."""
    signature = assignment.signature
    baseline = assignment.deployed
    if baseline is None:
        same = {name: getattr(program, name) for name in SHARED_FACTS}
        baseline = publish(terms.programs, plain_envelope(signature, **same), now())
    path = publish(terms.programs, program, now())
    try:
        require_predecessor(terms.programs, assignment.deployed, path)
        return {"module_path": str(path), "experiment_id": begin(signature.name, baseline, path)}
    except FlywheelError as problem:
        # The verdict stands, and the program is there to be rolled out by hand.
        return {"module_path": str(path), "verdict_reason": f"{reason}; not rolled out: {problem}"}
