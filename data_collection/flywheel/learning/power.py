"""What a run's tests can detect, told before anything is spent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flywheel.base.errors import BadInputError
from flywheel.learning.extent import Extent, extent_of
from flywheel.learning.prediction import line as foretold
from flywheel.learning.prediction import predict
from flywheel.learning.verdict import SMALLEST_POWERED_TEST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flywheel.base.progress import Progress
    from flywheel.learning.assignment import Assignment
    from flywheel.learning.cycle import Terms


def tell_power(assignments: Sequence[Assignment], terms: Terms, progress: Progress) -> None:
    """Say what the tests can detect, before anything is spent.

    Raises:
        BadInputError: a test is too small to tell much, and `require_power` is set.
    """
    for assignment in assignments:
        name, planned = assignment.signature.name, extent_of(assignment)
        progress.line(f"{name}: {planned.train} train, {planned.val} val, {planned.test} test")
        if terms.searches(name) and planned.missing is None:
            _refuse_weak(name, planned, terms)
            wanted = terms.rule.min_improvement
            found = predict(name, assignment.examples, terms.past.get(name, ()), wanted, terms.choice.name)
            progress.line(foretold(found))


def _refuse_weak(name: str, planned: Extent, terms: Terms) -> None:
    if terms.require_power and planned.test < SMALLEST_POWERED_TEST:
        msg = (
            f"{name}: {planned.test} test examples can tell a difference of about {planned.detectable:.0f} points or "
            f"more; collect at least {SMALLEST_POWERED_TEST}, or leave out --require-power"
        )
        raise BadInputError(msg)
