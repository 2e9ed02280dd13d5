"""Durable files: whole or not at all, private, under locks.

A write goes to a temporary file in the same folder, is fsynced, renamed over the target, and the folder is
fsynced; after a crash a reader finds the old content or the new.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import re
import secrets
from typing import TYPE_CHECKING, Any

from flywheel.base.errors import BadInputError, DamagedError, LockedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PRIVATE_FILE = 0o600
# No file format of ours nests deeper; far below where Python's own readers and writers give up.
MAX_DEPTH = 100
_TOO_DEEP = "nested too deeply"
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s",:\[\]{}]+')
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def sync_folder(folder: Path) -> None:
    """Make the folder's own entries (creations, renames) survive a power loss."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_synced(path: Path, content: bytes, mode: int = PRIVATE_FILE) -> None:
    """Create `path` with `content` and `mode`, whatever the umask, and fsync it; the caller makes its name durable."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as stream:
        os.fchmod(descriptor, mode)
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def scratch_name(path: Path) -> Path:
    """A hidden sibling of `path` that no reader globs for."""
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")


def write_atomic(path: Path, content: str | bytes, mode: int = PRIVATE_FILE) -> None:
    """Replace `path` by `content` durably; on any error the old file stays and the temporary one goes.

    Raises:
        OSError: it cannot be written; the error names `path`.
    """
    scratch = scratch_name(path)
    try:
        write_synced(scratch, content.encode() if isinstance(content, str) else content, mode)
        scratch.replace(path)
    except BaseException as error:
        _remove(scratch)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    sync_folder(path.parent)


def _remove(scratch: Path) -> None:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        scratch.unlink()


def to_json(value: object, indent: int | None = 2) -> str:
    """JSON text with a final newline, always encodable: half characters (lone surrogates) are written as escapes.

    NaN and infinities are refused (ValueError), since jq cannot read them.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    return _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n"


def write_json(path: Path, value: object, mode: int = PRIVATE_FILE) -> None:
    """Write `value` as indented JSON, atomically."""
    write_atomic(path, to_json(value), mode)


def read_text(path: Path) -> str:
    """The file's text, without a byte order mark.

    Raises:
        BadInputError: it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror}"
        raise BadInputError(msg) from error
    except UnicodeDecodeError as error:
        msg = f"{path}: not UTF-8 text (byte {error.start})"
        raise BadInputError(msg) from error


class _NotFiniteError(ValueError):
    """A number that Python's reader takes and JSON does not have; the message is its spelling."""


class _FlawError(ValueError):
    """What is wrong with a JSON text, and in which of its lines."""

    def __init__(self, what: str, line: int = 1) -> None:
        super().__init__(what)
        self.line = line


def _finite(token: str) -> float:
    value = float(token)
    if not math.isfinite(value):
        raise _NotFiniteError(token)
    return value


def _line_of(text: str, token: str) -> int:
    """The line of the first `token` that stands outside a string."""
    start = next((match.start() for match in _TOKEN.finditer(text) if match[0] == token), 0)
    return text.count("\n", 0, start) + 1


def _too_deep(value: object) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            child
            for box in level
            if isinstance(box, dict | list)
            for child in (box.values() if isinstance(box, dict) else box)
        ]
        if not level:
            return False
    return True


def _decode(text: str) -> Any:
    try:
        value = json.loads(text, parse_constant=_finite, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise _FlawError(error.msg, error.lineno) from error
    except _NotFiniteError as error:
        what = f"{error} is no number that JSON has"
        raise _FlawError(what, _line_of(text, str(error))) from error
    except RecursionError as error:
        raise _FlawError(_TOO_DEEP) from error
    except ValueError as error:
        what = "a number has too many digits"
        raise _FlawError(what) from error
    if _too_deep(value):
        raise _FlawError(_TOO_DEEP)
    return value


def parse_json(text: str, source: str, expected: str, first_line: int = 1) -> Any:
    """The JSON value in `text`; an error names source, line and what was expected.

    Stricter than Python's reader: NaN, infinities and numbers beyond a double's range are refused. Of a key that
    stands twice in an object the last one counts, as for jq.

    Raises:
        BadInputError: `text` is not JSON.
    """
    try:
        return _decode(text)
    except _FlawError as error:
        msg = f"{source}, line {first_line + error.line - 1}: not JSON ({error}); expected {expected}"
        raise BadInputError(msg) from error


def read_json_object(path: Path, expected: str) -> dict[str, Any]:
    """The JSON object in one of our own state files.

    Raises:
        BadInputError: it cannot be read.
        DamagedError: it is not a JSON object.
    """
    try:
        value = parse_json(read_text(path), str(path), expected)
    except BadInputError as error:
        if path.is_file():
            raise DamagedError(str(error)) from error
        raise
    if not isinstance(value, dict):
        msg = f"{path}: expected {expected}, found {type(value).__name__}"
        raise DamagedError(msg)
    return value


def swap_link(link: Path, target: str) -> None:
    """Point the symlink `link` at `target` in one step: a reader never finds it missing."""
    scratch = scratch_name(link)
    scratch.symlink_to(target)
    try:
        scratch.replace(link)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    sync_folder(link.parent)


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold an exclusive flock on `path` (created when missing); the kernel frees it when the process dies.

    Raises:
        LockedError: `wait` is False and another process holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE_FILE)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            msg = f"{path}: held by another process; wait for it to end or stop it first"
            raise LockedError(msg) from error
        yield
    finally:
        os.close(descriptor)
