"""The state's file between two looks: one writer at a time, and a damaged one is put aside and told."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from flywheel.base.errors import BadInputError, DamagedError
from flywheel.base.files import locked
from flywheel.ops.findings import CRITICAL, Finding
from flywheel.ops.observed import SYSTEM
from flywheel.ops.state import MonitoringState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path


@contextlib.contextmanager
def state_lock(path: Path) -> Iterator[None]:
    """Keep other checks away from the state; a folder that takes no lock file is told by the failing write."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(path.with_name(f"{path.name}.lock"), wait=False))
        yield


def read_state(path: Path, now: datetime) -> tuple[MonitoringState, str | None]:
    """The stored state, or a fresh one and why the stored one cannot be read."""
    if not path.exists():
        return MonitoringState(now), None
    try:
        return MonitoringState.read(path), None
    except (BadInputError, DamagedError) as error:
        return MonitoringState(now), str(error)


def set_aside(path: Path, reason: str, now: datetime) -> Finding:
    """Keep the unreadable state file as *.damaged, and tell it."""
    kept = path.with_name(f"{path.name}.damaged")
    with contextlib.suppress(OSError):
        path.replace(kept)
    return Finding(
        SYSTEM, "state_damaged", str(path), CRITICAL, "Unreadable State",
        "The monitoring state could not be read; it was started afresh, so alerts may be told twice",
        now, f"look at {kept}; nothing else is needed", {"path": str(path), "reason": reason}, event=True,
    )  # fmt: skip


def unwritable(path: Path, error: OSError, now: datetime) -> Finding:
    """The state cannot be kept, so every check will tell everything again."""
    return Finding(
        SYSTEM, "state_unwritable", str(path), CRITICAL, "Monitoring State Not Writable",
        f"{path} cannot be written ({error.strerror}): alerts will be repeated at every check",
        now, f"ls -ld {path.parent} {path}", {"path": str(path)},
    )  # fmt: skip
