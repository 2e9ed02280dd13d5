"""The one place that admits a call to the model: how many at once, how fast, and within the run's budget.

All threads of a process share a `Governor`; other processes and machines reach the same one through a door
(governor_door.py), and use it in the same way. Whoever waits is served in order of arrival, so that nobody starves.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flywheel.learning.gate import Admission, Caps
from flywheel.learning.limits import DeadlinePassed, RunEnded, RunStopped
from flywheel.learning.pace import Pace
from flywheel.learning.purse import Purse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Admission", "Caps", "Governor"]

LOOK_SECONDS = 0.5
# A shorter pause is not worth a line.
TOLD_SECONDS = 1.0


@dataclass
class _Waiter:
    admission: Admission
    woken: threading.Event = field(default_factory=threading.Event)
    settled: bool = False
    stop: RunStopped | None = None


class Governor:
    """See Gate. `calls` and `cost_usd` were spent before; `tell` hears of pauses that the provider asks for."""

    def __init__(
        self,
        caps: Caps,
        *,
        calls: int = 0,
        cost_usd: float = 0.0,
        tell: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.caps = caps
        self.pace = Pace()
        self._purse = Purse(caps.max_calls, caps.max_cost_usd, calls, cost_usd)
        self._tell, self._clock = tell, clock
        self._queue: deque[_Waiter] = deque()
        self._lock = threading.Lock()
        self._closed = False

    @property
    def under_way(self) -> int:
        """How many calls are under way."""
        return self._purse.under_way

    @contextlib.contextmanager
    def admitted(
        self, holder: str = "", *, finishing: bool = False, deadline: float | None = None
    ) -> Iterator[Admission]:
        """See Gate."""
        admission = self.enter(holder, finishing=finishing, deadline=deadline)
        try:
            yield admission
        finally:
            self.leave(admission)

    def keep_back(self, holder: str, calls: int, cost_usd: float = 0.0) -> None:
        """See Gate."""
        with self._lock:
            self._purse.keep_back(holder, calls, cost_usd)
            self._advance()

    def enter(
        self,
        holder: str,
        *,
        finishing: bool = False,
        deadline: float | None = None,
        gone: Callable[[], bool] = lambda: False,
    ) -> Admission:
        """Wait for the call's turn; see Gate.admitted. `gone`: whether whoever waits is not there any more.

        Raises:
            RunEnded: also when it is gone.
        """
        _require_time(deadline)
        waiter = _Waiter(Admission(holder, finishing))
        with self._lock:
            self._queue.append(waiter)
        try:
            while not self._settled(waiter, deadline, gone):
                waiter.woken.wait(self._nap(waiter, deadline))
        except BaseException:
            self._withdraw(waiter)
            raise
        if waiter.stop is not None:
            raise waiter.stop
        return waiter.admission

    def leave(self, admission: Admission, *, lost: bool = False) -> None:
        """The call is over. One whose process was `lost` counts as a call: it is likely to have reached the model."""
        told = None
        with self._lock:
            calls = max(admission.calls, 1) if lost else admission.calls
            self._purse.end(admission.kept_for, calls, admission.cost_usd)
            if admission.refusal is not None:
                told = self.pace.refused(self._clock(), admission.started, *admission.refusal)
            elif admission.calls:
                self.pace.answered()
            self._advance()
        if told is not None and told >= TOLD_SECONDS and self._tell is not None:
            self._tell(f"the provider turns calls away; all of them pause for {told:.0f} s")

    def close(self) -> None:
        """Whoever waits or comes is told that the run has ended."""
        with self._lock:
            self._closed = True
            self._advance()

    def _settled(self, waiter: _Waiter, deadline: float | None, gone: Callable[[], bool]) -> bool:
        with self._lock:
            waiter.woken.clear()
            self._advance()
        if not waiter.settled:
            _require_time(deadline)
            if gone():
                msg = "its caller is gone"
                raise RunEnded(msg)
        return waiter.settled

    def _nap(self, waiter: _Waiter, deadline: float | None) -> float:
        """How long to wait before looking again, unless woken."""
        naps = [LOOK_SECONDS]
        if deadline is not None:
            naps.append(deadline - time.monotonic())
        with self._lock:
            if self._queue and self._queue[0] is waiter:
                now = self._clock()
                due = self.pace.due(now)
                naps.extend([due - now] if due > now else [])
        return max(0.0, min(naps))

    def _withdraw(self, waiter: _Waiter) -> None:
        with self._lock:
            if waiter in self._queue:
                self._queue.remove(waiter)
                self._advance()
                self._wake_first()
                return
        if waiter.settled and waiter.stop is None:
            self.leave(waiter.admission)

    def _advance(self) -> None:
        """Settle whoever is first, as long as that is possible. The lock is held."""
        settled = False
        while self._queue:
            waiter = self._queue[0]
            try:
                if not self._ready(waiter.admission):
                    break
                self._start(waiter.admission)
            except RunStopped as stop:
                waiter.stop = stop
            waiter.settled = settled = True
            self._queue.popleft()
            waiter.woken.set()
        if settled:
            self._wake_first()

    def _wake_first(self) -> None:
        """Whoever is first now is to know until when it waits."""
        if self._queue:
            self._queue[0].woken.set()

    def _start(self, admission: Admission) -> None:
        admission.started = self._clock()
        self.pace.start(admission.started)
        self._purse.start(admission.kept_for)

    def _ready(self, admission: Admission) -> bool:
        """Whether the call may start now; raises when it never may."""
        if self._closed:
            msg = "the run has ended"
            raise RunEnded(msg)
        within = self._purse.open_for(admission.kept_for)
        free = self.caps.concurrency is None or self._purse.under_way < self.caps.concurrency
        now = self._clock()
        return within and free and self.pace.due(now) <= now


def _require_time(deadline: float | None) -> None:
    if deadline is not None and time.monotonic() >= deadline:
        msg = "the run's time is over"
        raise DeadlinePassed(msg)
