"""One monitor an experiment: a lock that the kernel frees when its holder dies, with the holder's process id in it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING

from flywheel.base.errors import BadInputError, LockedError
from flywheel.base.files import locked
from flywheel.serving.experiments import check_id

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

POLL_SECONDS = 0.05


def _path(folder: Path, experiment_id: str) -> Path:
    return folder / f".monitor_{check_id(experiment_id)}.lock"


@contextlib.contextmanager
def monitoring(folder: Path, experiment_id: str) -> Iterator[None]:
    """Be the experiment's monitor.

    Raises:
        LockedError: another process is.
    """
    path = _path(folder, experiment_id)
    with locked(path, wait=False):
        # In place: the lock is on this very file.
        path.write_text(f"{os.getpid()}\n", encoding="ascii")
        yield


def end_monitor(folder: Path, experiment_id: str, timeout: float) -> int | None:
    """Send the monitor SIGTERM and wait up to `timeout` seconds for its end; its process id, None without a monitor.

    Raises:
        BadInputError: it did not end in time.
    """
    path = _path(folder, experiment_id)
    process: int | None = None
    deadline = time.monotonic() + timeout
    while not _is_free(path):
        text = path.read_text(encoding="ascii", errors="replace").strip()
        # Only while the lock is held: the id cannot have passed to another process then.
        if process is None and text.isdecimal():
            process = int(text)
            os.kill(process, signal.SIGTERM)
        if time.monotonic() > deadline:
            msg = f"{experiment_id}: its monitor (process {process}) did not end within {timeout:g} s"
            raise BadInputError(msg)
        time.sleep(POLL_SECONDS)
    return process


def monitored(folder: Path, experiment_id: str) -> bool:
    """Whether a monitor is at work."""
    path = _path(folder, experiment_id)
    return path.exists() and not _is_free(path)


def _is_free(path: Path) -> bool:
    try:
        with locked(path, wait=False):
            return True
    except LockedError:
        return False
