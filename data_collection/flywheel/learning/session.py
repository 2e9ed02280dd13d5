"""One signature's part of a run: score the baseline, search for a better program, compare both on the test split.

The test split is touched only at the end, by both programs, with the same metric and model in the same run.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from flywheel.base.clock import iso, now
from flywheel.base.programs import Program, ProgramScores
from flywheel.data.test_uses import alpha_for, record_use
from flywheel.learning.assignment import Assignment, baseline_of
from flywheel.learning.budget import begin_test
from flywheel.learning.evaluation import mean_score
from flywheel.learning.examination import (
    BASELINE_VAL,
    CANDIDATE_VAL,
    NOTHING_EXAMINED,
    Examined,
    ask,
    ask_both,
    evaluation_of,
)
from flywheel.learning.expense import Allowance, Expense, weighed
from flywheel.learning.floor import Floor, measure_floor
from flywheel.learning.judging import consult
from flywheel.learning.limits import RunStopped
from flywheel.learning.lm import adapter_for, parameters_of
from flywheel.learning.program import to_envelope
from flywheel.learning.rendering import shown
from flywheel.learning.search import search
from flywheel.learning.stages import BASELINE_TEST
from flywheel.learning.verdict import REJECT, Comparison, Rule, Verdict, compare, judge
from flywheel.learning.vetting import fit_to_keep, unfit_instructions
from flywheel.learning.waiting import Evidence

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import dspy

    from flywheel.base.evaluations import Evaluation
    from flywheel.base.progress import Progress
    from flywheel.data.examples import Example
    from flywheel.data.signatures.types import Signature
    from flywheel.learning.lm import RecordedLM
    from flywheel.learning.optimizers import Searched, Settings, Trial

UNCHANGED = "the search found nothing better than the baseline, which stays; no use of the test split was counted"


@dataclass(frozen=True)
class Session:
    """With what: the model, how much to search, how to judge, where to write DSPy's own log.

    `folder` takes the journal of the search; `reflection` is the model that GEPA has reflect, the same one if None;
    without `floor`, no labelled examples alone are tested beside. `judge` is a second model that gives its
    opinion of the test answers; with `reveal` the texts of the test may be shown.
    """

    model: RecordedLM
    settings: Settings
    rule: Rule
    allowance: Allowance
    progress: Progress
    log: Any
    run_id: str
    folder: Path | None = None
    reflection: RecordedLM | None = None
    floor: bool = True
    judge: RecordedLM | None = None
    reveal: bool = False


@dataclass
class Outcome:
    """What came of it; scores 0-1. `program` is the envelope to publish, where a candidate was compared.

    `evidence` is what is known of the candidate over all its tests; `given_up`: one that waited does so no longer.
    """

    baseline: str
    baseline_score: float | None
    n_test_by_source: dict[str, int]
    n_failed: int
    verdict: Verdict
    seconds: float
    comparison: Comparison | None = None
    program: Program | None = None
    trials: list[Trial] = field(default_factory=list)
    searched: Searched | None = None
    floor: Floor | None = None
    evaluation: Evaluation | None = None
    expense: Expense | None = None
    evidence: Evidence | None = None
    given_up: bool = False

    @property
    def optimizer(self) -> str | None:
        """Which optimizer found the candidate; None where there is none."""
        if self.searched is not None:
            return self.searched.optimizer
        return self.program.optimizer if self.program else None

    @property
    def n_test(self) -> int:
        """How many test examples were asked."""
        return sum(self.n_test_by_source.values())


def score_baseline(assignment: Assignment, session: Session, most: int, reason: str) -> Outcome:
    """Score the baseline alone on at most `most` test examples; the verdict is None, for `reason`."""
    started = time.monotonic()
    examples = assignment.split("test")[:most]
    name, program = baseline_of(assignment)
    session.progress.phase(f"baseline of {assignment.signature.name}", len(examples))
    scored = ask(program, examples, assignment.signature, session, BASELINE_TEST).scored
    failed = sum(item.score is None for item in scored)
    score, seconds = mean_score(scored), time.monotonic() - started
    return Outcome(name, score, _by_source(examples), failed, Verdict(None, reason), seconds)


def optimize(assignment: Assignment, session: Session) -> Outcome:
    """Search on train and val, compare on test, judge; see Outcome."""
    started = time.monotonic()
    _present_alpha(assignment, session)
    signature, test, val = assignment.signature, assignment.split("test"), assignment.split("val")
    name, baseline = baseline_of(assignment)
    compiled = search(baseline, assignment, session)
    begin_test(session.model.account)
    candidate = fit_to_keep(compiled.program, session.progress.line)
    session.progress.phase(f"test of {signature.name}", 2 * len(test) + 2 * len(val))
    before, after = (shown(program, signature, adapter_for(session.model)) for program in (baseline, candidate))
    programs = baseline, baseline if before == after else candidate
    tested = ask_both(programs, test, signature, session)
    seen = tested if session.reveal else _seen(programs, val, signature, session)
    outcome = Outcome(name, mean_score(tested.pairs.baseline), _by_source(test), 0, Verdict(None, ""), 0.0)
    outcome.trials, outcome.searched, outcome.expense = compiled.trials, compiled.searched, tested.expense
    outcome.evaluation = evaluation_of(compiled.trials, tested, seen, before, after)
    _conclude(outcome, candidate, tested, assignment, session)
    outcome.floor = measure_floor(compiled.optimizer, tested.pairs.optimized, assignment, session)
    if outcome.floor is not None:
        outcome.verdict = outcome.floor.noted(outcome.verdict)
    if compiled.stopped is not None:
        told = f"{outcome.verdict.reason}; partial: the search was stopped: {compiled.stopped}"
        outcome.verdict = replace(outcome.verdict, reason=told)
    consult(outcome, tested.pairs, signature, session)
    outcome.seconds = time.monotonic() - started
    return outcome


def _seen(
    programs: tuple[dspy.Module, dspy.Module], val: Sequence[Example], signature: Signature, session: Session
) -> Examined:
    """Both programs' answers to the validation examples, which can be shown; none where a limit does not allow it."""
    try:
        return ask_both(programs, val, signature, session, (BASELINE_VAL, CANDIDATE_VAL))
    except RunStopped as reason:
        session.progress.line(f"{signature.name}: the report shows no examples: {reason}")
        return NOTHING_EXAMINED


