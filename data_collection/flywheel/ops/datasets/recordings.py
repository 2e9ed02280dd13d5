"""An example among a service's interaction records: found, and taken out while the service goes on recording.

A line keeps its length: its input and output become empty, as those of a call that was not sampled, and blanks follow.
So whoever appends to the file, or reads on from where it was, meets what it expects, and every call still counts.
"""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING, Any

from flywheel.data.target import inputs_digest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flywheel.data.target import Target

_ENDINGS = b"\r\n"


def records_of(target: Target, telemetry: Path) -> dict[Path, int]:
    """How many records of each file hold the example; files without one are left out."""
    counts = {path: sum(1 for _ in _changes(target, path)) for path in _files(telemetry)}
    return {path: count for path, count in counts.items() if count}


def erase_records(target: Target, path: Path) -> None:
    """Take the example out of the file's records, in their places, durably."""
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        for offset, line in _changes(target, path):
            os.pwrite(descriptor, line, offset)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _files(telemetry: Path) -> Iterator[Path]:
    for path in sorted(telemetry.glob("*.jsonl")):
        if stat.S_ISREG(path.lstat().st_mode):
            yield path


def _changes(target: Target, path: Path) -> Iterator[tuple[int, bytes]]:
    """Where a line that holds the example begins, and what to write there."""
    offset = 0
    with path.open("rb") as stream:
        for line in stream:
            body = line.rstrip(_ENDINGS)
            changed = _without(target, body)
            if changed is not None:
                yield offset, changed.ljust(len(body))
            offset += len(line)


def _without(target: Target, body: bytes) -> bytes | None:
    """The record without the example, no longer than before; None where it does not hold it."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    try:
        record = json.loads(text)
        left, changes = target.without(_unsampled(target, record))
        found = _compact(left) if changes or left != record else body
    except (ValueError, RecursionError):
        found = target.redacted(text).encode()  # a line that a crash tore off still holds what it holds
    if found == body:
        return None
    # A number may be spelled longer than before; the line then gives up its call.
    return found if len(found) <= len(body) else b"{}"


def _compact(record: object) -> bytes:
    try:
        return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # half a character, which JSON can only escape
        return json.dumps(record, separators=(",", ":")).encode()


def _unsampled(target: Target, record: Any) -> Any:
    """The record, without input and output where they are the example's."""
    if not isinstance(record, dict) or not _is_call(target, record):
        return record
    return {**record, "input": {}, "output": {}, "sampled": False}


def _is_call(target: Target, record: dict[str, Any]) -> bool:
    """Whether the call was one of the example's signature, with its inputs."""
    given = record.get("input")
    if record.get("signature") != target.signature.name or not isinstance(given, dict):
        return False
    return inputs_digest(target.signature.name, given) == target.digest
