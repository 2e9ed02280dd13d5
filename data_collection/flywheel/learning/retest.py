"""Retest, not restart: what no test could decide upon yet is tested on fresh groups before new trials are bought."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flywheel.base.clock import now
from flywheel.base.errors import BadInputError, DamagedError
from flywheel.base.programs import ProgramScores
from flywheel.data.test_uses import alpha_for, record_use
from flywheel.data.whole import whole_groups
from flywheel.learning.assignment import baseline_of
from flywheel.learning.budget import begin_search
from flywheel.learning.examination import NOTHING_EXAMINED, ask_both, evaluation_of
from flywheel.learning.expense import weighed
from flywheel.learning.judging import consult
from flywheel.learning.lm import adapter_for
from flywheel.learning.pairs import group_of
from flywheel.learning.program import from_envelope
from flywheel.learning.rendering import shown
from flywheel.learning.session import Outcome
from flywheel.learning.verdict import (
    DEPLOY,
    INCONCLUSIVE,
    MAX_SYNTHETIC_SHARE,
    MIN_COVERAGE,
    REJECT,
    Rule,
    Verdict,
    compare,
)
from flywheel.learning.waiting import ENOUGH, MOST_TESTS, Evidence, Waiting, read_waiting

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

    from flywheel.data.examples import Example
    from flywheel.learning.assignment import Assignment
    from flywheel.learning.session import Session

FEWEST_GROUPS = 5
BASELINE_RETEST, CANDIDATE_RETEST = "retest-baseline", "retest-candidate"


@dataclass(frozen=True)
class Retest:
    """What came of it: an outcome, or None where a new search is to follow; whether the old candidate is given up.

    `beaten`: it is given up for what a test has shown.
    """

    outcome: Outcome | None
    given_up: bool = False
    beaten: bool = False


def retest(assignment: Assignment, session: Session, programs: Path) -> Retest:
    """Test the waiting candidate, where there is one and enough fresh test groups; the reasons are told."""
    name = assignment.signature.name
    try:
        waiting = read_waiting(programs, name)
        if waiting is None:
            return Retest(None)
        candidate = from_envelope(waiting.program, assignment.signature)
    except (BadInputError, DamagedError) as problem:
        session.progress.line(f"{name}: its waiting candidate cannot be used: {problem}")
        return Retest(None, given_up=True)
    baseline_name, baseline = baseline_of(assignment)
    origin = f"{name}: the candidate of {waiting.program.run_id}"
    if waiting.evidence.baseline != baseline_name or waiting.program.model != session.model.model:
        session.progress.line(f"{origin} is given up: baseline or model are no longer those that it was tested with")
        return Retest(None, given_up=True)
    fresh = _fresh(assignment, waiting)
    groups = len({group_of(example) for example in fresh})
    if groups < FEWEST_GROUPS:
        session.progress.line(f"{origin} waits on: {groups} fresh test groups, {FEWEST_GROUPS} needed")
        return Retest(None)
    alpha_for(assignment.datasets, name, session.run_id)
    session.progress.line(f"{origin} is tested on {groups} fresh groups before new trials are bought")
    return _tested((baseline, candidate), fresh, waiting, assignment, session)


def _fresh(assignment: Assignment, waiting: Waiting) -> list[Example]:
    """The test examples whose groups the candidate was not tested on."""
    groups_now = whole_groups(assignment.datasets, assignment.signature.name)
    # A group that has become part of one that was looked at is not fresh, under whatever name.
    seen = {groups_now.find(group) for group in waiting.evidence.groups}
    return [example for example in assignment.split("test") if groups_now.find(group_of(example)) not in seen]


def fresh_examples(assignment: Assignment, programs: Path) -> int:
    """How many test examples a retest will ask both programs, if nothing speaks against it; 0 when none is due."""
    try:
        waiting = read_waiting(programs, assignment.signature.name)
    except (BadInputError, DamagedError):
        return 0
    fresh = _fresh(assignment, waiting) if waiting is not None else []
    return len(fresh) if len({group_of(example) for example in fresh}) >= FEWEST_GROUPS else 0


def _tested(
    programs: tuple[Any, Any], fresh: Sequence[Example], waiting: Waiting, assignment: Assignment, session: Session
) -> Retest:
    started = time.monotonic()
    signature = assignment.signature
    session.progress.phase(f"retest of {signature.name}", 2 * len(fresh))
    tested = ask_both(programs, fresh, signature, session, (BASELINE_RETEST, CANDIDATE_RETEST))
    begin_search(session.model.account)
    items = tested.pairs.items()
    failed = sum(item.baseline is None or item.optimized is None for item in items)
    sources = dict(sorted(Counter(item.source or "unknown" for item in items).items()))
    outcome = Outcome(waiting.evidence.baseline, None, sources, failed, Verdict(None, ""), 0.0)
    outcome.seconds = time.monotonic() - started
    if 1 - failed / len(items) < MIN_COVERAGE:
        # Nothing is learned, and nothing is used up.
        outcome.verdict = Verdict(None, f"retest: only {len(items) - failed} of {len(items)} examples were answered")
        return Retest(outcome)
    alpha = record_use(assignment.datasets, signature.name, session.run_id, assignment.dataset_version, now())
    found = compare(items, session.rule.seed, alpha)
    evidence = waiting.evidence.after(items, session.run_id)
    verdict = decide(evidence, session.rule)
    if verdict is None:
        session.progress.line(f"{signature.name}: {told(evidence)}: given up; a new search follows")
        return Retest(None, given_up=True, beaten=True)
    scores = ProgramScores(
        found.baseline_score, found.optimized_score, found.improvement_percent, found.improvement_ci, found.n_test
    )
    outcome.comparison, outcome.baseline_score = found, found.baseline_score
    outcome.expense, outcome.evidence = tested.expense, evidence
    outcome.program = replace(waiting.program, scores=scores)
    outcome.verdict = weighed(verdict, tested.expense, session.allowance)
    seen = tested if session.reveal else NOTHING_EXAMINED
    before, after = (shown(program, signature, adapter_for(session.model)) for program in programs)
    outcome.evaluation = evaluation_of([], tested, seen, before, after)
    consult(outcome, tested.pairs, signature, session)
    return Retest(outcome)


def told(evidence: Evidence) -> str:
    """`e-value 12.3 (40 needed) after 2 tests of 91 examples in all, +8.1 %`."""
    count = len(evidence.tests)
    tests = f"{count} test{'s' if count > 1 else ''} of {evidence.n} examples in all"
    return f"e-value {evidence.e_value:.1f} ({ENOUGH:g} needed) after {tests}, {evidence.improvement_percent:+.1f} %"


def decide(evidence: Evidence, rule: Rule) -> Verdict | None:
    """The verdict on all tests together; None: give it up and search anew."""
    improvement = evidence.improvement_percent
    if evidence.e_value >= ENOUGH:
        if improvement < rule.min_improvement:
            return Verdict(REJECT, f"better by less than {rule.min_improvement:g} %: {told(evidence)}")
        if evidence.synthetic_share > MAX_SYNTHETIC_SHARE and not rule.allow_synthetic_test:
            share = f"{evidence.synthetic_share:.0%} of the test examples are synthetic"
            return Verdict(INCONCLUSIVE, f"{told(evidence)}, but {share}; accept it by --allow-synthetic-test")
        return Verdict(DEPLOY, told(evidence))
    if improvement <= 0 or len(evidence.tests) >= MOST_TESTS:
        return None
    return Verdict(INCONCLUSIVE, f"{told(evidence)}; kept for the next run's fresh test groups")
