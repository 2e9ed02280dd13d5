"""Which variant each unit met first while the shares stood still, and which units met more than one."""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import index
from typing import TYPE_CHECKING, Any, Self

from flywheel.serving.bucketing import content_digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MOST_UNITS = 5_000
LONGEST_UNIT = 256
# A unit id that two people share is nothing; a hundredth of all units meeting both variants is broken routing.
MOST_EXPOSED = 0.01
_MOST_VARIANTS = 16


@dataclass(slots=True)
class Exposure:
    """Watches the first units since `stage_ms`, when the shares last changed: about `MOST_UNITS` of all variants.

    A new share moves units from the baseline to the candidate as it should, so each stage begins anew. `met` are the
    units by the variant that each met first. `drawn` counts by variant what routing drew: every such unit once, and
    every call without an id for itself. The limit is on all variants together, and is looked at between chunks: one for
    each variant would be reached by the largest first, and what is counted after that would not have its share.
    """

    stage_ms: int
    met: dict[str, set[str]] = field(default_factory=dict)
    drawn: dict[str, int] = field(default_factory=dict)
    crossed: set[str] = field(default_factory=set)

    @property
    def watched(self) -> int:
        """Distinct units that are watched."""
        return sum(map(len, self.met.values()))

    def add(self, chunk: Mapping[str, Sequence[str | None]]) -> None:
        """Take note of the units of a chunk of calls by variant, None for a call without an id."""
        counting = self.watched < MOST_UNITS
        for variant, calls in chunk.items():
            if variant not in self.met and len(self.met) >= _MOST_VARIANTS:
                continue
            mine = self.met.setdefault(variant, set())
            others = [seen for other, seen in self.met.items() if other != variant]
            units = named(calls)
            for seen in others:
                self.crossed |= seen & units
            new = units.difference(mine, *others) if counting else set()
            mine |= new
            self.drawn[variant] = self.drawn.get(variant, 0) + len(new) + calls.count(None)

    def to_object(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "stage_ms": self.stage_ms,
            "met": {variant: packed(units) for variant, units in self.met.items()},
            "drawn": self.drawn,
            "crossed": packed(self.crossed),
        }

    @classmethod
    def from_object(cls, value: Mapping[str, Any]) -> Self:
        """What `to_object` gave; KeyError, TypeError or AttributeError for anything else."""
        met = {variant: _unpacked(units) for variant, units in value["met"].items()}
        drawn = {variant: index(count) for variant, count in value["drawn"].items()}
        return cls(value["stage_ms"], met, drawn, _unpacked(value["crossed"]))


def packed(units: set[str]) -> str:
    """Units that are `named` as one text, which JSON takes in a fifth of the time of thousands."""
    return "\n".join(units)


def _unpacked(text: str) -> set[str]:
    return set(text.split("\n")) if text else set()


def named(calls: Sequence[str | None]) -> set[str]:
    """The distinct ids; those that cannot be kept as they are, by their hash."""
    units: set[Any] = set(calls)
    units.discard(None)
    if max(map(len, units), default=0) <= LONGEST_UNIT and "\n" not in "".join(units) and "" not in units:
        return units
    return {unit if _can_be_kept(unit) else content_digest(unit.encode()) for unit in units}


def _can_be_kept(unit: str) -> bool:
    return 0 < len(unit) <= LONGEST_UNIT and "\n" not in unit
