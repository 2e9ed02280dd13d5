"""How fast calls may start when a provider turns some away: additive increase, multiplicative decrease.

The method is Chiu & Jain's (1989). There is no limit until the first refusal. A refusal pauses everybody for as long
as the provider asks (retry-after; where it asks for nothing, a second, doubled with each refusal in a row up to a
minute), and halves the rate: that of the bucket or, the first time, the rate at which calls had started. The rate then
grows each second by a tenth of the refused one (at least by a call a second), so that it is back after five and goes
on growing until the next refusal. One call starts as soon as the pause is over, and probes. Refusals of calls that had
started before a halving are of the same flood, and do not halve it again.
"""

from __future__ import annotations

from collections import deque

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 60.0
SLOWEST_PER_SECOND = 0.1
DECREASE, INCREASE, LEAST_INCREASE_PER_SECOND = 0.5, 0.1, 1.0
MEASURED_SECONDS = 10.0
_MOST_REMEMBERED = 4096


class Pace:
    """A token bucket, of a second's calls at most; moments are seconds of one monotonic clock.

    It is not safe to use from several threads without a lock.
    """

    def __init__(self) -> None:
        self.rate: float | None = None
        self.paused_until = 0.0
        self._tokens = 0.0
        self._filled = 0.0
        self._growth = 0.0
        self._halved = float("-inf")
        self._in_a_row = 0
        self._starts: deque[float] = deque(maxlen=_MOST_REMEMBERED)

    def due(self, now: float) -> float:
        """When the next call may start: `now` or later."""
        self._fill(now)
        if now < self.paused_until:
            return self.paused_until
        if self.rate is None or self._tokens >= 1.0:
            return now
        return now + (1.0 - self._tokens) / self.rate

    def start(self, now: float) -> None:
        """A call starts."""
        self._starts.append(now)
        if self.rate is not None:
            self._tokens -= 1.0

    def answered(self) -> None:
        """A call was answered: the provider is not turning everything away."""
        self._in_a_row = 0

    def refused(self, now: float, started: float, retry_after: float | None) -> float:
        """A call that started at `started` was turned away; for how many seconds everybody pauses now."""
        if started >= self._halved:
            self._slow_down(now)
            self._in_a_row += 1
        unasked = min(FIRST_PAUSE_SECONDS * 2 ** max(0, self._in_a_row - 1), LONGEST_PAUSE_SECONDS)
        pause = unasked if retry_after is None else retry_after
        before = max(self.paused_until, now)
        self.paused_until = max(before, now + pause)
        self._filled = self.paused_until
        return self.paused_until - before

    def _slow_down(self, now: float) -> None:
        measured = self._measured(now)
        refused = measured if self.rate is None else min(self.rate, measured)
        self.rate = max(refused * DECREASE, SLOWEST_PER_SECOND)
        self._growth = max(refused * INCREASE, LEAST_INCREASE_PER_SECOND)
        self._halved, self._tokens = now, 1.0

    def _measured(self, now: float) -> float:
        """Calls a second that started of late."""
        while self._starts and self._starts[0] < now - MEASURED_SECONDS:
            self._starts.popleft()
        return len(self._starts) / max(1.0, now - self._starts[0]) if self._starts else 0.0

    def _fill(self, now: float) -> None:
        passed = now - self._filled
        if self.rate is None or passed <= 0:
            return
        self._filled = now
        self.rate += self._growth * passed
        self._tokens = min(self._tokens + self.rate * passed, max(1.0, self.rate))
