"""How several candidates share a stage's traffic: Thompson sampling for the shares, and which buckets they take.

Thompson sampling draws each candidate with the probability that it is the best. Routing is sticky, so nothing is drawn
for a request: these probabilities become shares, and the hash draws. They change between stages alone (batches), since
every e-value and every bound rests on shares that stand still; a stage's successes are counted while all candidates
met the same hours, so that none looks better for having come at a better time. Which of them may go on at all is the
guard's business and never this module's.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from flywheel.serving.bucketing import BUCKETS, PER_PERCENT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flywheel.serving.routing import Buckets

FLOOR_PERCENT = 5.0
MOST_CANDIDATES = 8
_POINTS = 400
_REACH = 8.0


def best_probabilities(records: Sequence[tuple[float, int]]) -> list[float]:
    """For each candidate the probability that its success rate is the highest, from (successes, trials) of each.

    Rates have independent Beta(1 + successes, 1 + failures) posteriors. The integral of one's density times the others'
    distribution functions is taken by the trapezoidal rule on a grid that follows every posterior. Source: Thompson
    (1933); Scott, A modern Bayesian look at the multi-armed bandit (2010).
    """
    shapes = [(1 + successes, 1 + trials - successes) for successes, trials in records]
    grid = sorted({point for shape in shapes for point in _grid(*shape)})
    densities = [[_density(x, *shape) for x in grid] for shape in shapes]
    below = [_cumulative(grid, density) for density in densities]
    weights = []
    for own, density in enumerate(densities):
        others = [below[other] for other in range(len(shapes)) if other != own]
        heights = [math.prod(column, start=height) for height, *column in zip(density, *others, strict=True)]
        weights.append(_cumulative(grid, heights, whole=False)[-1])
    total = sum(weights)
    return [weight / total for weight in weights]


def _grid(a: float, b: float) -> list[float]:
    mean = a / (a + b)
    reach = _REACH * math.sqrt(mean * (1 - mean) / (a + b + 1))
    low, high = max(0.0, mean - reach), min(1.0, mean + reach)
    inner = (low + (high - low) * step / _POINTS for step in range(_POINTS + 1))
    return [x for x in inner if 0 < x < 1]


def _density(x: float, a: float, b: float) -> float:
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    return math.exp(scale + (a - 1) * math.log(x) + (b - 1) * math.log1p(-x))


def _cumulative(grid: Sequence[float], heights: Sequence[float], *, whole: bool = True) -> list[float]:
    """The integral up to each point of the grid; `whole` makes it end at 1."""
    sums = [0.0]
    for (x, y), (after, height) in pairwise(zip(grid, heights, strict=True)):
        sums.append(sums[-1] + (after - x) * (y + height) / 2)
    return [value / sums[-1] for value in sums] if whole else sums


def widths(percent: float, probabilities: Mapping[str, float]) -> dict[str, int]:
    """The buckets that each candidate gets of `percent` together, or of 5 % each where that is more.

    Each has its 5 %, and what is left goes by the probabilities (which sum to 1), rounded by largest remainders.
    """
    floor = round(FLOOR_PERCENT * PER_PERCENT)
    total = max(round(percent * PER_PERCENT), floor * len(probabilities))
    rest = total - floor * len(probabilities)
    exact = {name: rest * share for name, share in probabilities.items()}
    found = {name: floor + math.floor(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: math.floor(exact[name]) - exact[name])
    for name in by_remainder[: total - sum(found.values())]:
        found[name] += 1
    return found


def allot(present: Mapping[str, Buckets], wanted: Mapping[str, int]) -> dict[str, Buckets]:
    """The buckets of each candidate so that it has as many as `wanted`, moving as few units as these shares allow.

    Who shrinks gives up its last buckets; who grows takes what others gave up (the gone ones too), then the baseline's
    first ones. So the fraction of units that meet another program is the least possible, the total variation distance
    between the old shares and the new.
    """
    kept = {name: _first(present.get(name, ()), width) for name, width in wanted.items()}
    old = _line(present)
    taken = _line(kept)
    free = [place for place in range(BUCKETS) if taken[place] is None]
    given_up = [place for place in free if old[place] is not None]
    order = iter([*given_up, *(place for place in free if old[place] is None)])
    for name, width in wanted.items():
        for _ in range(width - _size(kept[name])):
            taken[next(order)] = name
    return {name: _ranges(taken, name) for name in wanted}


def _size(buckets: Buckets) -> int:
    return sum(high - low for low, high in buckets)


def _first(buckets: Buckets, width: int) -> Buckets:
    kept: list[tuple[int, int]] = []
    for low, high in buckets:
        end = min(high, low + width - _size(tuple(kept)))
        if end > low:
            kept.append((low, end))
    return tuple(kept)


def _line(owners: Mapping[str, Buckets]) -> list[str | None]:
    line: list[str | None] = [None] * BUCKETS
    for name, buckets in owners.items():
        for low, high in buckets:
            line[low:high] = [name] * (high - low)
    return line


def _ranges(line: Sequence[str | None], name: str) -> Buckets:
    found: list[tuple[int, int]] = []
    for place, owner in enumerate(line):
        if owner != name:
            continue
        if found and found[-1][1] == place:
            found[-1] = (found[-1][0], place + 1)
        else:
            found.append((place, place + 1))
    return tuple(found)
