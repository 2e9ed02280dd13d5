"""The learning half of a run: plan it, optimize each signature within its time, publish what is to be deployed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from flywheel.base.errors import BadInputError, FlywheelError
from flywheel.base.progress import duration
from flywheel.learning.deployment import concluded
from flywheel.learning.judging import planned_calls as judge_calls
from flywheel.learning.ledger import DeadlinePassed, read_calls, totals_of
from flywheel.learning.lm import open_model
from flywheel.learning.prediction import line as foretold
from flywheel.learning.prediction import predict
from flywheel.learning.retest import Retest, retest
from flywheel.learning.session import Assignment, Outcome, Plan, Session, optimize, plan, score_baseline
from flywheel.learning.verdict import SMALLEST_POWERED_TEST

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from flywheel.base.past import Past
    from flywheel.base.progress import Progress
    from flywheel.learning.choice import ModelChoice
    from flywheel.learning.expense import Allowance
    from flywheel.learning.ledger import Ledger, Totals
    from flywheel.learning.lm import RecordedLM
    from flywheel.learning.optimizers import Settings
    from flywheel.learning.verdict import Rule

# Rough seconds a call, to tell beforehand how long a run will take; the embedded model's was measured on two cores.
EMBEDDED_SECONDS, HOSTED_SECONDS = 3.5, 3.0
QUICK_ITEMS = 3
# Beside the results, the answers of each signature's calls in a folder of its own.
CACHE = "cache"
NOT_OPTIMIZED = "not optimized: quick"


@dataclass(frozen=True)
class Terms:
    """How a run's signatures are optimized.

    With `quick`, only that signature is optimized and the others' baselines are scored on a few items. `hours` is each
    signature's time. `results` and `programs` are folders: of the run's results, and of the published programs.
    Without `retest`, a candidate that waits is given up; without `floor`, no labelled examples alone are tested.
    `reflection` is the model that GEPA has reflect, the same one if None.
    `roll_out` takes (signature, baseline file, candidate file) to a rollout and gives its id; None deploys at once.
    `past` is what earlier runs found, by signature, oldest first; `judge` and `reveal` as in Session.
    """

    choice: ModelChoice
    settings: Settings
    rule: Rule
    allowance: Allowance
    quick: str | None
    require_power: bool
    hours: float
    results: Path
    programs: Path
    run_id: str
    retest: bool = True
    roll_out: Callable[[str, Path, Path], str] | None = None
    past: Mapping[str, Sequence[Past]] = field(default_factory=dict)
    floor: bool = True
    reflection: ModelChoice | None = None
    judge: ModelChoice | None = None
    reveal: bool = False

    def searches(self, name: str) -> bool:
        """Whether the signature is to be optimized, not only its baseline scored."""
        return self.quick in {None, name}


def tell_plan(assignments: Sequence[Assignment], terms: Terms, progress: Progress) -> None:
    """Say what the run will take, and what its tests can detect, before anything is spent.

    Raises:
        BadInputError: a test is too small to tell much, and `require_power` is set.
    """
    calls = 0
    for assignment in assignments:
        name, planned = assignment.signature.name, plan(assignment, terms.settings, floor=terms.floor)
        searched = terms.searches(name) and planned.missing is None
        own = planned.calls if searched else min(QUICK_ITEMS, planned.test)
        if searched and terms.judge is not None:
            own += judge_calls(assignment.signature, planned.test)
        calls += own
        progress.line(f"{name}: {planned.train} train, {planned.val} val, {planned.test} test; about {own} model calls")
        if searched:
            _refuse_weak(name, planned, terms)
            wanted = terms.rule.min_improvement
            found = predict(name, assignment.examples, terms.past.get(name, ()), wanted, terms.choice.name)
            progress.line(foretold(found))
    seconds = EMBEDDED_SECONDS if terms.choice.embedded else HOSTED_SECONDS / terms.settings.threads
    progress.line(f"plan: about {calls} model calls, roughly {duration(calls * seconds)}")


def _refuse_weak(name: str, planned: Plan, terms: Terms) -> None:
    if terms.require_power and planned.test < SMALLEST_POWERED_TEST:
        msg = (
            f"{name}: {planned.test} test examples can tell a difference of about {planned.detectable:.0f} points or "
            f"more; collect at least {SMALLEST_POWERED_TEST}, or leave out --require-power"
        )
        raise BadInputError(msg)


@dataclass(frozen=True)
class Worked:
    """What became of one assignment: its outcome or, where there is none, why; what it spent, and its seconds."""

    outcome: Outcome | None
    problem: str | None
    spent: Totals
    seconds: float
    timed_out: bool = False


Executor = Callable[["Sequence[Assignment]", Terms, "Ledger", "Progress"], "Iterator[tuple[Assignment, Worked]]"]


def in_turn(
    assignments: Sequence[Assignment], terms: Terms, ledger: Ledger, progress: Progress
) -> Iterator[tuple[Assignment, Worked]]:
    """Work through the assignments one after another, in this process."""
    for assignment in assignments:
        yield assignment, work(assignment, terms, ledger, progress)


def run_all(
    assignments: Sequence[Assignment],
    terms: Terms,
    ledger: Ledger,
    progress: Progress,
    done: Callable[[str, dict[str, Any]], None],
    executor: Executor = in_turn,
) -> str | None:
    """Work through the assignments, telling `done` each one's figures; an error worth reporting, or None."""
    error = None
    for assignment, worked in executor(assignments, terms, ledger, progress):
        name = assignment.signature.name
        facts: dict[str, Any] = {"model": terms.choice.name}
        problem = worked.problem
        if worked.outcome is not None:
            try:
                facts.update(concluded(assignment, worked.outcome, terms))
            except FlywheelError as found:
                problem = str(found)
        if problem is not None:
            # One signature's damaged program or dataset is no reason to leave out the others.
            error = problem if worked.timed_out else f"{name}: {problem}"
            facts["verdict_reason"] = problem
        facts.update(_spent(worked.spent), stages=_by_stage(ledger.path, name), seconds=round(worked.seconds, 1))
        done(name, facts)
    return error


