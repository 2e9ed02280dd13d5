"""Betting on bounded gains: evidence that may be looked at, and added to, at any time.

A wealth of 1 is staked again and again on gains in [-1, 1]. Where no gain is to be expected, the wealth's expectation
is at most 1 at every stopping time, and it ever reaches b with probability <= 1/b (Ville's inequality). A grid of
stakes is kept as logarithms and mixed with equal weights. Source: Waudby-Smith & Ramdas, Estimating means of bounded
random variables by betting (2024).
"""

from __future__ import annotations

import math
from operator import add
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

Grid = tuple[float, ...]
STAKES: Grid = (0.05, 0.1, 0.2, 0.4, 0.65, 0.9)
_LARGEST_LOG = 600.0
# So few factors neither overflow nor underflow together.
_FACTORS = 32


def zeros(size: int) -> Grid:
    """The logs of a grid that has seen nothing."""
    return (0.0,) * size


def bet_logs(gains: Sequence[float]) -> Grid:
    """The log of the product of 1 + stake * gain for each stake; one logarithm for many factors is far cheaper."""
    logs = zeros(len(STAKES))
    for start in range(0, len(gains), _FACTORS):
        part = gains[start : start + _FACTORS]
        now = [math.log(math.prod([1 + stake * gain for gain in part])) for stake in STAKES]
        logs = tuple(map(add, logs, now))
    return logs


def added(logs: Grid, more: Grid) -> Grid:
    """The logs after further gains."""
    return tuple(map(add, logs, more))


def mixture(logs: Grid) -> float:
    """The wealth of a grid: the mean over its stakes, held finite so that it can be written as JSON."""
    return sum(math.exp(min(log, _LARGEST_LOG)) for log in logs) / len(logs)
