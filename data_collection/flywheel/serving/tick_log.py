"""One line a look, in a file that long experiments do not let grow without end: old looks are thinned out.

What changed stays for ever: every look that did not hold, the first and the last of each stage, and the first of each
new reason. Of the others the latest stay, and every other one goes each time the file has grown too large.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any

from flywheel.base.files import PRIVATE_FILE, to_json, write_atomic

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LARGEST_BYTES = 8 << 20
LATEST = 500


def append(path: Path, line: dict[str, Any], largest: int = LARGEST_BYTES) -> None:
    """Add a look, and thin the file out if it has become larger than `largest` bytes. One writer at a time.

    Raises:
        OSError: it cannot be written.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, PRIVATE_FILE)
    with os.fdopen(descriptor, "r+b", buffering=0) as stream:
        size = stream.seek(0, os.SEEK_END)
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        # A line that a crash cut short must not swallow the one that follows it.
        stream.write((b"\n" if torn else b"") + to_json(line, indent=None).encode())
        size = stream.tell()
    if size > largest:
        write_atomic(path, "".join(to_json(tick, indent=None) for tick in thinned(read(path))))


def read(path: Path) -> list[dict[str, Any]]:
    """The looks, oldest first; a line torn by a crash is left out."""
    found = []
    for text in (
        path.read_text(encoding="utf-8", errors="replace").splitlines()
        if path.is_file() and not path.is_symlink()
        else ()
    ):
        with contextlib.suppress(ValueError):
            line = json.loads(text)
            if isinstance(line, dict):
                found.append(line)
    return found


def thinned(ticks: Sequence[dict[str, Any]], latest: int = LATEST) -> list[dict[str, Any]]:
    """The looks without every other one of those that are old and said nothing new."""
    kept, dull = [], 0
    for number, tick in enumerate(ticks):
        before = ticks[number - 1] if number else None
        after = ticks[number + 1] if number + 1 < len(ticks) else None
        if number >= len(ticks) - latest or _tells(before, tick, after):
            kept.append(tick)
        else:
            dull += 1
            if dull % 2:
                kept.append(tick)
    return kept


def _tells(before: dict[str, Any] | None, tick: dict[str, Any], after: dict[str, Any] | None) -> bool:
    """Whether something happened: no hold, another reason than before, or the edge of a stage."""
    if before is None or after is None or tick.get("action") != "hold":
        return True
    return (
        tick.get("reasons") != before.get("reasons") or _stage(before) != _stage(tick) or _stage(after) != _stage(tick)
    )


def _stage(tick: dict[str, Any]) -> Any:
    return (tick.get("figures") or {}).get("stage")
