"""How long a stage has lasted, whatever the machine's clocks did in between."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from flywheel.base.clock import iso

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Moment:
    """One instant by both clocks: milliseconds since the epoch, and seconds since some point of this boot."""

    wall_ms: int
    monotonic_s: float
    boot_id: str

    @classmethod
    def now(cls) -> Self:
        """The present; without a boot id (no Linux) every process counts as a boot of its own."""
        try:
            boot = BOOT_ID.read_text(encoding="ascii").strip()
        except OSError:
            boot = f"process-{time.time_ns()}"
        return cls(time.time_ns() // 1_000_000, time.monotonic(), boot)

    @property
    def date(self) -> datetime:
        """The wall clock's moment, in UTC."""
        return datetime.fromtimestamp(self.wall_ms / 1000, UTC)

    @property
    def iso(self) -> str:
        """The wall clock's moment as ISO 8601 with offset."""
        return iso(self.date)


@dataclass(frozen=True, slots=True)
class StageClock:
    """Minutes that a stage was watched, and when it was last looked at.

    Each look adds the least of what both clocks say and two looks' time: a machine that slept, a daemon that was down
    and a wall clock that leapt cannot make a stage older than the watch that was kept over it.
    """

    minutes: float
    wall_ms: int
    monotonic_s: float
    boot_id: str

    @classmethod
    def begin(cls, now: Moment) -> Self:
        """A stage that starts now."""
        return cls(0.0, now.wall_ms, now.monotonic_s, now.boot_id)

    def went_backwards(self, now: Moment) -> bool:
        """Whether a clock shows less than at the last look."""
        return now.wall_ms < self.wall_ms or (now.boot_id == self.boot_id and now.monotonic_s < self.monotonic_s)

    def advanced(self, now: Moment, tick_seconds: float, *, counting: bool = True) -> Self:
        """The clock after a look; nothing counts across a boot, backwards, or where `counting` is off (paused)."""
        seconds = 0.0
        if counting and now.boot_id == self.boot_id:
            wall = (now.wall_ms - self.wall_ms) / 1000
            seconds = max(0.0, min(wall, now.monotonic_s - self.monotonic_s, 2 * tick_seconds))
        return type(self)(self.minutes + seconds / 60, now.wall_ms, now.monotonic_s, now.boot_id)

    def to_object(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)
