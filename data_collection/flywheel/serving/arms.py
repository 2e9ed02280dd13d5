"""Counters of one arm, candidate or baseline: what a tick brings, whether it can be true, and their sums."""

from __future__ import annotations

import math
from dataclasses import dataclass

Slow = tuple[int, int, int]
STALE_INTERVALS = 10
STALE_TICKS = 3
_ROUNDING = 1e-6
# Not bool, nor other libraries' numbers, which JSON would not bring back as they were.
_NUMBERS = frozenset({int, float})


@dataclass(frozen=True, slots=True)
class ArmTick:
    """What one arm did since the last tick.

    `timed` calls are the successful ones and the timeouts, not fast failures; latencies are sums over them in ms and
    ms squared. `slow` counts timed calls above each frozen cut-off, rising, and stays 0 until they are frozen.
    `invalid` records could not be read or lacked a metric, and are in no other counter. `scores` are the quality
    scores (0-1, higher is better) of those calls that were scored. `drawn` is not of this tick alone: how often routing
    drew the arm since the shares last changed, each unit once; None where no units are known, so that calls are drawn.
    """

    calls: int = 0
    errors: int = 0
    timed: int = 0
    latency_sum_ms: float = 0.0
    latency_squares: float = 0.0
    slow: Slow = (0, 0, 0)
    invalid: int = 0
    scores: tuple[float, ...] = ()
    drawn: int | None = None


@dataclass(frozen=True, slots=True)
class ArmTotals:
    """One arm's sums over a stage; `seen_at` and `scored_at` are minutes of the stage clock, None for never.

    `sorted_calls` are the timed calls since the cut-offs were frozen, of which `slow` were above each; `good` of the
    scores reached the threshold. `drawn` is how often routing drew the arm at the present shares: units, else calls.
    """

    calls: int = 0
    errors: int = 0
    timed: int = 0
    latency_sum_ms: float = 0.0
    latency_squares: float = 0.0
    sorted_calls: int = 0
    slow: Slow = (0, 0, 0)
    invalid: int = 0
    scored: int = 0
    score_sum: float = 0.0
    score_squares: float = 0.0
    seen_at: float | None = None
    scored_at: float | None = None
    good: int = 0
    drawn: int = 0

    def plus(self, tick: ArmTick, elapsed_minutes: float, *, frozen: bool, good: int = 0) -> ArmTotals:
        """These totals and a usable tick's counts."""
        low, middle, high = self.slow
        scores = tick.scores
        return ArmTotals(
            self.calls + tick.calls,
            self.errors + tick.errors,
            self.timed + tick.timed,
            self.latency_sum_ms + tick.latency_sum_ms,
            self.latency_squares + tick.latency_squares,
            self.sorted_calls + (tick.timed if frozen else 0),
            (low + tick.slow[0], middle + tick.slow[1], high + tick.slow[2]),
            self.invalid + tick.invalid,
            self.scored + len(scores),
            self.score_sum + sum(scores),
            self.score_squares + sum([score * score for score in scores]),
            elapsed_minutes if tick.calls else self.seen_at,
            elapsed_minutes if scores else self.scored_at,
            self.good + good,
            self.drawn + tick.calls if tick.drawn is None else tick.drawn,
        )

    @property
    def error_rate(self) -> float:
        """Errors as a fraction of calls; needs a call."""
        return self.errors / self.calls

    @property
    def latency_ms(self) -> float:
        """Mean latency of the timed calls in ms; needs one."""
        return self.latency_sum_ms / self.timed


def overdue(count: int, last: float | None, elapsed: float, tick_minutes: float) -> bool:
    """Whether a stream of `count` records, the last at `last`, is missing or stale at `elapsed` (minutes).

    Stale is silent for ten of its own mean intervals, which slow traffic reaches once in tens of thousands of records.
    """
    return last is None or elapsed - last > max(STALE_TICKS * tick_minutes, STALE_INTERVALS * elapsed / count)


def problem(tick: ArmTick, *, frozen: bool) -> str | None:
    """Why a tick's counters cannot be true, naming the first that cannot; None when they can."""
    drawn = 0 if tick.drawn is None else tick.drawn
    counts = (tick.calls, tick.errors, tick.timed, tick.invalid, drawn, *tick.slow)
    if {*map(type, counts)} != {int} or min(counts) < 0 or len(tick.slow) != 3:
        return f"counts {counts} are not whole numbers >= 0"
    return _count_problem(tick, frozen=frozen) or _sum_problem(tick) or _score_problem(tick)


def _count_problem(tick: ArmTick, *, frozen: bool) -> str | None:
    if tick.errors > tick.calls:
        return f"{tick.errors} errors in {tick.calls} calls"
    if not tick.calls - tick.errors <= tick.timed <= tick.calls:
        return f"{tick.timed} latencies for {tick.calls} calls with {tick.errors} errors"
    low, middle, high = tick.slow
    if not tick.timed >= low >= middle >= high or (low and not frozen):
        return f"slow counts {tick.slow} for {tick.timed} latencies"
    return None


def _sum_problem(tick: ArmTick) -> str | None:
    total, squares = tick.latency_sum_ms, tick.latency_squares
    if not (_number(total) and _number(squares) and 0 <= total < math.inf and 0 <= squares < math.inf):
        return f"latency sums {total!r}, {squares!r}"
    # Cauchy-Schwarz: sum^2 / n <= sum of squares <= sum^2, for values >= 0; no calls have no latency.
    floor = total * total / tick.timed if tick.timed else 0.0
    slack = _ROUNDING * squares
    if not floor - slack <= squares <= total * total + slack or (total and not tick.timed):
        return f"latency sums {total!r}, {squares!r} of {tick.timed} calls contradict each other"
    return None


def _score_problem(tick: ArmTick) -> str | None:
    if len(tick.scores) > tick.calls:
        return f"{len(tick.scores)} quality scores for {tick.calls} calls"
    wrong = [score for score in tick.scores if not (type(score) in _NUMBERS and 0 <= score <= 1)]
    return f"quality score {wrong[0]!r}" if wrong else None


def _number(value: object) -> bool:
    return type(value) in _NUMBERS
