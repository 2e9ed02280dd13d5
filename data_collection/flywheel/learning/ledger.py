"""Every call to a language model, counted and written down as it happens; hard limits stop a run in time.

calls.jsonl has a line a call. DSPy's own threads inherit no context variables, so a call's labels (signature and stage)
hang on an `Account`, which its model carries along.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from flywheel.base.clock import now
from flywheel.base.errors import DamagedError
from flywheel.base.files import PRIVATE_FILE, to_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

FILE_NAME = "calls.jsonl"
NO_STAGE = "other"
_WAKE_SECONDS = 0.5


class RunStopped(BaseException):
    """A hard limit was reached. DSPy swallows every Exception, so this is none."""


class BudgetExhausted(RunStopped):
    """The calls or the money that the run may spend are spent."""


class DeadlinePassed(RunStopped):
    """The time that the run may take is over."""


@dataclass(frozen=True)
class Limits:
    """What a run may spend; None means no limit. `deadline` is on the clock of `time.monotonic()`."""

    max_calls: int | None = None
    max_cost_usd: float | None = None
    deadline: float | None = None


@dataclass(frozen=True)
class Call:
    """One call, as its line in the ledger holds it.

    `cost_usd` is None when the price is not known. A cached call spends nothing and took no time worth telling:
    0 tokens, 0 USD, `latency_ms` None. `error` is the kind of failure, never the provider's words.
    """

    time: str
    stage: str
    signature: str
    model: str
    input_tokens: int
    output_tokens: int
    cached: bool
    cost_usd: float | None
    latency_ms: float | None
    error: str | None


@dataclass(frozen=True)
class Totals:
    """Sums over calls. `calls` went to the model, failed ones (`errors`) included; cached ones count apart.

    `cost_usd` is None when the price of any answered call is unknown.
    """

    calls: int = 0
    cached_calls: int = 0
    errors: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = 0.0

    @property
    def tokens(self) -> int:
        """Input and output tokens together."""
        return self.input_tokens + self.output_tokens

    def plus(self, call: Call) -> Totals:
        """These totals with one call more."""
        if call.cached:
            return replace(self, cached_calls=self.cached_calls + 1)
        if call.error is not None:
            return replace(self, calls=self.calls + 1, errors=self.errors + 1)
        known = self.cost_usd is not None and call.cost_usd is not None
        return replace(
            self,
            calls=self.calls + 1,
            input_tokens=self.input_tokens + call.input_tokens,
            output_tokens=self.output_tokens + call.output_tokens,
            cost_usd=(self.cost_usd or 0.0) + (call.cost_usd or 0.0) if known else None,
        )


def totals_of(calls: Iterable[Call], signature: str | None = None, stage: str | None = None) -> Totals:
    """The sums over `calls`, or over those of one signature or stage."""
    totals = Totals()
    for call in calls:
        if signature in {None, call.signature} and stage in {None, call.stage}:
            totals = totals.plus(call)
    return totals


def read_calls(path: Path) -> Iterator[Call]:
    """The calls in a ledger's file, of however many processes wrote it; none when there is no file.

    A torn last line (a process died while it wrote) is left out.

    Raises:
        DamagedError: another line is no call.
    """
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    whole = text[: text.rfind("\n") + 1]
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            yield Call(**json.loads(line))
        except (ValueError, TypeError) as error:
            msg = f"{path}, line {number}: not a call: {error}"
            raise DamagedError(msg) from error


class Ledger:
    """Records calls from any thread, and stops the run at its limits.

    Limits count what this object has recorded: a resumed run, and each of several processes, has its own.
    """

    def __init__(self, path: Path, limits: Limits | None = None) -> None:
        self.path = path
        self.limits = limits or Limits()
        self._calls: list[Call] = []
        self._totals = Totals()
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

    def totals(self, signature: str | None = None, stage: str | None = None) -> Totals:
        """What was recorded here so far, in all or of one signature or stage."""
        with self._changed:
            everything = signature is None and stage is None
            return self._totals if everything else totals_of(self._calls, signature, stage)

    @contextlib.contextmanager
    def admitted(self) -> Iterator[None]:
        """Stand around a call: it starts only within the limits.

        Never more than `max_calls` reach the model: while those under way could fill the limit, further ones wait
        for their outcome (they may turn out cached). Money is known afterwards only, so calls under way when it
        runs out may overspend it.

        Raises:
            BudgetExhausted: the calls or the money are spent.
            DeadlinePassed: the time is over.
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

    def totals(self, stage: str | None = None) -> Totals:
        """What this signature's calls came to, in all or in one stage."""
        return self.ledger.totals(self.signature, stage)

    def record(self, **facts: Any) -> None:
        """Record a call under the present labels; `facts` are the other fields of `Call`."""
        moment = now().isoformat(timespec="milliseconds")
        self.ledger.record(Call(time=moment, stage=self._stage, signature=self.signature, **facts))
