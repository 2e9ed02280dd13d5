"""Exact one-sided tests for a handful of observations, in plain Python: a look must start fast."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from functools import cache
from itertools import combinations
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Half of them are enumerated at a time: 2 * 2^12 sums.
MOST_PAIRS = 24
_ROUNDING = 1e-9


def falling_p(values: Sequence[float]) -> float:
    """How likely so many falls are where order means nothing (small: they fall). Mann-Kendall, exact also with ties.

    The statistic is the number of pairs whose later value is lower; over all orders of the values it is distributed as
    the inversions of a multiset's permutations (MacMahon 1913). 1.0 for fewer than two values.
    """
    falls = sum(later < earlier for earlier, later in combinations(values, 2))
    orders = _inversions(tuple(sorted(Counter(values).values())))
    return sum(orders[falls:]) / sum(orders)


def _inversions(sizes: tuple[int, ...]) -> list[int]:
    """How many orders of a multiset have 0, 1, 2 ... inversions; `sizes` are how often its values occur."""
    found, total = [1], 0
    for size in sizes:
        total += size
        found = _times(found, _gaussian(total, size))
    return found


@cache
def _gaussian(n: int, k: int) -> list[int]:
    """The Gaussian binomial coefficient [n over k] as a polynomial's coefficients."""
    if k in {0, n}:
        return [1]
    taken, left = _gaussian(n - 1, k - 1), [0] * k + _gaussian(n - 1, k)
    width = max(len(taken), len(left))
    return [(taken[i] if i < len(taken) else 0) + (left[i] if i < len(left) else 0) for i in range(width)]


def _times(first: Sequence[int], second: Sequence[int]) -> list[int]:
    product = [0] * (len(first) + len(second) - 1)
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            product[i + j] += a * b
    return product


def drop_p(differences: Sequence[float]) -> float:
    """How likely so large a sum of paired differences is where each could as well have the other sign.

    Fisher's sign-flip test (1935), one-sided for a positive sum, exact: all 2^n signs are counted, by the sorted sums
    of two halves. 1.0 for no difference at all.

    Raises:
        ValueError: more than MOST_PAIRS.
    """
    real = [difference for difference in differences if difference]
    if len(real) > MOST_PAIRS:
        msg = f"{len(real)} pairs; at most {MOST_PAIRS}"
        raise ValueError(msg)
    middle = len(real) // 2
    first, second = _signed_sums(real[:middle]), sorted(_signed_sums(real[middle:]))
    observed = sum(real) - _ROUNDING
    as_large: int = sum(len(second) - bisect_left(second, observed - value) for value in first)
    return as_large / float(2 ** len(real))


def _signed_sums(values: Sequence[float]) -> list[float]:
    sums = [0.0]
    for value in values:
        sums = [total + sign * value for total in sums for sign in (1, -1)]
    return sums


def holm(p_values: Mapping[str, float], alpha: float) -> set[str]:
    """The names whose p-values are significant together at `alpha` (Holm 1979, step down)."""
    found: set[str] = set()
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        if p > alpha / (len(p_values) - rank):
            break
        found.add(name)
    return found
