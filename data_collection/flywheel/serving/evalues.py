"""E-processes: evidence against "the candidate is no worse" that may be looked at after every call.

An e-process starts at 1 and has expectation <= 1 under its null at every stopping time, so it ever reaches b with
probability <= 1/b (Ville's inequality): exact at any sample size, however often one looks. Each one here is a grid of
products of likelihood ratios or bets, one a parameter, kept as logarithms and mixed with equal weights (Robbins'
mixture). All rest on calls being routed at random with the candidate's `share` (a fraction between 0 and 1), or on
scores in [0, 1].
"""

from __future__ import annotations

import math
import random
from functools import lru_cache
from operator import add
from typing import TYPE_CHECKING

from flywheel.base import betting

if TYPE_CHECKING:
    from collections.abc import Sequence

Grid = betting.Grid
STAKES = betting.STAKES
zeros = betting.zeros
RATIOS: Grid = (1.25, 1.5, 2, 3, 5, 10, 20)
# Observations' worth of belief in the intended share: mismatches of some percentage points are found soonest.
SHARE_PRIOR = 100
_LARGEST_LOG = 600.0
# A product of a few dozen larger gains would overflow.
_LEAST_ROOM = 0.01


@lru_cache(maxsize=256)
def _ratio_terms(share: float) -> tuple[tuple[float, float], ...]:
    return tuple((math.log(ratio), math.log(share * ratio + 1 - share)) for ratio in RATIOS)


def event_logs(candidate: int, baseline: int, share: float) -> Grid:
    """Logs of the conditional likelihood ratios that events fall on the candidate too often; one a ratio in RATIOS.

    Whatever makes events frequent hits both arms alike: given one (an error, a slow call) it is the candidate's with
    probability <= share under the null, and ratio * share / (ratio * share + 1 - share) if events are `ratio` times
    as frequent there. Counts of events by arm suffice. Source: Wald's sequential test of a binomial share, mixed.
    """
    events = candidate + baseline
    return tuple([candidate * gain - events * cost for gain, cost in _ratio_terms(share)])


@lru_cache(maxsize=256)
def _odds_terms(share: float, tail: float) -> tuple[tuple[float, float, float, float], ...]:
    rows = []
    for ratio in RATIOS:
        scale = 1 - tail + tail * ratio
        slow, fast = share * ratio / scale + 1 - share, share / scale + 1 - share
        rows.append((math.log(ratio), math.log(scale), math.log(slow), math.log(fast)))
    return tuple(rows)


def odds_logs(candidate: tuple[int, int], baseline: tuple[int, int], share: float, tail: float) -> Grid:
    """Logs of the same ratios when each of an arm's (slow, all) calls is sorted; one an odds ratio in RATIOS.

    A slow call and a fast one each fall on the candidate with probability `share` under the null. The alternative
    multiplies the odds of slow, which are tail/(1 - tail) in the baseline, by the ratio: more slow *and* fewer fast
    calls there. `tail` (0-1) sharpens the bet when it is right and harms no validity when it is wrong. Calls that are
    not sorted (fast failures) count for nothing; were they more frequent in one arm, `share` would be a little off.
    """
    (own_slow, own), (other_slow, other) = candidate, baseline
    slow = own_slow + other_slow
    fast = own + other - slow
    return tuple(
        [
            own_slow * gain - own * scale - slow * slow_cost - fast * fast_cost
            for gain, scale, slow_cost, fast_cost in _odds_terms(share, tail)
        ]
    )


@lru_cache(maxsize=256)
def _excess_terms(share: float, margin: float) -> tuple[tuple[float, float, float], ...]:
    reach = 1 / (1 - share) + margin
    bets = [(stake, stake / reach) for stake in STAKES]
    return tuple(
        (math.log1p(bet * (1 / share - margin)), math.log1p(-stake), math.log1p(-bet * margin)) for stake, bet in bets
    )


def excess_logs(candidate_errors: int, baseline_errors: int, calls: int, share: float, margin: float) -> Grid:
    """Logs of bets against "the candidate's error rate is at most `margin` above the baseline's", one a stake.

    A call counts error/share on the candidate and -error/(1 - share) on the baseline (inverse-probability weights),
    so its mean is the difference of the rates. Stakes are fractions of the largest bet that cannot ruin; `calls` are
    of both arms. Source: Waudby-Smith & Ramdas, Estimating means of bounded random variables by betting (2024).
    """
    quiet = calls - candidate_errors - baseline_errors
    return tuple(
        [
            candidate_errors * win + baseline_errors * loss + quiet * drift
            for win, loss, drift in _excess_terms(share, margin)
        ]
    )


