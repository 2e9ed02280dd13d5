"""Recording: interaction records of a production service, appended to JSONL without ever holding the service up."""

from __future__ import annotations

import atexit
import itertools
import logging
import os
import secrets
import threading
import weakref
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flywheel.base.errors import BadInputError
from flywheel.base.paths import TELEMETRY
from flywheel.serving.bucketing import BUCKETS, position, salted, threshold
from flywheel.serving.logfile import LogFile
from flywheel.serving.records import RECORD_ID, encode

if TYPE_CHECKING:
    from pathlib import Path

    from flywheel.serving.records import Interaction

SAMPLE_PERCENT = 10.0
# Never a routing salt: a sample that followed the routing would hold one variant only.
SAMPLING_SALT = "flywheel-telemetry-sampling"
FLUSH_SECONDS = 0.1
CLOSE_SECONDS = 5.0
QUEUE_BYTES = 32 << 20
LARGEST_RECORD = 2 << 20
FILE_BYTES = 64 << 20

log = logging.getLogger("flywheel.telemetry")


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Recorder:
    """Appends records to a file of this process's own in `folder` (TELEMETRY_DIR), from a background thread.

    Every call leaves a record, so that counts stay true; those outside the sample (`sample_percent` of 100, drawn by a
    hash of the record's id) bear `sampled` false and no input or output, and so do those whose payload is no JSON or
    above 2 MiB (counted in `stripped`). A full queue or disk costs records: they are counted in `dropped`, the cause is
    logged once, and the service goes on.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        sample_percent: float = SAMPLE_PERCENT,
        queue_bytes: int = QUEUE_BYTES,
        file_bytes: int = FILE_BYTES,
        flush_seconds: float = FLUSH_SECONDS,
    ) -> None:
        self._folder = TELEMETRY.resolve() if folder is None else folder
        self._sampled_buckets = threshold(sample_percent)
        self._sampling = salted(SAMPLING_SALT)
        self._queue_bytes = queue_bytes
        self._file_bytes = file_bytes
        self._flush_seconds = flush_seconds
        self._begin()
        _fork_safe.add(self)
        atexit.register(self.close)

    def _begin(self) -> None:
        """Start with nothing queued; a forked child does so too, since its parent's records are its parent's."""
        # Re-entrant: a signal handler may record while its own thread is recording.
        self._lock = threading.RLock()
        self._writing = threading.Lock()
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._closed = False
        self._writer_id = secrets.token_hex(6)
        self._numbers = itertools.count(1)
        self._file = LogFile(self._folder, self._writer_id, self._file_bytes, _utc_now)
        self._warned: set[str] = set()
        self.dropped = 0
        self.written = 0
        self.stripped = 0

    def record(self, interaction: Interaction) -> None:
        """Queue one record; returns within microseconds and never raises for what the record holds."""
        record_id = f"{self._writer_id}-{next(self._numbers):x}"
        place = position(self._sampling, record_id, BUCKETS)
        sampled = place is not None and place < self._sampled_buckets
        value = interaction.to_object()
        value["metadata"] = {**interaction.metadata, RECORD_ID: record_id}
        value["sampled"] = sampled
        try:
            line = (sampled and self._whole(value)) or self._stripped(value)
        except (ValueError, TypeError) as error:
            self._drop(1, f"a record cannot be written as JSON: {error}")
        else:
            self._enqueue(line)

    def flush(self) -> None:
        """Write what is queued, in the caller's thread; for tests and for the end of a process."""
        with self._writing:
            while batch := self._take():
                self._write(batch)

    def close(self) -> None:
        """Write what is queued and stop; records that come later are dropped and counted. Safe to call twice."""
        atexit.unregister(self.close)
        with self._lock:
            self._closed = True
            thread = self._thread
        self._wake.set()
        if thread is not None:
            thread.join(CLOSE_SECONDS)
        self.flush()
        self._file.close()

    def _whole(self, value: dict[str, Any]) -> bytes:
        """The record's line; empty where its payload is too large or no JSON: the call must count all the same."""
        try:
            line = encode(value)
        except (ValueError, TypeError):
            line = b""
        if 0 < len(line) <= LARGEST_RECORD:
            return line
        self.stripped += 1
        return b""

    @staticmethod
    def _stripped(value: dict[str, Any]) -> bytes:
        value["sampled"], value["input"], value["output"] = False, {}, {}
        return encode(value)

    def _enqueue(self, line: bytes) -> None:
        with self._lock:
            full = self._queued + len(line) > self._queue_bytes
            if not (full or self._closed or len(line) > LARGEST_RECORD):
                self._queue.append(line)
                self._queued += len(line)
                if self._thread is None:
                    self._start()
                return
        self._drop(1, "the recorder is closed" if self._closed else "the queue is full, or a record above 2 MiB")

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="flywheel-telemetry", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            # No thread can be had (limit reached, interpreter ending): close() writes what the queue holds.
            self._thread = None

    def _run(self) -> None:
        while not self._wake.wait(self._flush_seconds):
            self.flush()

    def _take(self) -> list[bytes]:
        with self._lock:
            batch, self._queue = list(self._queue), deque()
            self._queued = 0
        return batch

    def _write(self, batch: list[bytes]) -> None:
        try:
            self._file.append(b"".join(batch))
        except (OSError, BadInputError) as error:
            self._drop(len(batch), f"records cannot be written: {error}")
        else:
            self.written += len(batch)

    def _drop(self, count: int, problem: str) -> None:
        with self._lock:
            self.dropped += count
            new = problem not in self._warned and len(self._warned) < 100
            self._warned.add(problem if new else "")
        if new:
            log.warning("telemetry: %s", problem)


_fork_safe: weakref.WeakSet[Recorder] = weakref.WeakSet()


def _after_fork() -> None:
    for recorder in list(_fork_safe):
        recorder._file.forget()  # noqa: SLF001 - this module's own
        recorder._begin()  # noqa: SLF001


os.register_at_fork(after_in_child=_after_fork)
