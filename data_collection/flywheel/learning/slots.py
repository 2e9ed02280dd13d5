"""A cap on what is under way at once, over all threads and processes that share a folder.

A slot is a file, holding it an exclusive lock: the kernel frees what a killed process held, so none is ever lost.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flywheel.base.files import PRIVATE_FILE
from flywheel.base.paths import private_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Slots:
    """`count` slots in `folder`, which is made when it is missing."""

    folder: Path
    count: int

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Hold a slot within the body; waits while all are taken."""
        descriptor = self._taken()
        try:
            yield
        finally:
            os.close(descriptor)

    def _taken(self) -> int:
        """A free slot's descriptor; where there is none, the caller queues for one of them at random."""
        private_folder(self.folder)
        numbers = random.sample(range(self.count), self.count)
        for number in numbers:
            descriptor = self._open(number)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
            else:
                return descriptor
        descriptor = self._open(numbers[0])
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return descriptor

    def _open(self, number: int) -> int:
        return os.open(self.folder / str(number), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE_FILE)
