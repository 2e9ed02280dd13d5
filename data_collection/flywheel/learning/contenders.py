"""Which of several optimizers' programs meets the test: the cheapest whose result is not significantly worse.

All are scored on the same validation examples, never on the test. The one with the highest mean leads. Another one is
significantly worse where the one-sided sign-flip test of the paired scores (groups flip together) gives p <= 0.05
divided by the number of those compared with the leader (Bonferroni), so that with 95 % the truly best one is among
those left (subset selection, Gupta 1965). Of these the cheapest to run wins: by USD an example where the price of all
is known, else by tokens; of equally cheap ones the higher mean, then the one named first. An example that a program
failed to answer counts 0. The searches have chosen their programs on these very examples: their scores are biased
alike, a program that no search has chosen (labeled) is at a disadvantage.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from flywheel.learning.verdict import ALPHA, sign_flip_p

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
    """A contender as the choice saw it: `p_value` of being no worse than the leader (None: the leader), and its price.

    `price` is in `unit` an example; None where nothing is known of it.
    """

    optimizer: str
    score: float
    p_value: float | None
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
    values = [None if n == leader else _p_worse(contenders[leader], c, groups, seed) for n, c in enumerate(contenders)]
    worse = [p is not None and p <= level for p in values]
    left = [n for n in range(len(contenders)) if not worse[n]]
    chosen = min(left, key=lambda n: (prices[n] is None, prices[n] or 0.0, -contenders[n].mean, n))
    return [
        Ranked(c.optimizer, c.mean, values[n], level, worse[n], prices[n], unit, chosen=n == chosen)
        for n, c in enumerate(contenders)
    ]


def _p_worse(leader: Contender, other: Contender, groups: Sequence[str], seed: int) -> float:
    sums: dict[str, float] = defaultdict(float)
    for group, best, score in zip(groups, leader.filled, other.filled, strict=True):
        sums[group] += best - score
    return sign_flip_p(np.array(list(sums.values())), np.random.default_rng(seed))


def _prices(contenders: Sequence[Contender]) -> tuple[list[float | None], str]:
    """What an example takes of each, in one unit for all."""
    usages = [contender.usage for contender in contenders]
    costs = [usage.cost_usd if usage else None for usage in usages]
    if None not in costs and any(costs):
        return costs, "USD"
    return [usage.input_tokens + usage.output_tokens if usage else None for usage in usages], "tokens"


def sentence(ranked: Sequence[Ranked]) -> str:
    """`labeled wins: mipro 71.2 (310 tokens), labeled 69.0 (120 tokens, p = 0.210 of no worse)`."""
    told = []
    for one in ranked:
        price = "price unknown" if one.price is None else f"{one.price:.4g} {one.unit}"
        p_value = "" if one.p_value is None else f", p = {one.p_value:.3f}"
        told.append(f"{one.optimizer} {100 * one.score:.1f} ({price}{p_value}{', worse' if one.worse else ''})")
    winner = next(one.optimizer for one in ranked if one.chosen)
    return f"{winner} is the cheapest that is not significantly worse on val: {', '.join(told)}"
