"""One-sided 95 % confidence bounds that a stage must keep within the thresholds to be promoted.

Each answers None when the data do not determine it, and None never promotes.
"""

from __future__ import annotations

import math

# The standard normal's 95 % quantile.
Z = 1.6448536269514722


def mean(total: float, count: int) -> float | None:
    """The mean from a sum; None for no observations, which is not zero."""
    return total / count if count else None


def variance(total: float, squares: float, count: int) -> float:
    """The unbiased sample variance from sums; rounding never takes it below 0. Needs count >= 2."""
    return max(0.0, (squares - total * total / count) / (count - 1))


def agresti_caffo_upper(candidate: tuple[int, int], baseline: tuple[int, int]) -> float | None:
    """Upper bound of the candidate's error rate minus the baseline's, from (errors, calls) of each; lower is better.

    Source: Agresti & Caffo (2000): one success and one failure added to each arm keep Wald's interval honest when
    errors are few.
    """
    if not candidate[1] or not baseline[1]:
        return None
    own, other = candidate[1] + 2, baseline[1] + 2
    rate, base = (candidate[0] + 1) / own, (baseline[0] + 1) / other
    return rate - base + Z * math.sqrt(rate * (1 - rate) / own + base * (1 - base) / other)


def welch_upper(candidate: tuple[float, float, int], baseline: tuple[float, float, int]) -> float | None:
    """Upper bound of the candidate's mean minus the baseline's, from (sum, sum of squares, count) of each.

    Source: Welch's unequal-variance t interval, its quantile by the Cornish-Fisher expansion of t (Abramowitz &
    Stegun 26.7.5), accurate to a thousandth above ten degrees of freedom.
    """
    if min(candidate[2], baseline[2]) < 2:
        return None
    own = variance(*candidate) / candidate[2]
    other = variance(*baseline) / baseline[2]
    difference = candidate[0] / candidate[2] - baseline[0] / baseline[2]
    if not own + other:
        return difference
    freedom = (own + other) ** 2 / (own**2 / (candidate[2] - 1) + other**2 / (baseline[2] - 1))
    return difference + _t_quantile(freedom) * math.sqrt(own + other)


def mean_lower(total: float, squares: float, count: int) -> float | None:
    """Lower bound of a mean by the normal approximation; higher is better for scores."""
    if count < 2:
        return None
    return total / count - Z * math.sqrt(variance(total, squares, count) / count)


def _t_quantile(freedom: float) -> float:
    first = (Z**3 + Z) / (4 * freedom)
    second = (5 * Z**5 + 16 * Z**3 + 3 * Z) / (96 * freedom**2)
    third = (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / (384 * freedom**3)
    return Z + first + second + third
