"""The floor: labelled examples as demonstrations of the plain program, which costs no search at all.

It answers the same test examples with the same model in the same run. It decides nothing, and so uses up nothing of
the test; an optimized program that does not beat it is said so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flywheel.learning.examination import ask
from flywheel.learning.examples import all_to_dspy
from flywheel.learning.fewshot import labeled
from flywheel.learning.ledger import RunStopped
from flywheel.learning.pairs import Pairs
from flywheel.learning.program import build_program
from flywheel.learning.stages import FLOOR_TEST
from flywheel.learning.trials import LABELED
from flywheel.learning.verdict import compare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flywheel.learning.assignment import Assignment
    from flywheel.learning.evaluation import Scored
    from flywheel.learning.session import Session
    from flywheel.learning.trials import Settings
    from flywheel.learning.verdict import Verdict


@dataclass(frozen=True)
class Floor:
    """The floor's mean score (0-1), and by how much the optimized program is better, in percent of it with 95 %.

    `beaten`: the interval lies above 0; False: the program is no better as measured; None: too close to tell.
    """

    score: float
    improvement_percent: float
    improvement_ci: tuple[float, float]

    @property
    def beaten(self) -> bool | None:
        """Whether the optimized program beats it."""
        if self.improvement_percent <= 0:
            return False
        return True if self.improvement_ci[0] > 0 else None

    def noted(self, verdict: Verdict) -> Verdict:
        """The verdict, which says so where the floor was not beaten."""
        if self.beaten or verdict.verdict is None:
            return verdict
        low, high = self.improvement_ci
        how = "does not beat" if self.beaten is False else "is not shown to beat"
        said = (
            f"{how} the floor, labelled examples alone: {self.improvement_percent:+.1f} % ({low:+.1f} to {high:+.1f})"
        )
        return replace(verdict, reason=f"{verdict.reason}; {said}")


def floor_calls(test: int, settings: Settings) -> int:
    """About how many model calls the floor takes."""
    return test if settings.labeled_demos and settings.optimizers != (LABELED,) else 0


def measure_floor(
    optimizer: str, candidate: Sequence[Scored], assignment: Assignment, session: Session
) -> Floor | None:
    """Score the floor on the test beside the candidate's answers; None where it is the candidate, or is not to be had.

    A limit that is reached meanwhile costs the floor, not the verdict.
    """
    settings, signature = session.settings, assignment.signature
    if not session.floor or optimizer == LABELED or not settings.labeled_demos:
        return None
    test, train = assignment.split("test"), all_to_dspy(assignment.split("train"), signature)
    program = labeled(build_program(signature), train, settings)
    session.progress.phase(f"floor of {signature.name}", len(test))
    try:
        scored = ask(program, test, signature, session, FLOOR_TEST).scored
    except RunStopped as reason:
        session.progress.line(f"{signature.name}: the floor was not measured: {reason}")
        return None
    items = Pairs(test, scored, candidate).items()
    if not any(item.baseline is not None and item.optimized is not None for item in items):
        return None
    found = compare(items, session.rule.seed)
    return Floor(found.baseline_score, found.improvement_percent, found.improvement_ci)
