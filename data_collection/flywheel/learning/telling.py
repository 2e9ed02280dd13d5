"""Progress across processes: what a worker tells of its assignment, and how its caller passes it on."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from flywheel.base.progress import Progress

PHASE, STEP, LINE = "phase", "step", "line"
_LONGEST = 500


class ToldProgress:
    """Progress that is told by `send` (kind, text, count), from any of a worker's threads, one at a time."""

    def __init__(self, send: Callable[[str, str, int], None]) -> None:
        self._send = send
        self._lock = threading.Lock()

    def _tell(self, kind: str, text: str, count: int = 0) -> None:
        with self._lock:
            self._send(kind, text[:_LONGEST], count)

    def phase(self, name: str, total: int | None = None) -> None:
        """See Progress."""
        del total
        self._tell(PHASE, name)

    def step(self, status: str = "", count: int = 1) -> None:
        """See Progress."""
        self._tell(STEP, status, count)

    def line(self, text: str) -> None:
        """See Progress."""
        self._tell(LINE, text)

    def close(self) -> None:
        """See Progress."""


def pass_on(progress: Progress, name: str, kind: str, text: str, count: int) -> None:
    """Say what the worker on `name` has told."""
    if kind == STEP:
        progress.step(f"{name}: {text}", count)
    else:
        progress.line(f"{name}: {text}" if kind == LINE and name not in text else text)
