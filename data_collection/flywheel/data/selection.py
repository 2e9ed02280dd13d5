"""Which of many examples to keep, so that label, difficulty and category come out as wished."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from typing import TYPE_CHECKING, NamedTuple

from flywheel.data.scenario import DIFFICULTY_TARGET

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from flywheel.data.examples import Example
    from flywheel.data.signatures.types import Signature

# At most so many of one group; the second number holds only where the first leaves the target unmet.
MAX_PER_GROUP = (2, 4)
LABEL_WEIGHT, DIFFICULTY_WEIGHT, CATEGORY_WEIGHT = 3.0, 2.0, 1.0


class Cell(NamedTuple):
    """What is balanced: the label (None where the signature has none), difficulty and category."""

    label: bool | None
    difficulty: str
    category: str


class _Choice:
    """The examples chosen so far, and how far each cell is below its share."""

    def __init__(self, target: int, label_share: float, difficulty: Mapping[str, float], categories: int) -> None:
        self._target = target
        self._labels = {True: label_share, False: 1 - label_share}
        self._difficulty = difficulty
        self._category_share = 1 / max(1, categories)
        self._counts: Counter[object] = Counter()

    def deficit(self, cell: Cell) -> float:
        """How much the cell is wanted: its dimensions' shares still open, weighted; higher is more."""
        open_label = self._open(("label", cell.label), self._labels.get(cell.label or False, 0.0))
        open_label = 0.0 if cell.label is None else open_label
        open_difficulty = self._open(("difficulty", cell.difficulty), self._difficulty.get(cell.difficulty, 0.0))
        open_category = self._open(("category", cell.category), self._category_share)
        return LABEL_WEIGHT * open_label + DIFFICULTY_WEIGHT * open_difficulty + CATEGORY_WEIGHT * open_category

    def _open(self, key: object, share: float) -> float:
        """The part of the share that is not filled yet; negative when it is overfull."""
        return share - self._counts[key] / self._target

    def take(self, cell: Cell) -> None:
        """Count one example of the cell."""
        self._counts.update((("label", cell.label), ("difficulty", cell.difficulty), ("category", cell.category)))


def cell_of(example: Example, signature: Signature) -> Cell:
    """Where the example counts."""
    label = None if signature.label is None else bool(example.outputs.get(signature.label))
    return Cell(label, example.metadata.difficulty or "", example.metadata.category or "")


def select(
    examples: Sequence[Example],
    signature: Signature,
    target: int,
    *,
    difficulty: Mapping[str, float] | None = None,
    max_per_group: Sequence[int] = MAX_PER_GROUP,
) -> list[Example]:
    """At most `target` examples, in their given order, that come close to the wished shares.

    Greedy: each step takes the first example of the cell with the largest deficit. Of one group, as many are taken
    as the first number in `max_per_group` says, and more, up to the next one, only while the target is not met. Equal
    inputs give equal outputs. `difficulty` holds shares that sum to 1 (default: the system's 30/50/20).
    """
    cells = [cell_of(example, signature) for example in examples]
    categories = len({cell.category for cell in cells})
    choice = _Choice(max(1, target), signature.label_share, difficulty or DIFFICULTY_TARGET, categories)
    groups: Counter[str] = Counter()
    chosen: set[int] = set()
    for most in max_per_group:
        waiting: dict[Cell, deque[int]] = defaultdict(deque)
        for index, cell in enumerate(cells):
            if index not in chosen:
                waiting[cell].append(index)
        for index in _drawn(waiting, choice, target - len(chosen)):
            group = examples[index].metadata.group
            if group is None or groups[group] < most:
                groups[group or ""] += 1
                choice.take(cells[index])
                chosen.add(index)
            if len(chosen) >= target:
                break
    return [examples[index] for index in sorted(chosen)]


def _drawn(waiting: dict[Cell, deque[int]], choice: _Choice, wanted: int) -> Iterator[int]:
    """Indexes, each from the cell with the largest deficit at that time; equal ones go to the earliest example."""
    while waiting and wanted > 0:
        cell = min(waiting, key=lambda c: (-choice.deficit(c), waiting[c][0]))
        yield waiting[cell].popleft()
        if not waiting[cell]:
            del waiting[cell]
