"""The run's governor as its other processes use it, through its door."""

from __future__ import annotations

import contextlib
import threading
import time
from multiprocessing import connection as connections
from typing import TYPE_CHECKING, Any

from flywheel.learning.gate import Admission
from flywheel.learning.governor_wire import ENTER, GO, KEEP, LEAVE, LOST, Pass, read, tune, write
from flywheel.learning.limits import RunEnded, stop_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

UNREACHABLE = "the run's governor cannot be reached any more"


class RemoteGovernor:
    """A governor behind its door; see Gate. Connections are kept for further calls, as many as were ever under way."""

    def __init__(self, entry: Pass) -> None:
        self._entry = entry
        self._lock = threading.Lock()
        self._idle: list[Connection] = []

    @contextlib.contextmanager
    def admitted(
        self, holder: str = "", *, finishing: bool = False, deadline: float | None = None
    ) -> Iterator[Admission]:
        """See Gate."""
        admission = Admission(holder, finishing, time.monotonic())
        caller = self._enter(admission, deadline)
        try:
            yield admission
        finally:
            refusal = None if admission.refusal is None else list(admission.refusal)
            self._tell(caller, LEAVE, admission.calls, admission.cost_usd, refusal)

    def keep_back(self, holder: str, calls: int, cost_usd: float = 0.0) -> None:
        """See Gate."""
        self._tell(self._take(), KEEP, holder, calls, cost_usd)

    def report(self, kind: str, *facts: Any) -> None:
        """Tell whoever keeps the door, and return when it was heard; facts are JSON, of 16 KB at most.

        Raises:
            RunEnded: nobody is there any more.
        """
        self._put(self._asked(self._take(), kind, *facts)[0])

    def close(self) -> None:
        """Close the connections that are not in use."""
        with self._lock:
            idle, self._idle = self._idle, []
        for caller in idle:
            caller.close()

    def _enter(self, admission: Admission, deadline: float | None) -> Connection:
        seconds = None if deadline is None else deadline - time.monotonic()
        caller, answer = self._asked(self._take(), ENTER, admission.holder, admission.finishing, seconds)
        if answer != [GO]:
            self._put(caller)
            raise stop_of(*answer)
        return caller

    @staticmethod
    def _asked(caller: Connection, *message: Any) -> tuple[Connection, list[Any]]:
        """The connection, and what is answered to the message."""
        try:
            write(caller, *message)
            return caller, read(caller)
        except LOST as error:
            caller.close()
            raise RunEnded(UNREACHABLE) from error
        except BaseException:
            # Interrupted while it waits: closed, it gives up its place.
            caller.close()
            raise

    def _tell(self, caller: Connection, *message: Any) -> None:
        """Send what is not answered. Where the run has ended meanwhile, the next call is told so."""
        try:
            write(caller, *message)
        except OSError:
            caller.close()
        else:
            self._put(caller)

    def _take(self) -> Connection:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        try:
            caller = connections.Client((self._entry.host, self._entry.port), "AF_INET", authkey=self._entry.key)
        except LOST as error:
            raise RunEnded(UNREACHABLE) from error
        tune(caller)
        return caller

    def _put(self, caller: Connection) -> None:
        with self._lock:
            self._idle.append(caller)
