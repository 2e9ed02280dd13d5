"""What a governor and those behind its door say to each other: short JSON lists over an authenticated connection.

`enter` (holder, finishing, seconds left) is answered by `go`, or by a stop's kind and words; `leave` (calls, cost,
refusal) and `keep` (holder, calls, cost) are not answered; any other kind is heard, and then answered by `go`.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
from dataclasses import dataclass, field
from multiprocessing import AuthenticationError
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

ENTER, LEAVE, KEEP, GO = "enter", "leave", "keep", "go"
# A connection that is lost, or whose peer is not one of the run's.
LOST = (EOFError, OSError, ValueError, AuthenticationError)
_LONGEST_MESSAGE = 16384
# A machine that vanished is given up after 60 seconds.
_ALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}


@dataclass(frozen=True)
class Pass:
    """Where a run's governor is, and the key to it; it goes to the run's own workers only."""

    host: str
    port: int
    key: bytes = field(repr=False)


def write(caller: Connection, *message: Any) -> None:
    """Send a message."""
    caller.send_bytes(json.dumps(message).encode())


def read(caller: Connection) -> list[Any]:
    """Wait for a message."""
    message: list[Any] = json.loads(caller.recv_bytes(_LONGEST_MESSAGE))
    return message


@contextlib.contextmanager
def _socket_of(caller: Connection) -> Iterator[socket.socket]:
    """The connection's socket, for its options; closing this one leaves the connection open."""
    with socket.socket(fileno=os.dup(caller.fileno())) as same:
        yield same


def tune(caller: Connection, patience: int = 0) -> None:
    """Send at once, notice a vanished peer, and give up a read after `patience` seconds (0: never)."""
    with _socket_of(caller) as same:
        same.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        same.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", patience, 0))
        for name, value in _ALIVE.items():
            if hasattr(socket, name):
                same.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def shut(caller: Connection) -> None:
    """End a connection that a thread may be reading from."""
    with contextlib.suppress(OSError), _socket_of(caller) as same:
        same.shutdown(socket.SHUT_RDWR)