def work(assignment: Assignment, terms: Terms, ledger: Ledger, progress: Progress) -> Worked:
    """Optimize the assignment, or score only its baseline, within its time."""
    started = time.monotonic()
    ledger.limits = replace(ledger.limits, deadline=started + terms.hours * 3600)
    outcome, problem, timed_out = None, None, False
    try:
        outcome = _work(assignment, terms, ledger, progress)
    except DeadlinePassed:
        problem, timed_out = f"optimization timed out after {terms.hours:g} hours", True
    except FlywheelError as found:
        problem = str(found)
    spent = ledger.totals(assignment.signature.name)
    return Worked(outcome, problem, spent, time.monotonic() - started, timed_out)


def _work(assignment: Assignment, terms: Terms, ledger: Ledger, progress: Progress) -> Outcome:
    """Optimize the assignment, or score only its baseline."""
    name = assignment.signature.name
    cache = terms.results.parent / CACHE / name
    model = open_model(terms.choice, ledger.account(name), cache_folder=cache)
    reflection = open_model(terms.reflection, ledger.account(name), cache_folder=cache) if terms.reflection else None
    missing = plan(assignment, terms.settings).missing
    with (terms.results / "dspy.log").open("a") as log:
        judging = terms.rule, terms.allowance
        judge = _judge(assignment, terms, ledger, cache)
        session = Session(
            model,
            terms.settings,
            *judging,
            progress,
            log,
            terms.run_id,
            terms.results / name,
            reflection,
            terms.floor,
            judge,
            terms.reveal,
        )
        if not terms.searches(name):
            return score_baseline(assignment, session, QUICK_ITEMS, NOT_OPTIMIZED)
        if missing is not None:
            return score_baseline(assignment, session, QUICK_ITEMS, missing)
        found = retest(assignment, session, terms.programs) if terms.retest else Retest(None, given_up=True)
        outcome = found.outcome or optimize(assignment, session)
        outcome.given_up = found.given_up
        return outcome


def _judge(assignment: Assignment, terms: Terms, ledger: Ledger, cache: Path) -> RecordedLM | None:
    """The model that judges the signature's answers; None where none was chosen, or the signature asks for none."""
    if terms.judge is None or not assignment.signature.judge:
        return None
    return open_model(terms.judge, ledger.account(assignment.signature.name), cache_folder=cache)


def _spent(totals: Totals) -> dict[str, Any]:
    tokens = {"input_tokens": totals.input_tokens, "output_tokens": totals.output_tokens, "total_tokens": totals.tokens}
    spent = {"lm_calls": totals.calls, "cached_calls": totals.cached_calls}
    return {**spent, "tokens": tokens, "cost_usd": totals.cost_usd}


def _by_stage(calls: Path, name: str) -> dict[str, Any]:
    """What each of the signature's stages spent, in order of their first call."""
    own = [call for call in read_calls(calls) if call.signature == name]
    stages = dict.fromkeys(call.stage for call in own)
    return {stage: asdict(totals_of(own, stage=stage)) for stage in stages}
