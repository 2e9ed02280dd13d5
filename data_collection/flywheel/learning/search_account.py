"""The account that a search has with the model, and how it ends with the search.

DSPy leaves threads behind that would go on asking, at the expense of the test: a closed account refuses them. And DSPy
takes a failing call for a program that scores 0: an account most of whose calls fail ends the search.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from flywheel.learning.ledger import Account
from flywheel.learning.limits import RunEnded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flywheel.learning.gate import Admission

SEARCH = "optimize"
# A search ends when so many of its latest calls failed for good.
WATCHED_CALLS, MOST_FAILED = 40, 20


class ModelFailing(BaseException):
    """Too many calls fail. DSPy takes every Exception for a program that scores 0, so this is none."""


class SearchAccount(Account):
    """The account of one search."""

    def __init__(self, account: Account) -> None:
        super().__init__(account.ledger, account.signature, SEARCH)
        self._closed = False
        self._lock = threading.Lock()
        self._failed: deque[bool] = deque(maxlen=WATCHED_CALLS)

    def close(self) -> None:
        """Let no further call begin."""
        self._closed = True

    @contextlib.contextmanager
    def admitted(self) -> Iterator[Admission]:
        """Stand around a call.

        Raises:
            RunEnded: the search is over; or as `Ledger.admitted`.
        """
        self._refuse_when_closed()
        with super().admitted() as admission:
            self._refuse_when_closed()
            yield admission

    def _refuse_when_closed(self) -> None:
        if self._closed:
            msg = "the search is over"
            raise RunEnded(msg)

    def record(self, **facts: Any) -> None:
        """Record a call."""
        super().record(**facts)
        if facts.get("error") is None:
            self._count(failed=False)

    def failed(self, error: str) -> None:
        """Count a call that failed for good, now or (replayed) before.

        Raises:
            ModelFailing: too many of the latest calls failed.
        """
        latest = self._count(failed=True)
        if sum(latest) >= MOST_FAILED:
            msg = f"{sum(latest)} of the latest {len(latest)} calls failed, the last one by {error}"
            raise ModelFailing(msg)

    def _count(self, *, failed: bool) -> list[bool]:
        """Count a call; which of the latest ones failed."""
        with self._lock:
            self._failed.append(failed)
            return list(self._failed)
