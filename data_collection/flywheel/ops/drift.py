"""Have inputs changed? Two samples compared by length, category and vocabulary.

How much: the population stability index, sum((q - p) * ln(q / p)) over bins (0: alike; 0.1 to 0.25 some, above 0.25
much, by custom). How sure: small samples have a large PSI by chance alone, so the p-value comes from a permutation
test, in which whole units (a commit's examples, a user's calls) change sides together. Bins come from both samples
pooled, which keeps the test exact.
"""

from __future__ import annotations

import math
import random
import re
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

LENGTH_BINS, WORD_BINS = 8, 40
FEWEST_UNITS = 20
PERMUTATIONS = 999
# A p-value that will not be small is not worth the rest of the permutations (Besag and Clifford 1991).
ENOUGH_EXCEEDANCES = 10
LONGEST_TEXT = 20_000
_WORD = re.compile(r"[^\W\d_]{3,}")


@dataclass(frozen=True)
class Input:
    """One call's or example's inputs: length in characters, the words in them; `unit` is what is not independent."""

    unit: str
    length: int
    words: frozenset[str]
    category: str | None


@dataclass(frozen=True)
class Shift:
    """How far a feature of the inputs moved (PSI, at least 0), and how likely that is by chance."""

    psi: float
    p: float


def input_of(unit: str, inputs: Mapping[str, Any], category: str | None = None) -> Input:
    """What is compared of an input."""
    text = " ".join(_texts(inputs))[:LONGEST_TEXT]
    return Input(unit, len(text), frozenset(_WORD.findall(text.casefold())), category)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def shifts(reference: Sequence[Input], current: Sequence[Input], least_psi: float) -> dict[str, Shift]:
    """The shift of every feature whose PSI is `least_psi` or more; none where either side has too few units."""
    if min(len({item.unit for item in side}) for side in (reference, current)) < FEWEST_UNITS:
        return {}
    found = {}
    for name, bins in _features([*reference, *current]).items():
        moved = _Comparison(reference, current, bins)
        if moved.observed >= least_psi:
            found[name] = Shift(moved.observed, moved.p_value())
    return found


def _features(pooled: Sequence[Input]) -> dict[str, list[tuple[int, ...]]]:
    """The bins that each pooled input falls into, by feature."""
    lengths = sorted(item.length for item in pooled)
    edges = sorted({lengths[len(lengths) * k // LENGTH_BINS] for k in range(1, LENGTH_BINS)})
    features: dict[str, list[tuple[int, ...]]] = {"length": [(bisect_right(edges, item.length),) for item in pooled]}
    if all(item.category is not None for item in pooled):
        categories = {name: number for number, name in enumerate(sorted({item.category or "" for item in pooled}))}
        features["category"] = [(categories[item.category or ""],) for item in pooled]
    counts = Counter(word for item in pooled for word in item.words)
    common = {word: number for number, (word, _) in enumerate(sorted(counts.items(), key=_rarity)[:WORD_BINS])}
    features["vocabulary"] = [
        (*(common[word] for word in item.words if word in common), len(common)) for item in pooled
    ]
    return features


def _rarity(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]


class _Comparison:
    """One feature's bins in units of two sides, and their PSI under relabelling."""

    def __init__(self, reference: Sequence[Input], current: Sequence[Input], bins: Sequence[tuple[int, ...]]) -> None:
        self._width = 1 + max(number for found in bins for number in found)
        units: dict[tuple[bool, str], Counter[int]] = {}
        for index, item in enumerate((*reference, *current)):
            units.setdefault((index < len(reference), item.unit), Counter()).update(bins[index])
        self._units = [tuple(counts.items()) for counts in units.values()]
        self._first = sum(ours for ours, _ in units)
        self._total = self._sums(range(len(self._units)))
        self.observed = self._psi(range(self._first))

    def _sums(self, chosen: Sequence[int]) -> list[int]:
        sums = [0] * self._width
        for index in chosen:
            for number, count in self._units[index]:
                sums[number] += count
        return sums

    def _psi(self, chosen: Sequence[int]) -> float:
        ours = self._sums(chosen)
        theirs = [total - own for total, own in zip(self._total, ours, strict=True)]
        # Half an observation more in every bin, so that an empty one is finite.
        weights = [sum(side) + self._width / 2 for side in (ours, theirs)]
        shares = (
            ((a + 0.5) / weights[0], (b + 0.5) / weights[1])
            for a, b, total in zip(ours, theirs, self._total, strict=True)
            if total
        )
        return math.fsum((q - p) * math.log(q / p) for p, q in shares)

    def p_value(self) -> float:
        """Of the permutation test; the same for the same data, since its order of units and its seed are."""
        order, dice = list(range(len(self._units))), random.Random(0)  # noqa: S311 - no secret
        exceeding = 0
        for done in range(1, PERMUTATIONS + 1):
            dice.shuffle(order)
            exceeding += self._psi(order[: self._first]) >= self.observed - 1e-12
            if exceeding == ENOUGH_EXCEEDANCES:
                return exceeding / done
        return (exceeding + 1) / (PERMUTATIONS + 1)
