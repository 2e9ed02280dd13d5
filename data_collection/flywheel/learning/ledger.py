"""Every call to a language model, counted and written down as it happens; hard limits stop a run in time.

calls.jsonl has a line a call. DSPy's own threads inherit no context variables, so a call's labels (signature and stage)
hang on an `Account`, which its model carries along.
"""

from __future__ import annotations

import contextlib
import os
import threading
from contextvars import ContextVar
from statistics import median
from typing import TYPE_CHECKING, Any, Self

from flywheel.base.clock import now
from flywheel.base.files import PRIVATE_FILE, to_json
from flywheel.learning.calls import Call, Totals, read_calls, totals_of
from flywheel.learning.gate import Admission, Caps
from flywheel.learning.governor import Governor
from flywheel.learning.limits import BudgetExhausted, DeadlinePassed, Limits, RunEnded, RunStopped
from flywheel.learning.replay import DECISIONS, Replay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from flywheel.learning.gate import Gate

__all__ = [
    "BudgetExhausted",
    "Call",
    "DeadlinePassed",
    "Ledger",
    "Limits",
    "RunStopped",
    "Totals",
    "read_calls",
    "totals_of",
]

FILE_NAME = "calls.jsonl"
NO_STAGE = "other"
# The call that the present thread has under way.
_ADMISSION: ContextVar[Admission | None] = ContextVar("flywheel_admission", default=None)


class Ledger:
    """Records calls from any thread, and stops the run at its limits.

    What the file holds when it is opened is counted: a resumed run has spent what it spent before. Of several
    processes each tells of what stood there when it began, and of its own calls; the budget is the `gate`'s, which all
    of them share. Without one the ledger makes the governor, from its limits; `tell` hears of the provider's pauses.
    `mirror` is told every call, where this is not the run's own ledger.
    """

    def __init__(
        self,
        path: Path,
        limits: Limits | None = None,
        gate: Gate | None = None,
        tell: Callable[[str], None] | None = None,
        mirror: Callable[[Call], None] | None = None,
    ) -> None:
        self.path = path
        self.limits = limits or Limits()
        self._calls = list(read_calls(path))
        self._totals = totals_of(self._calls)
        self.replay = Replay(self._calls, path.with_name(DECISIONS))
        self.gate = gate or self._own_gate(tell)
        self._mirror = mirror
        self._changed = threading.Lock()
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, PRIVATE_FILE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. A call still under way in another thread fails when it wants to be recorded."""
        with self._changed:
            if self._descriptor >= 0:
                os.close(self._descriptor)
            self._descriptor = -1

    def account(self, signature: str, stage: str = NO_STAGE) -> Account:
        """The labels under which a model's calls are recorded."""
        return Account(self, signature, stage)

    def record(self, call: Call) -> None:
        """Count the call and append its line, in one write so that other processes' lines stay whole."""
        line = to_json(vars(call), indent=None).encode()
        with self._changed:
            self._calls.append(call)
            self._totals = self._totals.plus(call)
            os.write(self._descriptor, line)
        admission = _ADMISSION.get()
        if admission is not None and not call.cached:
            admission.spent(1, call.cost_usd)
        self.replay.note(call, live=True)
        if self._mirror is not None:
            self._mirror(call)

    def totals(self, signature: str | None = None, stage: str | None = None) -> Totals:
        """What was recorded here so far, in all or of one signature or stage."""
        with self._changed:
            everything = signature is None and stage is None
            return self._totals if everything else totals_of(self._calls, signature, stage)

    def told(self, key: str, signature: str) -> bool:
        """Whether any process of the run has written a line of this request's answer."""
        wanted = (key, signature, None)
        return any((call.key, call.signature, call.error) == wanted for call in read_calls(self.path))

    def latency_ms(self, stage: str) -> float | None:
        """The median latency of the stage's answered calls; None when there are none."""
        with self._changed:
            known = [c.latency_ms for c in self._calls if c.stage == stage and c.error is None and c.latency_ms]
        return median(known) if known else None

    @contextlib.contextmanager
    def admitted(self, holder: str = "", *, finishing: bool = False) -> Iterator[Admission]:
        """Stand around a call: it starts when the run's governor lets it, and what is recorded within counts.

        Raises:
            BudgetExhausted: the calls or the money are spent, but for what is kept back for others.
            DeadlinePassed: the time is over.
            RunEnded: the ledger is closed.
        """
        with contextlib.ExitStack() as stack:
            gated = self.gate.admitted(holder, finishing=finishing, deadline=self.limits.deadline)
            try:
                admission = stack.enter_context(gated)
            except DeadlinePassed:
                raise DeadlinePassed(self.limits.told_late) from None
            if self._descriptor < 0:
                msg = "the run has ended"
                raise RunEnded(msg)
            token = _ADMISSION.set(admission)
            try:
                yield admission
            finally:
                _ADMISSION.reset(token)

    def _own_gate(self, tell: Callable[[str], None] | None) -> Governor:
        caps = Caps(self.limits.concurrency, self.limits.max_calls, self.limits.max_cost_usd)
        return Governor(caps, calls=self._totals.calls, cost_usd=self._totals.cost_usd or 0.0, tell=tell)


