"""Progress on stderr for anything that takes longer than two seconds: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Protocol

from flywheel.base.cli import say
from flywheel.base.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable

LINE_EVERY_SECONDS = 10.0


def duration(seconds: float) -> str:
    """`45 s`, `3 min`, `2 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


class Progress(Protocol):
    """What a long job tells while it runs."""

    def phase(self, name: str, total: int | None = None) -> None:
        """A new phase begins; `total` is its number of steps, where it is known."""

    def step(self, status: str = "", count: int = 1) -> None:
        """`count` more steps of the phase are done; `status` says what is worth knowing now."""

    def line(self, text: str) -> None:
        """Something worth a line of its own."""

    def close(self) -> None:
        """The job is over."""


class _Pace:
    """How far a phase is, and when it will be done if it goes on like this."""

    def __init__(self, name: str, total: int | None) -> None:
        self.name, self.total, self.done = name, total, 0
        self.started = time.monotonic()

    def describe(self) -> str:
        elapsed = time.monotonic() - self.started
        if not self.total:
            return duration(elapsed)
        text = f"{self.done}/{self.total}"
        if not self.done:
            return text
        left = elapsed / self.done * max(0, self.total - self.done)
        return f"{text}, {duration(left)} left"


class PlainProgress:
    """Lines for a log: one at each phase's start, then at most one every ten seconds."""

    def __init__(self, write: Callable[[str], None] = say) -> None:
        self._write = write
        self._began = time.monotonic()
        self._pace: _Pace | None = None
        self._last = 0.0

    def phase(self, name: str, total: int | None = None) -> None:
        """See Progress."""
        self._pace = _Pace(name, total)
        self._last = time.monotonic()
        self._print(name + (f" (0/{total})" if total else ""))

    def step(self, status: str = "", count: int = 1) -> None:
        """See Progress."""
        if self._pace is None:
            return
        self._pace.done += count
        if time.monotonic() - self._last >= LINE_EVERY_SECONDS or self._pace.done == self._pace.total:
            self._last = time.monotonic()
            self._print(", ".join(filter(None, (f"{self._pace.name}: {self._pace.describe()}", status))))

    def line(self, text: str) -> None:
        """See Progress."""
        self._print(text)

    def close(self) -> None:
        """See Progress."""
        self._pace = None

    def _print(self, text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        self._write(f"[{minutes:02d}:{seconds:02d}] {one_line(text, 300)}")


class BarProgress:
    """One live bar for the present phase; lines scroll above it."""

    def __init__(self) -> None:
        from rich import progress as bars
        from rich.console import Console

        columns = (bars.SpinnerColumn(), bars.TextColumn("{task.description}", markup=False), bars.BarColumn(24))
        times = (bars.MofNCompleteColumn(), bars.TimeElapsedColumn(), bars.TimeRemainingColumn())
        status = bars.TextColumn("{task.fields[status]}", style="dim", markup=False)
        console = Console(stderr=True, highlight=False, markup=False)
        self._bars: Any = bars.Progress(*columns, *times, status, console=console, transient=True)
        self._task: Any = None
        self._bars.start()

    def phase(self, name: str, total: int | None = None) -> None:
        """See Progress."""
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._task = self._bars.add_task(one_line(name, 60), total=total, status="")

    def step(self, status: str = "", count: int = 1) -> None:
        """See Progress."""
        if self._task is not None:
            self._bars.update(self._task, advance=count, status=one_line(status, 90))

    def line(self, text: str) -> None:
        """See Progress."""
        self._bars.console.print(one_line(text, 300))

    def close(self) -> None:
        """See Progress."""
        self._bars.stop()


def open_progress() -> BarProgress | PlainProgress:
    """Bars where stderr is a terminal, else lines."""
    return BarProgress() if sys.stderr.isatty() else PlainProgress()
