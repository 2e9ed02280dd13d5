"""Following a folder of growing JSONL files: every line once, through rotation, truncation and copies."""

from __future__ import annotations

import contextlib
import os
import stat
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from flywheel.base.errors import DamagedError
from flywheel.serving.bucketing import content_digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

CHUNK_BYTES = 64 << 10
# Longer than any record that a Recorder writes; what is longer is skipped and counted.
LONGEST_LINE = 8 << 20
HEAD_BYTES = 1 << 10
MARK_BYTES = 1 << 10
_MOST_RETIRED = 64
_OLD_DIGEST = 16


@dataclass(slots=True)
class Position:
    """How far a file has been read.

    `head` is the digest of its first `head_size` bytes, `mark` of the `mark_size` before `offset`: together they tell a
    copy (or the file itself) from another file. `size` and `mtime_ns` are those of the last look; `skipping` says that
    the offset is within an overlong line.
    """

    device: int
    inode: int
    offset: int = 0
    head_size: int = 0
    head: str = ""
    mark_size: int = 0
    mark: str = ""
    size: int = 0
    mtime_ns: int = 0
    skipping: bool = False

    def to_object(self) -> dict[str, Any]:
        """For JSON."""
        return {name: getattr(self, name) for name in self.__slots__}

    def advance(self, content: bytes) -> None:
        """Count `content`, which follows the offset, as read."""
        self.offset += len(content)
        self.mark_size, self.mark = _marked(content[-MARK_BYTES:])

    def found_in(self, descriptor: int) -> bool:
        """Whether the file still has what was read last, where it was read."""
        return _is_digest(self.mark, os.pread(descriptor, self.mark_size, self.offset - self.mark_size))

    def restart(self) -> None:
        """Nothing has been read."""
        self.offset, self.skipping = 0, False
        self.head_size, self.head = self.mark_size, self.mark = _marked(b"")


def _marked(content: bytes) -> tuple[int, str]:
    return len(content), content_digest(content)


