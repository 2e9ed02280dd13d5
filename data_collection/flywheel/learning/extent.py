"""How much data an assignment has, and what that is enough for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flywheel.data.test_uses import FAMILY_ALPHA, MOST_USES
from flywheel.learning.verdict import detectable_points

if TYPE_CHECKING:
    from flywheel.learning.assignment import Assignment

FEWEST = {"train": 2, "val": 2, "test": 2}


@dataclass(frozen=True)
class Extent:
    """The sizes of the splits, and what a test of that size can detect (points of 100)."""

    train: int
    val: int
    test: int
    detectable: float

    @property
    def missing(self) -> str | None:
        """Why nothing can be optimized; None when it can."""
        short = [f"{n} {name}" for name, least in FEWEST.items() if (n := getattr(self, name)) < least]
        return f"too few examples to optimize ({', '.join(short)})" if short else None


def extent_of(assignment: Assignment) -> Extent:
    """The extent of an assignment, before anything is spent."""
    train, val, test = (len(assignment.split(name)) for name in FEWEST)
    return Extent(train, val, test, detectable_points(test, FAMILY_ALPHA / MOST_USES))