class Account:
    """A ledger with the labels of one model's calls; all threads that share the model share its present stage.

    `finishing`: its calls may use what is kept back of the run's budget for `holder`. DSPy leaves threads behind where
    it is stopped: a part of the work whose account is closed makes no further call, and `settle` waits for its last.
    """

    def __init__(self, ledger: Ledger, signature: str, stage: str) -> None:
        self.ledger = ledger
        self.signature = signature
        self.holder = signature
        self.finishing = False
        self._stage = stage
        self._closed = threading.Event()
        self._under_way = 0
        self._changed = threading.Condition()

    def __deepcopy__(self, _: dict[int, Any]) -> Self:
        """Itself: DSPy deep-copies programs with their models, and all of them are one account."""
        return self

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[Self]:
        """Calls made within belong to this stage, in whatever thread."""
        before, self._stage = self._stage, name
        try:
            yield self
        finally:
            self._stage = before

    def part(self, stage: str) -> Account:
        """An account for a part of the work, with an end of its own; it draws on the same share of the budget."""
        made = Account(self.ledger, self.signature, stage)
        made.holder, made.finishing = self.holder, self.finishing
        return made

    @contextlib.contextmanager
    def admitted(self) -> Iterator[Admission]:
        """Stand around a call of this account.

        Raises:
            RunEnded: the account is closed; or as `Ledger.admitted`.
        """
        self._refuse_when_closed()
        self._move(1)
        try:
            with self.ledger.admitted(self.holder, finishing=self.finishing) as admission:
                self._refuse_when_closed()
                yield admission
        finally:
            self._move(-1)

    def close(self) -> None:
        """Let no further call begin."""
        self._closed.set()

    def settle(self) -> None:
        """Let no further call begin, and wait until those under way are recorded."""
        self.close()
        with self._changed:
            self._changed.wait_for(lambda: not self._under_way)

    def _move(self, calls: int) -> None:
        with self._changed:
            self._under_way += calls
            self._changed.notify_all()

    def _refuse_when_closed(self) -> None:
        if self._closed.is_set():
            msg = "this part of the run is over"
            raise RunEnded(msg)

    @property
    def present_stage(self) -> str:
        """The stage that a call made now belongs to."""
        return self._stage

    def failed(self, error: str) -> None:
        """Be told that a call failed for good, now or when the run was here before."""

    def totals(self, stage: str | None = None) -> Totals:
        """What this signature's calls came to, in all or in one stage."""
        return self.ledger.totals(self.signature, stage)

    def record(self, **facts: Any) -> None:
        """Record a call under the present labels; `facts` are the other fields of `Call`."""
        moment = now().isoformat(timespec="milliseconds")
        self.ledger.record(Call(time=moment, stage=self._stage, signature=self.signature, **facts))
