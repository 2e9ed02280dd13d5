"""Units that met more than one variant while the shares stood still: routing that is not sticky."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WATCHED_UNITS = 500
LONGEST_UNIT = 256
_MOST_VARIANTS = 16


@dataclass(slots=True)
class Exposure:
    """Watches the first `WATCHED_UNITS` units of each variant since `stage_ms`, when the shares last changed.

    A new share moves units from the baseline to the candidate as it should, so each stage begins anew.
    """

    stage_ms: int
    seen: dict[str, set[str]] = field(default_factory=dict)
    crossed: set[str] = field(default_factory=set)

    @property
    def watched(self) -> int:
        """Distinct units that are watched."""
        return len(set().union(*self.seen.values()))

    def add(self, variant: str, units: Sequence[str | None]) -> None:
        """Take note of units that met `variant`; those without an id, or with one above 256 characters, are not."""
        for other, seen in self.seen.items():
            if other != variant:
                self.crossed |= seen.intersection(units)
        if variant in self.seen or len(self.seen) < _MOST_VARIANTS:
            mine = self.seen.setdefault(variant, set())
            if len(mine) < WATCHED_UNITS:
                new = (unit for unit in set(units) - mine if unit is not None and len(unit) <= LONGEST_UNIT)
                mine.update(islice(new, WATCHED_UNITS - len(mine)))

    def to_object(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "stage_ms": self.stage_ms,
            "seen": {variant: list(units) for variant, units in self.seen.items()},
            "crossed": list(self.crossed),
        }

    @classmethod
    def from_object(cls, value: Mapping[str, Any]) -> Self:
        """What `to_object` gave; KeyError, TypeError or AttributeError for anything else."""
        seen = {variant: set(units) for variant, units in value["seen"].items()}
        return cls(value["stage_ms"], seen, set(value["crossed"]))