def _conclude(
    outcome: Outcome, candidate: dspy.Module, tested: Examined, assignment: Assignment, session: Session
) -> None:
    items = tested.pairs.items()
    outcome.n_failed = sum(item.baseline is None or item.optimized is None for item in items)
    if outcome.n_failed == len(items):
        outcome.verdict = Verdict(None, f"none of {len(items)} test examples was answered")
        return
    unchanged = outcome.evaluation is not None and outcome.evaluation.before == outcome.evaluation.after
    # What is compared with itself can pass by no luck, so it uses up no test.
    alpha = (_present_alpha if unchanged else _recorded_alpha)(assignment, session)
    found = compare(items, session.rule.seed, alpha)
    outcome.comparison = found
    outcome.baseline_score = found.baseline_score
    if unchanged:
        outcome.verdict = Verdict(REJECT, UNCHANGED)
        return
    unfit = unfit_instructions(candidate)
    if unfit:
        outcome.verdict = Verdict(REJECT, f"its instructions must not be kept: {', '.join(sorted(unfit))}")
        return
    outcome.verdict = weighed(judge(found, session.rule), tested.expense, session.allowance)
    scores = ProgramScores(
        baseline=found.baseline_score,
        optimized=found.optimized_score,
        improvement_percent=found.improvement_percent,
        improvement_ci=found.improvement_ci,
        n_test=found.n_test,
    )
    outcome.program = to_envelope(
        candidate,
        assignment.signature,
        model_snapshot=tested.snapshot,
        adapter=type(adapter_for(session.model)).__name__,
        model=session.model.model,
        model_parameters=parameters_of(session.model),
        optimizer=outcome.optimizer,
        seed=session.settings.seed,
        dataset_version=assignment.dataset_version,
        dataset_hash=assignment.dataset_hash,
        run_id=session.run_id,
        created=iso(now()),
        scores=scores,
    )
    outcome.evidence = Evidence(baseline=outcome.baseline).after(items, session.run_id)


def _present_alpha(own: Assignment, session: Session) -> float:
    """The error rate that a verdict of this run may take; nothing is counted."""
    return alpha_for(own.datasets, own.signature.name, session.run_id)


def _recorded_alpha(own: Assignment, session: Session) -> float:
    """Count this verdict among those of the test split; the error rate that it may take."""
    return record_use(own.datasets, own.signature.name, session.run_id, own.dataset_version, now())


def _by_source(examples: Sequence[Example]) -> dict[str, int]:
    return dict(sorted(Counter(example.metadata.source or "unknown" for example in examples).items()))
