"""Two programs' answers to the same examples, side by side."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from flywheel.base.evaluations import Change, Slice, TestScore
from flywheel.learning.verdict import Item

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flywheel.data.examples import Example
    from flywheel.learning.evaluation import Scored

UNKNOWN = "unknown"
MOST_CHANGES = 10
_FACETS = ("source", "difficulty", "category")


def group_of(example: Example) -> str:
    """What the example must not be told apart from: its group, or itself where it has none."""
    return example.metadata.group or example.id or ""


@dataclass(frozen=True)
class Pairs:
    """What baseline and candidate answered, example by example."""

    examples: Sequence[Example]
    baseline: Sequence[Scored]
    optimized: Sequence[Scored]

    def items(self) -> list[Item]:
        """The scores with what the comparison needs to know of each example."""
        return [
            Item(group_of(example), example.metadata.source or "", before.score, after.score)
            for example, before, after in self._rows()
        ]

    def scores(self) -> list[TestScore]:
        """The scores by example id."""
        return [
            TestScore(id=example.id or "", baseline=before.score, optimized=after.score)
            for example, before, after in self._rows()
        ]

    def slices(self) -> dict[str, dict[str, Slice]]:
        """Mean scores by source, by difficulty and by category; parts in order of name."""
        return {facet: self._by(facet) for facet in _FACETS}

    def _by(self, facet: str) -> dict[str, Slice]:
        parts: dict[str, list[tuple[float | None, float | None]]] = defaultdict(list)
        for example, before, after in self._rows():
            parts[getattr(example.metadata, facet) or UNKNOWN].append((before.score, after.score))
        return {name: _slice(parts[name]) for name in sorted(parts)}

    def changes(self, most: int = MOST_CHANGES) -> tuple[list[Change], list[Change]]:
        """The worst regressions and the best gains, at most `most` of each, the largest difference first."""
        found = [
            Change(
                id=example.id or "",
                inputs=example.inputs,
                labels=example.outputs,
                baseline_score=before.score,
                optimized_score=after.score,
                baseline_answer=before.answer,
                optimized_answer=after.answer,
            )
            for example, before, after in self._rows()
            if before.score is not None and after.score is not None and before.score != after.score
        ]
        found.sort(key=lambda change: (change.difference, change.id))
        worst = [change for change in found if change.difference < 0]
        best = [change for change in reversed(found) if change.difference > 0]
        return worst[:most], best[:most]

    def _rows(self) -> list[tuple[Example, Scored, Scored]]:
        return list(zip(self.examples, self.baseline, self.optimized, strict=True))


def _slice(scores: Sequence[tuple[float | None, float | None]]) -> Slice:
    both = [(before, after) for before, after in scores if before is not None and after is not None]
    means = [fmean(side) for side in zip(*both, strict=True)] if both else [None, None]
    return Slice(n=len(scores), n_failed=len(scores) - len(both), baseline=means[0], optimized=means[1])
