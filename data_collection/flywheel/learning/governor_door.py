"""The way to a run's governor from its other processes, on this machine or others.

A caller proves by a challenge (multiprocessing.connection's) that it knows the run's key; what is said then holds no
prompt and no answer. A connection admits one call at a time; when it is lost, what its holder held is given back: a
killed process leaks nothing.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
import time
from multiprocessing import connection as connections
from typing import TYPE_CHECKING, Any, Self

from flywheel.learning.governor_wire import ENTER, GO, KEEP, LOST, Pass, read, shut, tune, write
from flywheel.learning.limits import RunStopped

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from flywheel.learning.governor import Governor

LOOPBACK = "127.0.0.1"
_KEY_BYTES, _WAITING_CALLERS = 32, 128
_HANDSHAKE_SECONDS = 10


class Door:
    """Lets callers in to `governor` at a free port of `host` while it is open; a context manager.

    `hear` is called with every message of another kind, in the caller's own thread.
    """

    def __init__(self, governor: Governor, host: str = LOOPBACK, hear: Callable[..., None] = lambda *_: None) -> None:
        self._governor, self._hear = governor, hear
        self._listener = connections.Listener((host, 0), "AF_INET", backlog=_WAITING_CALLERS)
        bound, port = self._listener.address[:2]
        self.entry = Pass(str(bound), int(port), secrets.token_bytes(_KEY_BYTES))
        self._open = True
        self._lock = threading.Lock()
        self._callers: set[Connection] = set()
        threading.Thread(target=self._accept, name="governor-door", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let nobody in any more, and send away who is in."""
        self._open = False
        # Closing alone does not wake a thread that waits in accept.
        with contextlib.suppress(OSError), socket.create_connection((self.entry.host, self.entry.port), 1):
            pass
        self._listener.close()
        with self._lock:
            for caller in self._callers:
                shut(caller)

    def _accept(self) -> None:
        while self._open:
            try:
                caller = self._listener.accept()
            except OSError:
                continue
            threading.Thread(target=self._receive, args=(caller,), name="governor-caller", daemon=True).start()

    def _receive(self, caller: Connection) -> None:
        with caller, contextlib.suppress(*LOST):
            tune(caller, patience=_HANDSHAKE_SECONDS)
            connections.deliver_challenge(caller, self.entry.key)
            connections.answer_challenge(caller, self.entry.key)
            tune(caller)
            with self._lock:
                self._callers.add(caller)
            try:
                while self._open:
                    self._serve(caller, *read(caller))
            finally:
                with self._lock:
                    self._callers.discard(caller)

    def _serve(self, caller: Connection, kind: str, *facts: Any) -> None:
        if kind == KEEP:
            self._governor.keep_back(*facts)
            return
        if kind != ENTER:
            self._hear(kind, *facts)
            write(caller, GO)
            return
        holder, finishing, seconds = facts
        deadline = None if seconds is None else time.monotonic() + seconds
        try:
            admission = self._governor.enter(
                holder, finishing=finishing, deadline=deadline, gone=lambda: _is_lost(caller)
            )
        except RunStopped as stop:
            write(caller, type(stop).__name__, str(stop))
            return
        lost = True
        try:
            write(caller, GO)
            _, admission.calls, admission.cost_usd, refusal = read(caller)
            admission.refusal = None if refusal is None else (refusal[0],)
            lost = False
        finally:
            self._governor.leave(admission, lost=lost)


def _is_lost(caller: Connection) -> bool:
    """Whether a caller that waits for an answer is gone: it has nothing to say until then."""
    try:
        return caller.poll(0)
    except OSError:
        return True
