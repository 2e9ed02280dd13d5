"""What an interaction record says about its experiment: the few fields that decisions rest on, checked.

A whole chunk of clean rows is taken column by column, which is what keeps a scan close to the cost of parsing; a chunk
with anything odd in it goes row by row, by the same rules.
"""

from __future__ import annotations

from hashlib import blake2b
from itertools import compress
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from flywheel.serving.records import CHECKS, LONGEST_LATENCY_MS, RECORD_ID, parsed_keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

EXPERIMENT: Final = 0
VARIANT: Final = 1
TIMESTAMP: Final = 2
LATENCY: Final = 3
SUCCESS: Final = 4
ERROR: Final = 5
QUALITY: Final = 6
UNIT: Final = 7
METADATA: Final = 8
FIELDS = (
    "experiment_id",
    "variant",
    "timestamp_ms",
    "latency_ms",
    "success",
    "error",
    "quality_score",
    "unit_id",
    "metadata",
)
Sample = tuple[str, str, int, float, bool, str | None, float | None, str | None, dict[str, str]]
UNATTRIBUTED = "unattributed"
INVALID = "invalid"
LONGEST_KEY = 128

_MAY_BE_ABSENT = ("error", "quality_score", "unit_id")
_record_id = itemgetter(*parsed_keys(RECORD_ID))
_take = itemgetter(*parsed_keys(*FIELDS))
_TYPES: tuple[frozenset[type], ...] = (
    frozenset({str}),
    frozenset({str}),
    frozenset({int}),
    frozenset({int, float}),
    frozenset({bool}),
    frozenset({str, type(None)}),
    frozenset({int, float, type(None)}),
    frozenset({str, type(None)}),
    frozenset({dict}),
)
_LIMITS = ((LATENCY, LONGEST_LATENCY_MS), (QUALITY, 1))


def is_timeout(error: str | None) -> bool:
    """Whether the error says that the call took too long: such a call has a latency, a fast failure has none."""
    return error is not None and ("timeout" in error.lower() or "timed out" in error.lower())


class Table(NamedTuple):
    """Samples, and the same column by column."""

    samples: Sequence[Sample]
    columns: tuple[tuple[Any, ...], ...]

    @classmethod
    def of(cls, found: Sequence[Sample]) -> Table:
        """The samples with their columns, which are there even when no samples are."""
        return cls(found, tuple(zip(*found, strict=True)) or ((),) * len(FIELDS))

    def where(self, mask: Iterable[bool]) -> Table:
        """The samples for which the mask holds."""
        return Table.of(list(compress(self.samples, mask)))

    def keys(self) -> Sequence[str | None]:
        """What tells each sample from all others: its record id, else unit, time and variant; None without either."""
        ids = _record_ids(self.columns[METADATA])
        return [_key(sample) for sample in self.samples] if ids is None else ids

    def by_arm(self) -> Iterator[tuple[str, str, list[Sample]]]:
        """The samples of each experiment and variant, in their order."""
        names = set(self.columns[EXPERIMENT])
        for name in sorted(names):
            part = self if len(names) == 1 else self.where(map(name.__eq__, self.columns[EXPERIMENT]))
            variants = part.columns[VARIANT]
            for variant in sorted(set(variants)):
                yield name, variant, list(compress(part.samples, map(variant.__eq__, variants)))


def samples(rows: Sequence[Any]) -> tuple[Table, dict[str, int]]:
    """The samples in decoded rows, and how many rows are none: `unattributed` (no experiment or variant), `invalid`."""
    clean = _clean(rows)
    if clean is not None:
        return clean, {}
    objects = [row for row in rows if type(row) is dict]
    attributed = [row for row in objects if row.get("experiment_id") is not None and row.get("variant") is not None]
    for row in attributed:
        for name in _MAY_BE_ABSENT:
            row.setdefault(name)
    clean = _clean(attributed)
    if clean is None:
        clean = Table.of([_take(row) for row in attributed if _is_sample(row)])
    invalid = len(rows) - len(objects) + len(attributed) - len(clean.samples)
    return clean, {UNATTRIBUTED: len(objects) - len(attributed), INVALID: invalid}


def _clean(rows: Sequence[Any]) -> Table | None:
    """The rows' samples where every single one is in order, else None."""
    try:
        table = Table.of(list(map(_take, rows)))
    except (KeyError, TypeError, IndexError):
        return None
    for column, types in zip(table.columns, _TYPES, strict=True):
        if not types.issuperset(map(type, column)):
            return None
    for index, highest in _LIMITS:
        column = table.columns[index]
        known = [value for value in column if value is not None] if index == QUALITY else column
        if known and (min(known) < 0 or max(known) > highest):
            return None
    return table


def _record_ids(column: Sequence[dict[str, str]]) -> list[str] | None:
    """Every sample's record id; None unless each has one, a text, and they are of bounded size."""
    try:
        ids = list(map(_record_id, column))
        # Joining fails for whatever is no text, and bounds what the keys can take up in memory.
        size = len("".join(ids))
    except (KeyError, TypeError):
        return None
    return ids if size <= LONGEST_KEY * len(ids) else None


def _is_sample(row: dict[str, Any]) -> bool:
    return all(type(row.get(name)) in types for name, types in zip(FIELDS, _TYPES, strict=True)) and all(
        CHECKS[FIELDS[index]](row[FIELDS[index]]) for index, _ in _LIMITS
    )


def _key(sample: Sample) -> str | None:
    known = sample[METADATA].get(RECORD_ID)
    if not isinstance(known, str):
        if sample[UNIT] is None:
            return None
        known = f"{sample[TIMESTAMP]} {sample[VARIANT]} {sample[UNIT]}"
    return known if len(known) <= LONGEST_KEY else blake2b(known.encode(), digest_size=16).hexdigest()
