"""Baseline and candidate answer the same examples, and what came of it is put together for verdict and report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flywheel.base.evaluations import Evaluation, Shown, TrialScore, Usage
from flywheel.learning.evaluation import Scored, evaluate_in_turns
from flywheel.learning.examples import all_to_dspy
from flywheel.learning.expense import Expense, usage_of
from flywheel.learning.limits import RunStopped
from flywheel.learning.lm import context_of
from flywheel.learning.metrics import build_metric
from flywheel.learning.optimizers import dspy_kept_quiet
from flywheel.learning.pairs import Pairs
from flywheel.learning.spending import spent
from flywheel.learning.stages import BASELINE_TEST, CANDIDATE_TEST

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import dspy

    from flywheel.data.examples import Example
    from flywheel.data.signatures.types import Signature
    from flywheel.learning.lm import RecordedLM
    from flywheel.learning.optimizers import Trial
    from flywheel.learning.session import Session

BASELINE_VAL, CANDIDATE_VAL = "val-baseline", "val-candidate"


@dataclass(frozen=True)
class Answered:
    """One program's answers in order, what an example took, and which model the server said it was."""

    scored: list[Scored]
    usage: Usage | None
    snapshot: str | None


@dataclass(frozen=True)
class Examined:
    """Both programs' answers to the same examples, and what they took."""

    pairs: Pairs
    expense: Expense | None
    snapshot: str | None


NOTHING_EXAMINED = Examined(Pairs([], [], []), None, None)


def ask(
    program: dspy.Module, examples: Sequence[Example], signature: Signature, session: Session, stage: str
) -> Answered:
    """Score the program on the examples; the calls are recorded under `stage`."""
    return _in_turns([program], examples, signature, session, [stage])[0]


def _in_turns(
    programs: Sequence[dspy.Module],
    examples: Sequence[Example],
    signature: Signature,
    session: Session,
    stages: Sequence[str],
) -> list[Answered]:
    accounts = [session.model.account.part(stage) for stage in stages]
    # A copy has a history of its own, in which answers from the cache still say what they took the first time.
    models = [session.model.copy(account=account) for account in accounts]
    try:
        with dspy_kept_quiet(session.log):
            scored = evaluate_in_turns(
                [_using(model, program) for model, program in zip(models, programs, strict=True)],
                all_to_dspy(examples, signature),
                build_metric(signature),
                threads=session.settings.threads,
                progress=lambda: session.progress.step(spent(accounts[0])),
            )
    except RunStopped:
        with dspy_kept_quiet(session.log):
            for account in accounts:
                account.settle()
        raise
    finally:
        for account in accounts:
            account.close()
    return [
        Answered(own, usage_of(model, stage, len(examples)), snapshot_of(model.history))
        for own, model, stage in zip(scored, models, stages, strict=True)
    ]


def _using(model: RecordedLM, program: dspy.Module) -> Callable[..., dspy.Prediction]:
    """The program, asked by whatever thread, with that model."""

    def run(**inputs: Any) -> dspy.Prediction:
        with context_of(model):
            return program(**inputs)

    return run


def snapshot_of(history: Sequence[dict[str, Any]]) -> str | None:
    """The model that answered, by the provider's own word; several are all named, none told is None."""
    told = sorted({entry["response_model"] for entry in history if entry["response_model"]})
    return ", ".join(told) or None


def ask_both(
    programs: tuple[dspy.Module, dspy.Module],
    examples: Sequence[Example],
    signature: Signature,
    session: Session,
    stages: tuple[str, str] = (BASELINE_TEST, CANDIDATE_TEST),
) -> Examined:
    """Score baseline and candidate on the same examples with the same metric and model, in turns.

    Of one and the same program, the answers are those that it gave once.
    """
    asked = programs if programs[0] is not programs[1] else programs[:1]
    answers = _in_turns(asked, examples, signature, session, stages[: len(asked)])
    before, after = answers[0], answers[-1]
    taken = Expense(before.usage, after.usage) if before.usage and after.usage else None
    return Examined(Pairs(examples, before.scored, after.scored), taken, after.snapshot)


def evaluation_of(trials: Sequence[Trial], tested: Examined, seen: Examined, before: Shown, after: Shown) -> Evaluation:
    """What is kept of the test, and of the examples `seen`, whose texts may be shown: of val, or the test itself."""
    regressions, gains = seen.pairs.changes()
    return Evaluation(
        trials=[TrialScore(number=t.number, score=t.score, full=t.full, best=t.best) for t in trials],
        test=tested.pairs.scores(),
        slices=tested.pairs.slices(),
        shown_split="test" if seen is tested else "val",
        regressions=regressions,
        gains=gains,
        baseline_usage=tested.expense.baseline if tested.expense else None,
        optimized_usage=tested.expense.optimized if tested.expense else None,
        before=before,
        after=after,
    )
