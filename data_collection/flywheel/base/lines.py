"""Files of lines that only grow: appended durably under a lock, a torn last line being none."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from flywheel.base.files import PRIVATE_FILE, read_text, sync_folder

if TYPE_CHECKING:
    from pathlib import Path


def append_lines(path: Path, lines: str) -> None:
    """Append whole `lines` durably, to a file that is made when missing; the caller holds the lock that guards it.

    What a writer that died left of a last line is cut off first.
    """
    if not lines:
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE_FILE)
    with os.fdopen(descriptor, "r+b") as stream:
        content = stream.read()
        stream.seek(content.rfind(b"\n") + 1)
        stream.truncate()
        stream.write(lines.encode())
        stream.flush()
        os.fsync(stream.fileno())
    if not content:
        sync_folder(path.parent)


def read_lines(path: Path) -> list[str]:
    """The whole lines of the file, without their ends; none when there is no file.

    Raises:
        BadInputError: it cannot be read, or is not UTF-8.
    """
    return read_text(path).split("\n")[:-1] if path.is_file() else []


def mend_tail(path: Path) -> None:
    """Cut off what a writer that died left of a last line; nothing else may write meanwhile."""
    if not path.is_file():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)
