"""The way to a run's governor from its other processes, on this machine or others.

A caller proves by a challenge (multiprocessing.connection's) that it knows the run's key. Then each message is a short
JSON list, and holds no prompt and no answer: `enter` is answered when the call may start, or by why it never may;
`leave` tells what it came to, `keep` what is to be kept back; other kinds are for whoever keeps the door to hear. A
connection admits one call at a time; when it is lost, what its holder held is given back: a killed process leaks
nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from multiprocessing import AuthenticationError
from multiprocessing import connection as connections
from typing import TYPE_CHECKING, Any, Self

from flywheel.learning.gate import Admission
from flywheel.learning.limits import RunEnded, RunStopped, stop_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

    from flywheel.learning.governor import Governor

LOOPBACK = "127.0.0.1"
_ENTER, _LEAVE, _KEEP, _GO = "enter", "leave", "keep", "go"
_KEY_BYTES, _LONGEST_MESSAGE, _WAITING_CALLERS = 32, 16384, 128
_HANDSHAKE_SECONDS = 10
# A machine that vanished is given up after 60 seconds.
_ALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
_UNREACHABLE = "the run's governor cannot be reached any more"
_LOST = (EOFError, OSError, ValueError, AuthenticationError)


@dataclass(frozen=True)
class Pass:
    """Where a run's governor is, and the key to it; it goes to the run's own workers only."""

    host: str
    port: int
    key: bytes = field(repr=False)


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
                _shut(caller)

    def _accept(self) -> None:
        while self._open:
            try:
                caller = self._listener.accept()
            except OSError:
                continue
            threading.Thread(target=self._receive, args=(caller,), name="governor-caller", daemon=True).start()

    def _receive(self, caller: Connection) -> None:
        with caller, contextlib.suppress(*_LOST):
            _tune(caller, patience=_HANDSHAKE_SECONDS)
            connections.deliver_challenge(caller, self.entry.key)
            connections.answer_challenge(caller, self.entry.key)
            _tune(caller)
            with self._lock:
                self._callers.add(caller)
            try:
                while self._open:
                    self._serve(caller, *_read(caller))
            finally:
                with self._lock:
                    self._callers.discard(caller)

    def _serve(self, caller: Connection, kind: str, *facts: Any) -> None:
        if kind == _KEEP:
            self._governor.keep_back(*facts)
            return
        if kind != _ENTER:
            self._hear(kind, *facts)
            _write(caller, _GO)
            return
        holder, finishing, seconds = facts
        deadline = None if seconds is None else time.monotonic() + seconds
        try:
            admission = self._governor.enter(
                holder, finishing=finishing, deadline=deadline, gone=lambda: _is_lost(caller)
            )
        except RunStopped as stop:
            _write(caller, type(stop).__name__, str(stop))
            return
        lost = True
        try:
            _write(caller, _GO)
            _, admission.calls, admission.cost_usd, refusal = _read(caller)
            admission.refusal = None if refusal is None else (refusal[0],)
            lost = False
        finally:
            self._governor.leave(admission, lost=lost)


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
            self._tell(caller, _LEAVE, admission.calls, admission.cost_usd, refusal)

    def keep_back(self, holder: str, calls: int, cost_usd: float = 0.0) -> None:
        """See Gate."""
        self._tell(self._take(), _KEEP, holder, calls, cost_usd)

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
        caller, answer = self._asked(self._take(), _ENTER, admission.holder, admission.finishing, seconds)
        if answer != [_GO]:
            self._put(caller)
            raise stop_of(*answer)
        return caller

    @staticmethod
    def _asked(caller: Connection, *message: Any) -> tuple[Connection, list[Any]]:
        """The connection, and what is answered to the message."""
        try:
            _write(caller, *message)
            return caller, _read(caller)
        except _LOST as error:
            caller.close()
            raise RunEnded(_UNREACHABLE) from error
        except BaseException:
            # Interrupted while it waits: closed, it gives up its place.
            caller.close()
            raise

    def _tell(self, caller: Connection, *message: Any) -> None:
        """Send what is not answered. Where the run has ended meanwhile, the next call is told so."""
        try:
            _write(caller, *message)
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
        except _LOST as error:
            raise RunEnded(_UNREACHABLE) from error
        _tune(caller)
        return caller

    def _put(self, caller: Connection) -> None:
        with self._lock:
            self._idle.append(caller)


def _write(caller: Connection, *message: Any) -> None:
    caller.send_bytes(json.dumps(message).encode())


def _read(caller: Connection) -> list[Any]:
    message: list[Any] = json.loads(caller.recv_bytes(_LONGEST_MESSAGE))
    return message


def _is_lost(caller: Connection) -> bool:
    """Whether a caller that waits for an answer is gone: it has nothing to say until then."""
    try:
        return caller.poll(0)
    except OSError:
        return True


@contextlib.contextmanager
def _socket_of(caller: Connection) -> Iterator[socket.socket]:
    """The connection's socket, for its options; closing this one leaves the connection open."""
    with socket.socket(fileno=os.dup(caller.fileno())) as same:
        yield same


def _tune(caller: Connection, patience: int = 0) -> None:
    """Send at once, notice a vanished peer, and give up a read after `patience` seconds (0: never)."""
    with _socket_of(caller) as same:
        same.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        same.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", patience, 0))
        for name, value in _ALIVE.items():
            if hasattr(socket, name):
                same.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _shut(caller: Connection) -> None:
    """End a connection that a thread may be reading from."""
    with contextlib.suppress(OSError), _socket_of(caller) as same:
        same.shutdown(socket.SHUT_RDWR)
