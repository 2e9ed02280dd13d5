"""What counters grew by since they were last looked at: over restarts, gaps and series that come and go.

A sample is compared with the one before it, wherever that was read, so that a restarted reader that keeps this state
counts nothing twice and loses nothing. A counter that fell began anew with its process, and so did all others of that
process, even one that has already grown beyond what it was: its whole value is new.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Self

from flywheel.base.errors import DamagedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from flywheel.serving.promql import Series

# As long as records may be late.
FORGOTTEN_MS = 14 * 24 * 3_600_000


def key_of(name: str, series: Series) -> str:
    """A short name of the series among those of the query `name`."""
    text = "\n".join([name, *(f"{label}={value}" for label, value in sorted(series.labels.items()))])
    return blake2b(text.encode("utf-8", "replace"), digest_size=12).hexdigest()


@dataclass(slots=True)
class Counters:
    """The last sample of each series, (milliseconds since the epoch, value), and how far has been read.

    `covered_ms`: everything up to then has been looked for, so that a series met later began after it, at 0.
    """

    covered_ms: int
    last: dict[str, tuple[int, float]] = field(default_factory=dict)
    restarts: int = 0

    def growth(self, found: Mapping[str, Sequence[Series]], floor_ms: int, until_ms: int) -> dict[str, list[float]]:
        """By how much each series of each query grew between samples at or after `floor_ms`; takes note of all.

        What lies between two samples of which the first is older belongs to nobody known and is left out.
        """
        named = [(name, key_of(name, item), item) for name, series in found.items() for item in series]
        fallen = self._fallen(named)
        grown: dict[str, list[float]] = {name: [] for name in found}
        for name, key, series in named:
            grown[name].append(self._grown(key, series, fallen.get(series.target, ()), floor_ms))
        self.restarts += sum(map(len, fallen.values()))
        self.covered_ms = max(self.covered_ms, until_ms)
        self.last = {key: item for key, item in self.last.items() if item[0] > self.covered_ms - FORGOTTEN_MS}
        return grown

    def _steps(self, key: str, series: Series) -> list[tuple[int, float]]:
        """The sample to compare with, then those that are new."""
        samples = series.samples
        before = self.last.get(key)
        if before is None:
            old = [sample for sample in samples if sample[0] <= self.covered_ms]
            before = old[-1] if old else (self.covered_ms, 0.0)
        return [before, *(sample for sample in samples if sample[0] > before[0])]

    def _fallen(self, named: Iterable[tuple[str, str, Series]]) -> dict[str, set[int]]:
        """When each target was first seen restarted: the moments of samples below those before them."""
        fallen: dict[str, set[int]] = {}
        for _, key, series in named:
            steps = self._steps(key, series)
            for (_, before), (moment, value) in itertools.pairwise(steps):
                if value < before:
                    fallen.setdefault(series.target, set()).add(moment)
        return fallen

    def _grown(self, key: str, series: Series, restarts: Iterable[int], floor_ms: int) -> float:
        steps = self._steps(key, series)
        total = 0.0
        for (since, before), (moment, value) in itertools.pairwise(steps):
            anew = any(since < restart <= moment for restart in restarts)
            if since >= floor_ms:
                total += value if anew else value - before
        self.last[key] = steps[-1]
        return total

    def to_object(self) -> dict[str, Any]:
        """For JSON."""
        return {"covered_ms": self.covered_ms, "last": dict(self.last), "restarts": self.restarts}

    @classmethod
    def from_object(cls, value: Mapping[str, Any]) -> Self:
        """What `to_object` gave.

        Raises:
            DamagedError: anything else.
        """
        try:
            last = {key: (moment, float(number)) for key, (moment, number) in value["last"].items()}
            numbers = (value["covered_ms"], value["restarts"], *(moment for moment, _ in last.values()))
            sound = all(type(number) is int and number >= 0 for number in numbers)
            if sound and all(math.isfinite(number) and number >= 0 for _, number in last.values()):
                return cls(value["covered_ms"], last, value["restarts"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            msg = f"checkpoint of counters: {error!r}"
            raise DamagedError(msg) from error
        raise DamagedError("checkpoint of counters: numbers that cannot be")