def below_mean_logs(scores: Sequence[float], mean: float) -> Grid:
    """Logs of bets against "the scores' conditional mean is at least `mean`" (0-1), one a stake.

    Source: Waudby-Smith & Ramdas (2024); a stake is a fraction of the largest bet that cannot ruin, or of 100 where
    the mean is so near 1 that even more could be bet.
    """
    if not scores:
        return zeros(len(STAKES))
    scale = max(1 - mean, _LEAST_ROOM)
    gaps = [(mean - score) / scale for score in scores]
    return betting.bet_logs(gaps)


def below_baseline_logs(candidate: Sequence[float], baseline: Sequence[float], seed: int) -> Grid:
    """Logs of bets against "the candidate's scores are no lower than the baseline's over the same time", one a stake.

    The larger arm's scores of one short time are dealt at random to those of the smaller; each group's difference of
    means lies in [-1, 1] and is bet upon. If the candidate changes nothing, then given the scores and how many each arm
    has, the arms' labels are exchangeable within every group, so each bet has expectation 1 whatever shocks and trends
    the scores share and whatever fraction of each arm is scored. Sources: Shekhar & Ramdas,
    Nonparametric two-sample testing by betting (2024), and sequential randomization tests (e-RT, 2025), for validity
    from the routing alone. `seed` orders the dealing and must not depend on the scores.
    """
    groups = min(len(candidate), len(baseline))
    if not groups:
        return zeros(len(STAKES))
    if groups > 1:  # in order of arrival, a trend within the time would make the groups' differences go together
        draw = random.Random(seed).random  # noqa: S311 - a dealing of cards, no secret
        if len(candidate) > len(baseline):
            candidate = sorted(candidate, key=lambda _: draw())
        else:
            baseline = sorted(baseline, key=lambda _: draw())
    drops = [_mean(baseline[i::groups]) - _mean(candidate[i::groups]) for i in range(groups)]
    return betting.bet_logs(drops)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def share_log(candidate: int, baseline: int, share: float) -> float:
    """The log of the beta-binomial mixture against "routing draws the candidate with probability `share`".

    Counts are of what routing draws, units or calls, each once. Source: Robbins' mixture with a beta prior centred on
    the share; used so for sample-ratio mismatch by Lindon & Malek, Anytime-valid inference for multinomial count data
    (2022).
    """
    prior, rest = SHARE_PRIOR * share, SHARE_PRIOR * (1 - share)
    seen = _log_beta(prior + candidate, rest + baseline) - _log_beta(prior, rest)
    return seen - candidate * math.log(share) - baseline * math.log1p(-share)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def carry(carried: Grid, current: Grid) -> Grid:
    """What a stage hands to the next: log(1 + the summed wealth of all starts so far), for each parameter.

    Evidence starts afresh at each stage, lest a quiet early stage drown a late harm: the process is the mean over
    starts, which obeys wealth' = (wealth + 1) * ratio as in the Shiryaev-Roberts procedure.
    """
    return tuple([_log_one_plus(log) for log in map(add, carried, current)])


def _log_one_plus(log: float) -> float:
    return log + math.log1p(math.exp(-log)) if log > 0 else math.log1p(math.exp(log))


def mixed_log(carried: Grid, current: Grid, begun: int, stages: int) -> float:
    """The log of the e-value: mean over the grid and over starts at each of `stages`; those not begun count 1."""
    logs: list[float] = list(map(add, carried, current))
    try:
        wealth = sum(map(math.exp, logs)) / len(logs) + (stages - begun)
    except OverflowError:  # the largest term alone, which is never more than the mean it stands for
        return max(logs) - math.log(len(logs) * stages)
    return math.log(wealth / stages) if wealth else -_LARGEST_LOG


def e_value(log: float) -> float:
    """The e-value of a log, held finite so that it can be written as JSON."""
    return math.exp(min(log, _LARGEST_LOG))
