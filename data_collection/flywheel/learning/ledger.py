"""Every call to a language model, counted and written down as it happens; hard limits stop a run in time.

calls.jsonl has a line a call. DSPy's own threads inherit no context variables, so a call's labels (signature and stage)
hang on an `Account`, which its model carries along.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Self

from flywheel.base.clock import now
from flywheel.base.files import PRIVATE_FILE, to_json
from flywheel.learning.calls import Call, Totals, read_calls, totals_of
from flywheel.learning.limits import BudgetExhausted, DeadlinePassed, Limits, RunEnded, RunStopped
from flywheel.learning.replay import DECISIONS, Replay

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
_WAKE_SECONDS = 0.5


class Ledger:
    """Records calls from any thread, and stops the run at its limits.

    What the file holds when it is opened is counted: a resumed run has spent what it spent before. Of several
    processes each counts what stood there when it began, and its own calls.
    """

    def __init__(self, path: Path, limits: Limits | None = None) -> None:
        self.path = path
        self.limits = limits or Limits()
        self._calls = list(read_calls(path))
        self._totals = totals_of(self._calls)
        self.replay = Replay(self._calls, path.with_name(DECISIONS))
        self._in_flight = 0
        self._changed = threading.Condition()
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
        with self._changed:
            self._calls.append(call)
            self._totals = self._totals.plus(call)
            os.write(self._descriptor, to_json(asdict(call), indent=None).encode())
        self.replay.note(call, live=True)

    def totals(self, signature: str | None = None, stage: str | None = None) -> Totals:
        """What was recorded here so far, in all or of one signature or stage."""
        with self._changed:
            everything = signature is None and stage is None
            return self._totals if everything else totals_of(self._calls, signature, stage)

    def told(self, key: str) -> bool:
        """Whether any process of the run has written a line of this request's answer."""
        return any(call.key == key and call.error is None for call in read_calls(self.path))

    @contextlib.contextmanager
    def admitted(self) -> Iterator[None]:
        """Stand around a call: it starts only within the limits.

        Never more than `max_calls` reach the model: while those under way could fill the limit, further ones wait
        for their outcome (they may turn out cached). Money is known afterwards only, so calls under way when it
        runs out may overspend it.

        Raises:
            BudgetExhausted: the calls or the money are spent.
            DeadlinePassed: the time is over.
            RunEnded: the ledger is closed.
        """
        with self._changed:
            while self._must_wait():
                self._changed.wait(_WAKE_SECONDS)
            self._in_flight += 1
        try:
            yield
        finally:
            with self._changed:
                self._in_flight -= 1
                self._changed.notify_all()

    def _must_wait(self) -> bool:
        limits, spent = self.limits, self._totals
        if self._descriptor < 0:
            msg = "the run has ended"
            raise RunEnded(msg)
        if limits.deadline is not None and time.monotonic() >= limits.deadline:
            msg = "the run's time is over"
            raise DeadlinePassed(msg)
        if limits.max_cost_usd is not None and (spent.cost_usd or 0.0) >= limits.max_cost_usd:
            msg = f"{spent.cost_usd:.4f} of {limits.max_cost_usd:.4f} USD are spent"
            raise BudgetExhausted(msg)
        if limits.max_calls is None:
            return False
        if spent.calls >= limits.max_calls:
            msg = f"{spent.calls} of {limits.max_calls} calls are spent"
            raise BudgetExhausted(msg)
        return spent.calls + self._in_flight >= limits.max_calls


class Account:
    """A ledger with the labels of one model's calls; all threads that share the model share its present stage."""

    def __init__(self, ledger: Ledger, signature: str, stage: str) -> None:
        self.ledger = ledger
        self.signature = signature
        self._stage = stage

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

    @property
    def present_stage(self) -> str:
        """The stage that a call made now belongs to."""
        return self._stage

    def totals(self, stage: str | None = None) -> Totals:
        """What this signature's calls came to, in all or in one stage."""
        return self.ledger.totals(self.signature, stage)

    def record(self, **facts: Any) -> None:
        """Record a call under the present labels; `facts` are the other fields of `Call`."""
        moment = now().isoformat(timespec="milliseconds")
        self.ledger.record(Call(time=moment, stage=self._stage, signature=self.signature, **facts))
