"""The largest part of a batch that passes its quality gate, as a small integer program; the only door to highspy.

Examples that the gate cannot tell apart (same difficulty, label, source, category) form a cell; the unknowns are how
many of each to keep. Every share that the gate holds is linear in them, so HiGHS (Huangfu and Hall 2018) finds a
provably largest selection. Of a cell the best stay, then those of the smaller id.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from flywheel.data.examples import canonical

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import highspy

    from flywheel.data.examples import Example
    from flywheel.data.signatures.types import Gate, Signature

# Shares are held to whole examples: coefficients are scaled to integers, which no rounding touches.
_SCALE = 10_000


class Cell(NamedTuple):
    """What the gate looks at; None for what an example does not say, or what the gate does not look at."""

    difficulty: str | None
    label: bool | None
    source: str
    category: str | None

    def __str__(self) -> str:
        """`easy/True/git/api`."""
        return "/".join(str(part) for part in self if part is not None)


@dataclass(frozen=True)
class Bound:
    """`low` and `high` times the whole is what the cells may hold together; `slack` examples less or more are fine."""

    cells: frozenset[Cell]
    low: float
    high: float
    slack: float


def cell_of(signature: Signature, gate: Gate, example: Example) -> Cell:
    """The cell that an example is in."""
    facts = example.metadata
    judged = gate.check_label and signature.label is not None
    label = bool(example.outputs[str(signature.label)]) if judged else None
    return Cell(facts.difficulty, label, facts.source or "unknown", facts.category)


def bounds(signature: Signature, gate: Gate, cells: Sequence[Cell]) -> Iterator[Bound]:
    """The gate's shares, as quality_gates.py checks them in a batch that is large enough to judge."""
    near = gate.tolerance
    for level, share in gate.difficulty.items():
        inside = frozenset(cell for cell in cells if cell.difficulty == level)
        yield Bound(inside, max(0.0, share - near), min(1.0, share + near), 0.5)
    if gate.check_label and signature.label is not None:
        inside = frozenset(cell for cell in cells if cell.label)
        low, high = max(0.0, signature.label_share - near), min(1.0, signature.label_share + near)
        yield Bound(inside, low, high, 0.5)
    for source in sorted({cell.source for cell in cells}):
        yield Bound(frozenset(cell for cell in cells if cell.source == source), 0.0, gate.max_source_share, 0.0)


def largest(signature: Signature, gate: Gate, examples: Sequence[Example], small: int) -> list[Example]:
    """The largest selection of `examples` that passes the gate, in their order; empty when none does.

    Every example must reach the gate's least quality. Fewer than `small` examples are too few to hold shares against.
    """
    members: dict[Cell, list[Example]] = defaultdict(list)
    for example in sorted(examples, key=_rank):
        members[cell_of(signature, gate, example)].append(example)
    cells = sorted(members, key=repr)
    sizes = {cell: len(members[cell]) for cell in cells}
    categories = {cell.category for cell in cells} - {None}
    if len(categories) < gate.min_categories:
        return []
    chosen = _solve(sizes, list(bounds(signature, gate, cells)), gate.min_categories)
    few = min(len(examples), small - 1)
    if chosen.total() <= few and few >= gate.min_categories:
        chosen = _any(sizes, few, gate.min_categories)
    kept = {id(example) for cell, count in chosen.items() for example in members[cell][:count]}
    return [example for example in examples if id(example) in kept]


def _rank(example: Example) -> tuple[float, str, str]:
    return -(example.metadata.quality_score or 0.0), str(example.id), canonical(example.to_dict())


def _any(sizes: Mapping[Cell, int], count: int, categories: int) -> Counter[Cell]:
    """`count` examples, of as many categories as are asked for, evenly over the cells."""
    chosen: Counter[Cell] = Counter()
    first = {cell.category: cell for cell in reversed(list(sizes)) if cell.category is not None}
    for cell in list(first.values())[:categories]:
        chosen[cell] += 1
    while chosen.total() < count:
        for cell in sizes:
            if chosen[cell] < sizes[cell] and chosen.total() < count:
                chosen[cell] += 1
    return chosen


def _whole(share: float) -> int:
    return round(share * _SCALE)


def _quiet_model() -> highspy.Highs:
    """A solver that prints nothing: HiGHS writes its banner to stdout, where only results belong."""
    import highspy

    class Quiet(highspy.Highs):  # type: ignore[misc]
        def enableCallbacks(self) -> None:  # noqa: N802 - what the constructor calls first
            self.setOptionValue("output_flag", False)
            super().enableCallbacks()

    return Quiet()


def _solve(sizes: Mapping[Cell, int], limits: Sequence[Bound], categories: int) -> Counter[Cell]:
    """How many of each cell a largest selection keeps; none where nothing but nothing fits."""
    import highspy

    model = _quiet_model()
    model.setOptionValue("mip_rel_gap", 0.0)
    model.setOptionValue("mip_feasibility_tolerance", 1e-9)
    integer = highspy.HighsVarType.kInteger
    kept = {cell: model.addVariable(lb=0, ub=size, type=integer) for cell, size in sizes.items()}
    for bound in limits:
        for share, sign in ((bound.low, 1), (bound.high, -1)):
            terms = [
                (sign * (_SCALE * (cell in bound.cells) - _whole(share))) * unknown for cell, unknown in kept.items()
            ]
            model.addConstr(sum(terms) >= -round(bound.slack * _SCALE))
    seen = []
    for category in sorted({cell.category for cell in sizes} - {None}, key=str):
        shown = model.addVariable(lb=0, ub=1, type=integer)
        model.addConstr(shown <= sum(kept[cell] for cell in sizes if cell.category == category))
        seen.append(shown)
    if categories:
        model.addConstr(sum(seen) >= categories)
    model.maximize(sum(kept.values()))
    if model.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return Counter()
    return Counter({cell: round(model.variableValue(unknown)) for cell, unknown in kept.items()})
