"""A worker process that ends with the process that started it, however that one ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import wait


def end_with_parent() -> None:
    """From now on, when the process that asked for this one is gone, this one is killed at once.

    Without it, a worker whose caller was killed would go on to call the model until its next word to the caller.
    A keyboard's interrupt goes to the whole process group; it is the caller's to act on, so this process ignores it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    threading.Thread(target=_wait_and_die, args=(parent.sentinel,), name="end-with-parent", daemon=True).start()


def _wait_and_die(sentinel: int) -> None:
    wait([sentinel])
    os.kill(os.getpid(), signal.SIGKILL)
