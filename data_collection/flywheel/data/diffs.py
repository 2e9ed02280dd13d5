"""Patches as git prints them, taken apart into files and hunks in one linear pass."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FILE_START, HUNK_START = b"\ndiff --git ", b"\n@@ -"
HUNK = re.compile(rb"(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@ ?(.*)")
ESCAPE = re.compile(rb"\\([abfnrtv\"\\]|[0-7]{3})")
ESCAPES = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
MAX_LINE = 2_000


class Hunk(NamedTuple):
    """One hunk: lines start with ` `, `+` or `-`, without line ends; `heading` is the section git names.

    `old_start` and `new_start` count lines from 1 (0 for a side that is empty).
    """

    old_start: int
    new_start: int
    heading: str
    lines: tuple[str, ...]

    @property
    def added(self) -> list[str]:
        """The added lines, without their sign."""
        return [line[1:] for line in self.lines if line[0] == "+"]

    @property
    def removed(self) -> list[str]:
        """The removed lines, without their sign."""
        return [line[1:] for line in self.lines if line[0] == "-"]


class FileDiff(NamedTuple):
    """What a commit does to one file; a binary file or a mere change of mode has no hunks."""

    path: str
    status: str
    hunks: tuple[Hunk, ...]
    binary: bool = False


def unquote(name: bytes) -> bytes:
    """A path as git's patches spell it: in double quotes with C escapes where it holds unusual bytes."""
    if not (name.startswith(b'"') and name.endswith(b'"') and len(name) > 1):
        return name
    return ESCAPE.sub(lambda match: _unescape(match[1]), name[1:-1])


def _unescape(code: bytes) -> bytes:
    return bytes([int(code, 8) & 0xFF]) if code.isdigit() else ESCAPES.get(code, code)


def _path(raw: bytes) -> str:
    """The path behind `a/` or `b/`; git ends one that holds spaces with a tab."""
    return os.fsdecode(unquote(raw.removesuffix(b"\t"))[2:])


def _header_path(names: bytes) -> str:
    """The path in `a/x b/x`: without renames both halves are alike, so the middle parts them."""
    return _path(names[: len(names) // 2])


def _lines(text: str) -> tuple[str, ...]:
    """A hunk's lines: without carriage returns and the note on a missing final newline, none longer than MAX_LINE."""
    lines = text.split("\n")
    if "\r" in text:
        lines = [line.rstrip("\r") for line in lines]
    if "\n\\" in text:
        lines = [line for line in lines if not line.startswith("\\")]
    if max(map(len, lines)) > MAX_LINE:
        lines = [line[:MAX_LINE] for line in lines]
    return tuple(filter(None, lines))


def _hunk(raw: bytes) -> Hunk | None:
    """The hunk whose header is the first line, after its `@@ -`; None for anything else."""
    header, _, body = raw.partition(b"\n")
    match = HUNK.match(header)
    if match is None:
        return None
    heading = match[3][:MAX_LINE].decode("utf-8", "replace").rstrip("\r")
    return Hunk(int(match[1]), int(match[2]), heading, _lines(body.decode("utf-8", "replace")))


def _status(header: bytes) -> str:
    if b"\nnew file mode" in header:
        return "A"
    return "D" if b"\ndeleted file mode" in header else "M"


def _file(raw: bytes) -> FileDiff:
    """The file whose part of the patch this is, after its `diff --git `."""
    header, *rest = raw.split(HUNK_START)
    found = tuple(hunk for part in rest if (hunk := _hunk(part)) is not None)
    binary = b"\nBinary files " in header or b"\nGIT binary patch" in header
    return FileDiff(_header_path(header.partition(b"\n")[0]), _status(header), found, binary)


def parse_patch(patch: bytes) -> tuple[FileDiff, ...]:
    """The files of one commit's patch; whatever stands before the first `diff --git` is passed over.

    Every line of a file's content has a sign or a space before it, so that what looks like a header at a line's start
    is one.
    """
    return tuple(_file(raw) for raw in (b"\n" + patch).split(FILE_START)[1:])


def records(chunks: Iterable[bytes], separator: bytes, limit: int | None = None) -> Iterator[bytes | None]:
    """The parts between separators, each at most `limit` bytes; a longer one comes as None and is not kept."""
    pending: list[bytes] = []
    head, size, started = b"", 0, False
    for chunk in chunks:
        data = head + chunk
        *whole, tail = data.split(separator)
        for part in whole:
            if started:
                yield None if limit is not None and size + len(part) > limit else b"".join([*pending, part])
            pending, size, started = [], 0, True
        # The separator may be cut in two by the chunk's end: keep what could be its first half.
        keep = len(separator) - 1
        body, head = tail[:-keep], tail[-keep:]
        size += len(body)
        if limit is None or size <= limit:
            pending.append(body)
    if started:
        yield None if limit is not None and size + len(head) > limit else b"".join([*pending, head])
