"""What a histogram of cumulative buckets (Prometheus' `le`) tells of latencies: no more than it knows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flywheel.serving.cutoffs import WARMUP_CALLS
from flywheel.serving.histogram import Histogram
from flywheel.serving.promql import CorruptError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flywheel.serving.arms import Slow
    from flywheel.serving.cutoffs import Cutoffs

# A sum may run ahead of its buckets by what is counted at the moment of the scrape.
MOST_SKEW = 0.05


@dataclass(frozen=True, slots=True)
class Buckets:
    """Calls up to each bound in ms (cumulative, the last bound infinite), and the sum of their latencies in ms."""

    cumulative: Mapping[float, int]
    sum_ms: float

    @property
    def calls(self) -> int:
        """All of them."""
        return self.cumulative.get(math.inf, 0)

    def parts(self) -> list[tuple[float, float, int]]:
        """Of each bucket that has calls: its lower bound, its upper bound, and how many lie between.

        Raises:
            CorruptError: fewer calls under a higher bound, or no bound of infinity.
        """
        if self.cumulative and math.inf not in self.cumulative:
            raise CorruptError('the latency histogram has no bucket le="+Inf"')
        found = []
        low, below = 0.0, 0
        for bound in sorted(self.cumulative):
            count = self.cumulative[bound] - below
            if count < 0:
                msg = f"the latency histogram has fewer calls up to {bound:g} ms than up to {low:g} ms"
                raise CorruptError(msg)
            if count:
                found.append((low, bound, count))
            low, below = bound, self.cumulative[bound]
        return found

    def sums(self) -> tuple[float, float]:
        """The sum of latencies, and the largest sum of their squares that buckets and sum allow.

        Squares are not known, and a larger variance makes promotion harder and nothing else easier. On an interval x
        squared lies below its chord, so the most is reached by filling the highest buckets up to their upper bounds;
        above the last finite bound one single call may have had all that is left.

        Raises:
            CorruptError: the buckets cannot have that sum.
        """
        parts = self.parts()
        least = sum(low * count for low, _, count in parts)
        most = sum(high * count for _, high, count in parts)
        if not parts or not least * (1 - MOST_SKEW) <= self.sum_ms <= most * (1 + MOST_SKEW):
            if not parts and not self.sum_ms:
                return 0.0, 0.0
            msg = f"latencies that sum to {self.sum_ms:g} ms, while their buckets allow {least:g} to {most:g} ms"
            raise CorruptError(msg)
        total = min(max(self.sum_ms, least), most)
        left, squares = total - least, 0.0
        for low, high, count in reversed(parts):
            given = min(left, (high - low) * count)
            left -= given
            if high == math.inf:
                squares += (count - 1) * low * low + (low + given) ** 2
            else:
                squares += count * low * low + given * (low + high)
        return total, min(squares, total * total)

    def slow(self, cutoffs: Cutoffs | None) -> Slow:
        """Calls above each cut-off, which must be bounds of buckets.

        Raises:
            CorruptError: one is none; the service's buckets have changed.
        """
        if cutoffs is None or not self.calls:
            return 0, 0, 0
        for cutoff in cutoffs:
            if cutoff not in self.cumulative:
                msg = f"the latency histogram has no bound at the cut-off of {cutoff:g} ms any more"
                raise CorruptError(msg)
        low, middle, high = (self.calls - self.cumulative[cutoff] for cutoff in cutoffs)
        return low, middle, high

    def bounds(self) -> list[tuple[float, int]]:
        """Each call's upper bound in ms and how many share it; beyond the last finite one, that one."""
        finite = [bound for bound in self.cumulative if bound < math.inf]
        last = max(finite, default=0.0)
        return [(min(high, last), count) for _, high, count in self.parts()]

    def histogram(self) -> Histogram:
        """For percentiles: every call at its bucket's upper bound."""
        found = Histogram()
        for bound, count in self.bounds():
            found.add(bound, count)
        return found

    def warmup(self) -> list[float]:
        """At most WARMUP_CALLS latencies that stand for all, evenly by rank: upper bounds of buckets.

        Cut-offs frozen from them are bounds too, so that calls above them are counted exactly.
        """
        calls = self.calls
        wanted = min(calls, WARMUP_CALLS)
        ranks = [(2 * number + 1) * calls // (2 * wanted) for number in range(wanted)]
        found, below = [], 0
        for bound, count in self.bounds():
            found += [bound for rank in ranks if below <= rank < below + count]
            below += count
        return found
