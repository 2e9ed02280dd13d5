"""The learning half of a run: plan it, optimize each signature within its time, publish what is to be deployed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from flywheel.base.errors import FlywheelError, ModelError
from flywheel.learning.budget import UNLIMITED, Budget, begin_retest, begin_search, begin_test, end, ran_out, timed_out
from flywheel.learning.deployment import concluded
from flywheel.learning.extent import extent_of
from flywheel.learning.ledger import BudgetExhausted, DeadlinePassed, read_calls
from flywheel.learning.lm import open_model
from flywheel.learning.preflight import explained
from flywheel.learning.replay import ModelRefused
from flywheel.learning.retest import Retest, retest
from flywheel.learning.session import Outcome, Session, optimize, score_baseline
from flywheel.learning.spending import by_stage, told_of
from flywheel.learning.waiting import forget

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from flywheel.base.past import Past
    from flywheel.base.progress import Progress
    from flywheel.learning.assignment import Assignment
    from flywheel.learning.choice import ModelChoice
    from flywheel.learning.expense import Allowance
    from flywheel.learning.ledger import Account, Ledger, Totals
    from flywheel.learning.lm import RecordedLM
    from flywheel.learning.optimizers import Settings
    from flywheel.learning.verdict import Rule

QUICK_ITEMS = 3
# Beside the results, the answers of each signature's calls in a folder of its own.
CACHE = "cache"
# The folder beside the results that holds what waited for its next test when the run began.
START = "start"
NOT_OPTIMIZED = "not optimized: quick"


@dataclass(frozen=True)
class Terms:
    """How a run's signatures are optimized.

    With `quick`, only that signature is optimized and the others' baselines are scored on a few items. `hours` is each
    signature's time. `results` and `programs` are folders: of the run's results, and of the published programs.
    Without `retest`, a candidate that waits is given up; without `floor`, no labelled examples alone are tested.
    `reflection` is the model that GEPA has reflect, the same one if None.
    `roll_out` takes (signature, baseline file, candidate file) to a rollout and gives its id; None deploys at once.
    `past` is what earlier runs found, by signature, oldest first; `judge` and `reveal` as in Session. The limits hold
    for all signatures together; `unsearched` says of whom they pay the retest alone, and why no search.
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
    max_calls: int | None = None
    max_cost_usd: float | None = None
    resumed: bool = False
    unsearched: Mapping[str, str] = field(default_factory=dict)

    @property
    def waiting(self) -> Path:
        """Below which folder the candidates wait: as they did when the run began, where that was kept."""
        kept = self.results.parent / START
        return kept if kept.is_dir() else self.programs

    def searches(self, name: str) -> bool:
        """Whether the signature is to be optimized, not only its baseline scored."""
        return self.quick in {None, name}


@dataclass(frozen=True)
class Worked:
    """What became of one assignment: its outcome or, where there is none, why; what it spent, and its seconds.

    `stopped`: why a limit left it without an outcome. `refused`: the run cannot go on, since the model answers nothing.
    `given_up`: a retest has shown that the candidate that waited is no better.
    """

    outcome: Outcome | None
    problem: str | None
    spent: Totals
    seconds: float
    stopped: str | None = None
    refused: bool = False
    given_up: bool = False

    @property
    def cut_short(self) -> str | None:
        """Why a limit stopped its search or, worse, its test; None when nothing did."""
        searched = self.outcome.searched if self.outcome else None
        return self.stopped or (searched.stopped if searched else None)


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
    budget: Budget = UNLIMITED,
) -> str | None:
    """Work through the assignments, telling `done` each one's figures; an error worth reporting, or None.

    What the budget keeps back must be kept by the ledger's gate already.

    Raises:
        ModelError: a resumed run's model answers nothing.
    """
    error = None
    for name, reason in budget.unpaid.items():
        error = f"{name}: {reason}"
        done(name, {"model": terms.choice.name, "verdict_reason": reason, "stopped": reason, "partial": True})
    paid = [assignment for assignment in assignments if assignment.signature.name not in budget.unpaid]
    for assignment, worked in executor(paid, replace(terms, unsearched=budget.unsearched), ledger, progress):
        name = assignment.signature.name
        facts: dict[str, Any] = {"model": terms.choice.name}
        problem = worked.problem
        if worked.refused:
            raise ModelError(str(problem))
        if worked.given_up and worked.outcome is None:
            # Its test groups were looked at: it must not meet them again, whatever became of the search that followed.
            forget(terms.programs, name)
        if worked.outcome is not None:
            try:
                facts.update(concluded(assignment, worked.outcome, terms))
            except FlywheelError as found:
                problem = str(found)
        if problem is not None:
            # One signature's damaged program or dataset is no reason to leave out the others.
            error = f"{name}: {problem}"
            facts["verdict_reason"] = problem
        if worked.cut_short == timed_out(terms.hours):
            error = worked.cut_short
        facts.update(stopped=worked.cut_short, partial=worked.cut_short is not None)
        facts.update(
            told_of(worked.spent), stages=by_stage(read_calls(ledger.path), name), seconds=round(worked.seconds, 1)
        )
        done(name, facts)
    return error


