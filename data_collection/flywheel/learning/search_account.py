"""The account that a search has with the model, and how it ends with the search.

DSPy leaves threads behind that would go on asking, at the expense of the test: a closed account refuses them. And DSPy
takes a failing call for a program that scores 0: an account most of whose calls fail ends the search.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import deque
from statistics import fmean
from typing import TYPE_CHECKING, Any

from flywheel.learning.ledger import Account
from flywheel.learning.limits import DeadlinePassed
from flywheel.learning.stages import PROPOSAL, SEARCH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flywheel.learning.gate import Admission

# A search ends when so many of its latest calls failed for good.
WATCHED_CALLS, MOST_FAILED = 40, 20
# What follows a search is given this much more time than its calls took: some are slower, some are made twice.
MORE_TIME = 1.5


class ModelFailing(BaseException):
    """Too many calls fail. DSPy takes every Exception for a program that scores 0, so this is none."""


class SearchAccount(Account):
    """The account of one search, which ends while there is time for the `finishing` calls that follow it.

    `proposed` is told of every call by which instructions are proposed: no metric sees those.
    """

    def __init__(
        self,
        account: Account,
        finishing: int = 0,
        threads: int = 1,
        proposed: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(account.ledger, account.signature, SEARCH)
        self.proposed = proposed
        self.holder, self.finishing = account.holder, account.finishing
        self._rounds = math.ceil(finishing / threads)
        self._lock = threading.Lock()
        self._failed: deque[bool] = deque(maxlen=WATCHED_CALLS)
        self._latencies: deque[float] = deque(maxlen=WATCHED_CALLS)
        self._failing: str | None = None

    @property
    def seconds_kept(self) -> float:
        """How long what follows the search will take, by the latest calls."""
        with self._lock:
            latencies = list(self._latencies)
        return MORE_TIME * self._rounds * fmean(latencies) / 1000 if latencies else 0.0

    @contextlib.contextmanager
    def admitted(self) -> Iterator[Admission]:
        """Stand around a call.

        Raises:
            DeadlinePassed: what is left of the time is needed for what follows; or as `Account.admitted`.
            ModelFailing: too many calls failed already.
        """
        self._refuse_when_late()
        with super().admitted() as admission:
            self._refuse_when_failing()
            yield admission

    def _refuse_when_failing(self) -> None:
        """DSPy's other threads go on for a while after one has told that the model fails."""
        if self._failing is not None:
            raise ModelFailing(self._failing)

    def _refuse_when_late(self) -> None:
        limits = self.ledger.limits
        if limits.deadline is not None and time.monotonic() + self.seconds_kept >= limits.deadline:
            raise DeadlinePassed(limits.told_late)

    def record(self, **facts: Any) -> None:
        """Record a call."""
        super().record(**facts)
        if self.present_stage == PROPOSAL:
            self.proposed()
        if facts.get("error") is None:
            self._count()
        if facts["latency_ms"] is not None:
            with self._lock:
                self._latencies.append(facts["latency_ms"])

    def failed(self, error: str) -> None:
        """Count a call that failed for good, now or (replayed) before.

        Raises:
            ModelFailing: too many of the latest calls failed.
        """
        self._count(error)
        self._refuse_when_failing()

    def _count(self, error: str | None = None) -> None:
        """Count a call; the one by which too many of the latest have failed says so for all."""
        with self._lock:
            self._failed.append(error is not None)
            failed = sum(self._failed)
            if failed >= MOST_FAILED and self._failing is None:
                self._failing = f"{failed} of the latest {len(self._failed)} calls failed, the last one by {error}"


class Proposals(Account):
    """The part of a search's account that pays for proposals."""

    def __init__(self, search: SearchAccount) -> None:
        super().__init__(search.ledger, search.signature, PROPOSAL)
        self._search = search

    @contextlib.contextmanager
    def admitted(self) -> Iterator[Admission]:
        """Stand around a call; see `SearchAccount.admitted`."""
        with self._search.admitted() as admission:
            yield admission

    def record(self, **facts: Any) -> None:
        """Record a call, and tell of it."""
        super().record(**facts)
        self._search.proposed()

    def failed(self, error: str) -> None:
        """Count a call that failed for good; see `SearchAccount.failed`."""
        self._search.failed(error)
