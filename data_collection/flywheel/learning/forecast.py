"""What the next improvement will be, from those that earlier runs measured: Bayesian random-effects meta-analysis.

Each run's true improvement is drawn around the signature's own mean, and was measured with the error that its interval
tells. The mean is N(0, 10) points beforehand: no improvement is what one believes of an optimizer until it has shown
one, and so a few lucky runs are shrunk towards 0. The spread between runs is half-normal with scale 5 points. Its
posterior is computed on a grid; given it, the rest is normal. Source: Higgins, Thompson and Spiegelhalter, A
re-evaluation of random-effects meta-analysis (2009), with the weakly informative spread of Gelman (2006).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

MEAN_SD, SPREAD_SCALE = 10.0, 5.0
# An interval without width, of two programs that answered alike throughout, proves no certainty.
LEAST_ERROR = 0.5
_GRID = 40
_WIDEST = 4.0


@dataclass(frozen=True)
class Forecast:
    """The distribution of the next run's true improvement in points of 100, as a mixture of normals."""

    weights: tuple[float, ...]
    parts: tuple[NormalDist, ...]

    @property
    def mean(self) -> float:
        """The expected improvement, in points."""
        return sum(weight * part.mean for weight, part in zip(self.weights, self.parts, strict=True))

    def reaches(self, least: float, error: float) -> float:
        """The chance, 0-1, that a test with this standard error measures at least so many points."""
        return sum(
            weight * (1 - NormalDist(part.mean, math.hypot(part.stdev, error)).cdf(least))
            for weight, part in zip(self.weights, self.parts, strict=True)
        )

    def interval(self, share: float = 0.95) -> tuple[float, float]:
        """The interval that holds it with probability `share`, as much on either side."""
        return self._quantile((1 - share) / 2), self._quantile((1 + share) / 2)

    def _quantile(self, share: float) -> float:
        low = min(part.mean - 10 * part.stdev for part in self.parts)
        high = max(part.mean + 10 * part.stdev for part in self.parts)
        for _ in range(40):
            middle = (low + high) / 2
            if 1 - self.reaches(middle, 0.0) < share:
                low = middle
            else:
                high = middle
        return (low + high) / 2


def forecast(measured: Sequence[tuple[float, float]]) -> Forecast:
    """The next true improvement, from earlier ones as (points, standard error in points).

    Raises:
        ValueError: there are none.
    """
    if not measured:
        msg = "no earlier improvement to go by"
        raise ValueError(msg)
    logs, parts = [], []
    for step in range(_GRID + 1):
        spread = SPREAD_SCALE * _WIDEST * step / _GRID
        variances = [max(error, LEAST_ERROR) ** 2 + spread**2 for _, error in measured]
        precision = 1 / MEAN_SD**2 + sum(1 / variance for variance in variances)
        mean = sum(points / variance for (points, _), variance in zip(measured, variances, strict=True)) / precision
        fit = sum(
            points**2 / variance + math.log(variance) for (points, _), variance in zip(measured, variances, strict=True)
        )
        logs.append(-(fit - mean**2 * precision + math.log(precision) + (spread / SPREAD_SCALE) ** 2) / 2)
        parts.append(NormalDist(mean, math.sqrt(1 / precision + spread**2)))
    largest = max(logs)
    weights = [math.exp(log - largest) for log in logs]
    return Forecast(tuple(weight / sum(weights) for weight in weights), tuple(parts))
