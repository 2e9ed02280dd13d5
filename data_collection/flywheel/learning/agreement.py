"""How far two scorings of the same answers agree."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def spearman(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Spearman's rank correlation, -1 to 1, ties by their mean rank; None where either never varies."""
    a, b = _ranks(one), _ranks(other)
    mean = (len(a) + 1) / 2
    spread = math.sqrt(sum((x - mean) ** 2 for x in a) * sum((y - mean) ** 2 for y in b))
    return sum((x - mean) * (y - mean) for x, y in zip(a, b, strict=True)) / spread if spread else None


def _ranks(values: Sequence[float]) -> list[float]:
    ordered = sorted(values)
    first = {value: n for n, value in reversed(list(enumerate(ordered, 1)))}
    last = {value: n for n, value in enumerate(ordered, 1)}
    return [(first[value] + last[value]) / 2 for value in values]


def wilson(hits: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of `n` >= 1 (Wilson 1927)."""
    z2 = 1.96**2
    middle, half = hits / n + z2 / (2 * n), 1.96 * math.sqrt(hits * (n - hits) / n**3 + z2 / (4 * n**2))
    return max(0.0, (middle - half) / (1 + z2 / n)), min(1.0, (middle + half) / (1 + z2 / n))