def _is_digest(digest: str, content: bytes) -> bool:
    if len(digest) > _OLD_DIGEST:
        return digest == content_digest(content)
    # Of a version that began the reading before. OpenSSL, which comes with hashlib, takes 4 MB.
    from hashlib import blake2b

    return digest == blake2b(content, digest_size=_OLD_DIGEST // 2).hexdigest()


class Tail:
    """Reads what was added to the `*.jsonl` files of a folder since the last time.

    `counts` says what happened to files: truncated (shorter than what was read), replaced (another content under the
    same inode), copied (a new file that repeats a known one's beginning), unreadable, and overlong lines. A folder that
    is missing has no files.
    """

    def __init__(self, folder: Path, checkpoint: Mapping[str, Any] | None = None) -> None:
        self._folder = folder
        self._positions: dict[tuple[int, int], Position] = {}
        # The beginnings of files that were truncated or are gone: their copies may turn up later.
        self._retired: deque[Position] = deque(maxlen=_MOST_RETIRED)
        self.counts = {"truncated": 0, "replaced": 0, "copied": 0, "unreadable": 0, "overlong": 0}
        if checkpoint is not None:
            self._restore(checkpoint)

    def chunks(self) -> Iterator[bytes]:
        """Whole lines, about `CHUNK_BYTES` at a time, each chunk ending in a newline; a torn last line waits.

        What has been yielded counts as read.
        """
        present, changed = self._look()
        # What changed files had been read to before this look; the positions of the others stay as they are.
        before = [replace(self._positions[key]) for known, _, key in changed if known]
        originals = [*self._retired, *before]
        for _, path, _ in changed:
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:
                self.counts["unreadable"] += 1
                continue
            try:
                yield from self._read(descriptor, os.fstat(descriptor), originals)
            finally:
                os.close(descriptor)
        for key in self._positions.keys() - present:
            self._retired.append(self._positions.pop(key))

    def checkpoint(self) -> dict[str, Any]:
        """Everything needed to go on in another process, for JSON."""
        return {
            "positions": [position.to_object() for position in self._positions.values()],
            "retired": [position.to_object() for position in self._retired],
            "counts": dict(self.counts),
        }

    def _restore(self, checkpoint: Mapping[str, Any]) -> None:
        try:
            positions = [Position(**item) for item in checkpoint["positions"]]
            self._retired.extend(Position(**item) for item in checkpoint["retired"])
            self.counts.update(checkpoint["counts"])
        except (KeyError, TypeError, ValueError) as error:
            msg = f"checkpoint of the telemetry tail: {error!r}"
            raise DamagedError(msg) from error
        self._positions = {(position.device, position.inode): position for position in positions}

    def _look(self) -> tuple[set[tuple[int, int]], list[tuple[bool, str, tuple[int, int]]]]:
        """The files that are there; of those that have changed: whether they are known, path and key.

        Known ones come first, since a copy is told by what its original has been read to.
        """
        present: set[tuple[int, int]] = set()
        changed: list[tuple[bool, str, tuple[int, int]]] = []
        for path, status in self._files():
            key = (status.st_dev, status.st_ino)
            present.add(key)
            known = self._positions.get(key)
            if known is None or (known.size, known.mtime_ns) != (status.st_size, status.st_mtime_ns):
                changed.append((known is not None, path, key))
        return present, sorted(changed, key=lambda item: (not item[0], item[1]))

    def _files(self) -> Iterator[tuple[str, os.stat_result]]:
        try:
            entries = os.scandir(self._folder)
        except FileNotFoundError:
            return
        with entries:
            for entry in entries:
                if entry.name.endswith(".jsonl") and not entry.name.startswith("."):
                    with contextlib.suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        if stat.S_ISREG(status.st_mode):
                            yield entry.path, status

    def _read(self, descriptor: int, status: os.stat_result, originals: list[Position]) -> Iterator[bytes]:
        position = self._positions.get((status.st_dev, status.st_ino))
        if position is None:
            position = self._begin(descriptor, status, [*originals, *self._positions.values()])
        else:
            self._check_same(position, descriptor, status)
        if position is not None:
            position.size, position.mtime_ns = status.st_size, status.st_mtime_ns
            yield from self._lines(position, descriptor, status.st_size)

    def _check_same(self, position: Position, descriptor: int, status: os.stat_result) -> None:
        """Start over where the inode's content is no longer what was read."""
        truncated = status.st_size < position.offset
        if truncated or not position.found_in(descriptor):
            self.counts["truncated" if truncated else "replaced"] += 1
            self._retired.append(replace(position))
            position.restart()

    def _begin(self, descriptor: int, status: os.stat_result, originals: list[Position]) -> Position | None:
        """The position in a file met for the first time; None for a copy that has nothing beyond what was read."""
        position = Position(status.st_dev, status.st_ino)
        position.restart()
        original = self._original(os.pread(descriptor, HEAD_BYTES, 0), originals)
        if original is not None:
            if status.st_size < original.offset:
                return None
            if original.found_in(descriptor):
                self.counts["copied"] += 1
                position = replace(original, device=status.st_dev, inode=status.st_ino)
        self._positions[status.st_dev, status.st_ino] = position
        return position

    @staticmethod
    def _original(beginning: bytes, originals: list[Position]) -> Position | None:
        """Of the files that begin alike, the one that has been read furthest."""
        alike = [
            position
            for position in originals
            if position.head_size and _is_digest(position.head, beginning[: position.head_size])
        ]
        return max(alike, key=lambda position: position.offset, default=None)

    def _lines(self, position: Position, descriptor: int, end: int) -> Iterator[bytes]:
        rest = b""
        start = position.offset
        while start < end and (block := os.pread(descriptor, min(CHUNK_BYTES, end - start), start)):
            start += len(block)
            cut = block.rfind(b"\n") + 1
            if not cut:
                rest = self._grow(position, rest, block)
                continue
            lines, rest = b"".join((rest, memoryview(block)[:cut])), block[cut:]
            position.advance(lines)
            if position.skipping:
                lines = lines[lines.index(b"\n") + 1 :]
                position.skipping = False
            self._remember_head(position, descriptor)
            if lines:
                yield lines

    def _grow(self, position: Position, rest: bytes, block: bytes) -> bytes:
        """What is held of an unfinished line; nothing once it has become too long to be one."""
        rest += block
        if not position.skipping and len(rest) <= LONGEST_LINE:
            return rest
        if not position.skipping:
            self.counts["overlong"] += 1
        position.skipping = True
        position.advance(rest)
        return b""

    @staticmethod
    def _remember_head(position: Position, descriptor: int) -> None:
        if position.head_size < HEAD_BYTES:
            head = os.pread(descriptor, min(HEAD_BYTES, position.offset), 0)
            position.head_size, position.head = _marked(head)