def work(assignment: Assignment, terms: Terms, ledger: Ledger, progress: Progress) -> Worked:
    """Optimize the assignment, or score only its baseline, within its time."""
    started = time.monotonic()
    deadline = started + terms.hours * 3600
    ledger.limits = replace(ledger.limits, deadline=deadline, told_late=timed_out(terms.hours))
    account = ledger.account(assignment.signature.name)
    begin_retest(account)
    done = _Done()
    problem, stopped, refused = None, None, False
    # A resumed run makes no call to try the model: its first call that is not replayed has to be answered.
    ledger.replay.unproven = terms.resumed
    try:
        _work(assignment, terms, account, progress, done)
        problem = stopped = done.unsearched
    except DeadlinePassed:
        problem = stopped = timed_out(terms.hours)
    except BudgetExhausted as reason:
        problem = stopped = ran_out(account, reason)
    except ModelRefused as refusal:
        problem, refused = str(explained(terms.choice.name, refusal.error)), True
    except FlywheelError as found:
        problem = str(found)
    end(account)
    spent = ledger.totals(assignment.signature.name)
    return Worked(done.outcome, problem, spent, time.monotonic() - started, stopped, refused, done.beaten)


@dataclass
class _Done:
    """How far the work has come, wherever it ends; `beaten` as Retest has it, `unsearched` as Terms."""

    outcome: Outcome | None = None
    beaten: bool = False
    unsearched: str | None = None


def _work(assignment: Assignment, terms: Terms, account: Account, progress: Progress, done: _Done) -> None:
    """Optimize the assignment, or score only its baseline."""
    name = assignment.signature.name
    cache = terms.results.parent / CACHE / name
    model = open_model(terms.choice, account, cache_folder=cache)
    reflection = open_model(terms.reflection, account, cache_folder=cache) if terms.reflection else None
    missing = extent_of(assignment).missing
    with (terms.results / "dspy.log").open("a") as log:
        session = Session(
            model,
            terms.settings,
            terms.rule,
            terms.allowance,
            progress,
            log,
            terms.run_id,
            folder=terms.results / name,
            reflection=reflection,
            floor=terms.floor,
            judge=_judge(assignment, terms, account, cache),
            reveal=terms.reveal,
        )
        if not terms.searches(name) or missing is not None:
            begin_test(account)
            done.outcome = score_baseline(assignment, session, QUICK_ITEMS, missing or NOT_OPTIMIZED)
            return
        found = retest(assignment, session, terms.waiting) if terms.retest else Retest(None, given_up=True)
        done.outcome, done.beaten = found.outcome, found.beaten
        if found.outcome is None:
            begin_search(account)
            done.unsearched = terms.unsearched.get(name)
        if found.outcome is None and done.unsearched is None:
            done.outcome = optimize(assignment, session)
            done.outcome.given_up = found.given_up


def _judge(assignment: Assignment, terms: Terms, account: Account, cache: Path) -> RecordedLM | None:
    """The model that judges the signature's answers; None where none was chosen, or the signature asks for none."""
    if terms.judge is None or not assignment.signature.judge:
        return None
    return open_model(terms.judge, account, cache_folder=cache)
