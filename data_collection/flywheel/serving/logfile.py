"""A JSONL file of one process: appended whole batches at a time, private, a new one each day and each so many bytes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from flywheel.base.files import PRIVATE_FILE
from flywheel.base.paths import private_folder, shared_group

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date, datetime
    from pathlib import Path

SHARED_FILE = 0o660


class LogFile:
    """Appends to `<folder>/interactions-<UTC day>-<writer>-<number>.jsonl`; one thread at a time.

    A new file begins with each UTC day, beyond `largest` bytes, and when somebody removed the present one.
    """

    def __init__(self, folder: Path, writer: str, largest: int, now: Callable[[], datetime]) -> None:
        self._folder = folder
        self._writer = writer
        self._largest = largest
        self._now = now
        self._descriptor = -1
        self._day: date | None = None
        self._number = 0
        self._torn = False

    def append(self, lines: bytes) -> None:
        """Write whole lines.

        Raises:
            OSError: not, or not all, of them could be written.
            BadInputError: the folder is not ours or cannot be made.
        """
        day = self._now().date()
        if self._descriptor >= 0 and self._outlived(day):
            self.close()
        if self._descriptor < 0:
            self._open(day)
        # A line that a full disk cut short must not swallow the one that follows it.
        rest = memoryview(b"\n" + lines if self._torn else lines)
        while rest:
            written = os.write(self._descriptor, rest)
            self._torn = written < len(rest)
            rest = rest[written:]

    def close(self) -> None:
        """Close the file; the next append opens another."""
        descriptor, self._descriptor, self._torn = self._descriptor, -1, False
        if descriptor >= 0:
            os.close(descriptor)

    def forget(self) -> None:
        """Close this process's copy of the descriptor after a fork; the file goes on in the parent."""
        self.close()

    def _outlived(self, day: date) -> bool:
        status = os.fstat(self._descriptor)
        return day != self._day or status.st_size >= self._largest or status.st_nlink == 0

    def _open(self, day: date) -> None:
        folder = private_folder(self._folder, shared=True)
        mode = PRIVATE_FILE if shared_group() is None else SHARED_FILE
        self._number += 1
        name = f"interactions-{day:%Y%m%d}-{self._writer}-{self._number:04}.jsonl"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(folder / name, flags, mode)
        os.fchmod(self._descriptor, mode)
        self._day = day
