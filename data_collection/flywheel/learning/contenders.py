"""Which of several optimizers' programs meets the test: the cheapest whose result is not significantly worse.

All are scored on the same validation examples, never on the test. The one with the highest mean leads. Another one is
significantly worse where the leader's paired lead has a lower bound above 0: the percentile bootstrap over whole groups
(Efron and Tibshirani 1993, chapter 13), one-sided, at 5 % divided by the number of those compared with the leader
(Bonferroni). So with 95 % the truly best one is among those left (subset selection, Gupta 1965); with few groups the
bound is eager to call one worse, which costs money and no quality. Of those left the cheapest to run wins: by USD an
example where the price of all is known, else by tokens; of equally cheap ones the higher mean, then the one named
first. An example that a program failed to answer counts 0. The searches have chosen their programs on these very
examples, and so look better than they are; a program that no search has chosen (labeled) is at a disadvantage.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from flywheel.learning.verdict import ALPHA, bootstrap_means

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flywheel.base.evaluations import Usage


@dataclass(frozen=True)
class Contender:
    """An optimizer's program on the validation examples: scores 0-1 in order, and what an example takes of it."""

    optimizer: str
    scores: Sequence[float | None]
    usage: Usage | None

    @property
    def filled(self) -> list[float]:
        """The scores, 0 where the program failed to answer."""
        return [score or 0.0 for score in self.scores]

    @property
    def mean(self) -> float:
        """The mean score, 0-1."""
        return fmean(self.filled)


@dataclass(frozen=True)
class Ranked:
    """A contender as the choice saw it: score 0-1, price in `unit` an example (None: not known).

    `lead` is the leader's over it in points of 100, and `lead_low` that lead's lower bound at the one-sided `level`;
    both are None for the leader.
    """

    optimizer: str
    score: float
    lead: float | None
    lead_low: float | None
    level: float
    worse: bool
    price: float | None
    unit: str
    chosen: bool


def choose(contenders: Sequence[Contender], groups: Sequence[str], seed: int = 0) -> list[Ranked]:
    """The contenders in their order, one of them chosen; `groups` names each validation example's group."""
    prices, unit = _prices(contenders)
    leader = max(range(len(contenders)), key=lambda n: contenders[n].mean)
    level = ALPHA / max(1, len(contenders) - 1)
    lows = [None if n == leader else _low(contenders[leader], c, groups, level, seed) for n, c in enumerate(contenders)]
    worse = [low is not None and low > 0 for low in lows]
    left = [n for n in range(len(contenders)) if not worse[n]]
    chosen = min(left, key=lambda n: (prices[n] is None, prices[n] or 0.0, -contenders[n].mean, n))
    best = contenders[leader].mean
    return [
        Ranked(
            optimizer=c.optimizer,
            score=c.mean,
            lead=None if n == leader else 100 * (best - c.mean),
            lead_low=lows[n],
            level=level,
            worse=worse[n],
            price=prices[n],
            unit=unit,
            chosen=n == chosen,
        )
        for n, c in enumerate(contenders)
    ]


def _low(leader: Contender, other: Contender, groups: Sequence[str], level: float, seed: int) -> float:
    """The lower bound of the leader's lead, in points of 100."""
    sums: dict[str, float] = defaultdict(float)
    counts: dict[str, float] = defaultdict(float)
    for group, best, score in zip(groups, leader.filled, other.filled, strict=True):
        sums[group] += best - score
        counts[group] += 1
    leads = np.array(list(sums.values())), np.array(list(counts.values()))
    return 100 * float(np.quantile(bootstrap_means(*leads, np.random.default_rng(seed)), level))


def _prices(contenders: Sequence[Contender]) -> tuple[list[float | None], str]:
    """What an example takes of each, in one unit for all."""
    usages = [contender.usage for contender in contenders]
    costs = [usage.cost_usd if usage else None for usage in usages]
    if None not in costs and any(costs):
        return costs, "USD"
    return [usage.input_tokens + usage.output_tokens if usage else None for usage in usages], "tokens"


def sentence(ranked: Sequence[Ranked]) -> str:
    """`labeled is the cheapest ...: mipro 71.2 (310 tokens), labeled 69.0 (120 tokens, behind by 2.2 points, ...)`."""
    told = []
    for one in ranked:
        price = "price unknown" if one.price is None else f"{one.price:.4g} {one.unit}"
        behind = "" if one.lead is None else f", behind by {one.lead:.1f} points, at least {one.lead_low:.1f}"
        told.append(f"{one.optimizer} {100 * one.score:.1f} ({price}{behind}{', worse' if one.worse else ''})")
    winner = next(one.optimizer for one in ranked if one.chosen)
    return f"{winner} is the cheapest that is not significantly worse on val: {', '.join(told)}"
