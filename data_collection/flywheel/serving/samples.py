"""What an interaction record says about its experiment: the few fields that decisions rest on, checked.

A chunk of clean lines is parsed and checked in one go, and of each line only these fields; a chunk with anything odd in
it goes line by line, by the same rules. The only importer of msgspec.
"""

from __future__ import annotations

from itertools import compress
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import msgspec

from flywheel.serving.bucketing import content_digest
from flywheel.serving.records import CHECKS, LONGEST_LATENCY_MS, RECORD_ID, decode_lines

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
RECORD: Final = 8
Sample = tuple[str, str, int, float, bool, str | None, float | None, str | None, str | None]
UNATTRIBUTED = "unattributed"
INVALID = "invalid"
GARBLED = "garbled"
LONGEST_KEY = 128

_FIELDS = (
    "experiment_id",
    "variant",
    "timestamp_ms",
    "latency_ms",
    "success",
    "error",
    "quality_score",
    "unit_id",
)
_TYPES: tuple[frozenset[type], ...] = (
    frozenset({str}),
    frozenset({str}),
    frozenset({int}),
    frozenset({int, float}),
    frozenset({bool}),
    frozenset({str, type(None)}),
    frozenset({int, float, type(None)}),
    frozenset({str, type(None)}),
)
_LIMITED = ("latency_ms", "quality_score")
_HIGHEST_MS = int(LONGEST_LATENCY_MS)
_Latency = Annotated[int, msgspec.Meta(ge=0, le=_HIGHEST_MS)] | Annotated[float, msgspec.Meta(ge=0, le=_HIGHEST_MS)]
_Quality = Annotated[int, msgspec.Meta(ge=0, le=1)] | Annotated[float, msgspec.Meta(ge=0, le=1)]
# What the line-by-line rules take for a whole number too.
_Moment = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class _Metadata(msgspec.Struct, gc=False):
    record_id: str | None = None


class _Line(msgspec.Struct, gc=False):
    timestamp_ms: _Moment
    latency_ms: _Latency
    success: bool
    metadata: _Metadata
    experiment_id: str | None = None
    variant: str | None = None
    error: str | None = None
    quality_score: _Quality | None = None
    unit_id: str | None = None


_parse = msgspec.json.Decoder(list[_Line]).decode
_sample = attrgetter(*_FIELDS, f"metadata.{RECORD_ID}")
_attributed = itemgetter(EXPERIMENT, VARIANT)


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
        return cls(found, tuple(zip(*found, strict=True)) or ((),) * (RECORD + 1))

    def where(self, mask: Iterable[bool]) -> Table:
        """The samples for which the mask holds."""
        return Table.of(list(compress(self.samples, mask)))

    def keys(self) -> Sequence[str | None]:
        """What tells each sample from all others: its record id, else unit, time and variant; None without either."""
        ids = self.columns[RECORD]
        return ids if _are_keys(ids) else [_key(sample) for sample in self.samples]

    def by_arm(self) -> Iterator[tuple[str, str, list[Sample]]]:
        """The samples of each experiment and variant, in their order."""
        names = set(self.columns[EXPERIMENT])
        for name in sorted(names):
            part = self if len(names) == 1 else self.where(map(name.__eq__, self.columns[EXPERIMENT]))
            variants = part.columns[VARIANT]
            for variant in sorted(set(variants)):
                yield name, variant, list(compress(part.samples, map(variant.__eq__, variants)))


def samples(lines: bytes) -> tuple[Table, dict[str, int]]:
    """The samples in a chunk that ends in a newline, and how many of its lines are none, blank ones not counted.

    These are `unattributed` (no experiment or variant), `invalid` (no record) or `garbled` (no JSON). Of clean lines
    what is no sample's is only skipped: a number there that no double can hold is not found garbled.
    """
    clean = _all_clean(lines)
    return _each(lines) if clean is None else clean


def _all_clean(lines: bytes) -> tuple[Table, dict[str, int]] | None:
    """The samples of a chunk in which every line is a record, else None.

    A torn line cannot pass in it: what it left open is not closed by the whole lines after it, and its own other half
    makes one record of two lines.
    """
    if not (lines.isascii() or _is_text(lines)):
        return None
    try:
        parsed = _parse(b"[%b]" % lines[:-1].replace(b"\n", b","))
    except (msgspec.DecodeError, RecursionError):
        return None
    if len(parsed) != lines.count(b"\n"):
        return None
    found: list[Any] = list(map(_sample, parsed))
    table = Table.of(found)
    if None not in table.columns[EXPERIMENT] and None not in table.columns[VARIANT]:
        return table, {}
    table = table.where(None not in _attributed(sample) for sample in found)
    return table, {UNATTRIBUTED: len(found) - len(table.samples)}


def _is_text(lines: bytes) -> bool:
    """Whether it is UTF-8; what is skipped is not looked at for that."""
    try:
        lines.decode()
    except UnicodeDecodeError:
        return False
    return True


def _each(lines: bytes) -> tuple[Table, dict[str, int]]:
    rows, garbled = decode_lines(lines)
    objects = [row for row in rows if type(row) is dict]
    attributed = [row for row in objects if row.get("experiment_id") is not None and row.get("variant") is not None]
    found = [_taken(row) for row in attributed if _is_sample(row)]
    invalid = len(rows) - len(objects) + len(attributed) - len(found)
    return Table.of(found), {UNATTRIBUTED: len(objects) - len(attributed), INVALID: invalid, GARBLED: garbled}


def _is_sample(row: dict[str, Any]) -> bool:
    return (
        all(type(row.get(name)) in types for name, types in zip(_FIELDS, _TYPES, strict=True))
        and all(CHECKS[name](row.get(name)) for name in _LIMITED)
        and type(row.get("metadata")) is dict
    )


def _taken(row: dict[str, Any]) -> Sample:
    record_id = row["metadata"].get(RECORD_ID)
    found: Any = (*map(row.get, _FIELDS), record_id if type(record_id) is str else None)
    return found  # type: ignore[no-any-return]  # checked


def _are_keys(ids: Sequence[str | None]) -> bool:
    """Whether every sample has a record id, and they are of bounded size: keys are kept in memory."""
    return None not in ids and sum(map(len, ids)) <= LONGEST_KEY * len(ids)  # type: ignore[arg-type]


def _key(sample: Sample) -> str | None:
    known = sample[RECORD]
    if known is None:
        if sample[UNIT] is None:
            return None
        known = f"{sample[TIMESTAMP]} {sample[VARIANT]} {sample[UNIT]}"
    return known if len(known) <= LONGEST_KEY else content_digest(known.encode())
