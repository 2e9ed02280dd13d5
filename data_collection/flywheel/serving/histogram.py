"""Quantiles of any number of values in a few kilobytes, each within 1 % of the true one.

A bucket is the leading bits of the value as an IEEE double: its exponent and the first 6 bits of its mantissa, so that
64 buckets span each doubling. That needs no logarithm, and no rounding blurs an edge.
"""

from __future__ import annotations

from array import array
from collections import Counter
from math import floor
from struct import Struct
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

RELATIVE_ERROR = 0.01
LOWEST, HIGHEST = 1e-6, 1e12
_DROPPED_BITS = 52 - 6
_DOUBLE = Struct("=d")
_BITS = Struct("=q")


class Histogram:
    """Counts of values 0 .. 1e12 in buckets at most 1/64 wide, relatively; mergeable; at most 3,900 buckets.

    Values below 1e-6 count as 0, values above 1e12 as 1e12; negative ones and NaN raise ValueError.
    """

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def __len__(self) -> int:
        return self._counts.total()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Histogram) and self._counts == other._counts

    __hash__ = None  # type: ignore[assignment]

    def add(self, value: float, count: int = 1) -> None:
        """Count one value, `count` times (at least once)."""
        self._counts[_index(value)] += count

    def update(self, values: Iterable[float]) -> None:
        """Count many values, much faster than one by one; none is counted where one is refused."""
        numbers = array("d", values)
        indexes = [bits >> _DROPPED_BITS for bits in memoryview(numbers).cast("B").cast("q")]
        # A negative number's bits are negative, a NaN's are above infinity's.
        if indexes and not (min(indexes) > _BOTTOM and max(indexes) <= _TOP):
            indexes = [_index(value) for value in numbers]
        self._counts.update(indexes)

    def merge(self, other: Histogram) -> None:
        """Add the other's counts; the same as having counted all its values here."""
        self._counts.update(other._counts)

    def quantile(self, q: float) -> float | None:
        """The value at rank floor(q * (n - 1)) of the sorted values, within 1 %; None of no values; q within 0 .. 1."""
        if not 0 <= q <= 1:
            msg = f"{q!r}: a quantile lies within 0 and 1"
            raise ValueError(msg)
        rank = floor(q * (len(self) - 1))
        for index in sorted(self._counts):
            rank -= self._counts[index]
            if rank < 0:
                return _value(index)
        return None

    def to_object(self) -> dict[str, Any]:
        """For JSON; `from_object` gives an equal histogram back."""
        return {
            "relative_error": RELATIVE_ERROR,
            "counts": {str(key): self._counts[key] for key in sorted(self._counts)},
        }

    @classmethod
    def from_object(cls, value: Mapping[str, Any]) -> Self:
        """What `to_object` gave; ValueError for anything else."""
        histogram = cls()
        try:
            counts = {int(key): count for key, count in value["counts"].items()}
            whole = all(type(count) is int and count > 0 and 0 <= key <= _TOP for key, count in counts.items())
        except (KeyError, AttributeError, TypeError) as error:
            msg = f"no histogram: {error!r}"
            raise ValueError(msg) from error
        if not whole or value.get("relative_error") != RELATIVE_ERROR:
            raise ValueError("no histogram: counts below 1, buckets unknown, or another relative error")
        histogram._counts.update(counts)
        return histogram


def _leading_bits(value: float) -> int:
    bits: int = _BITS.unpack(_DOUBLE.pack(value))[0]
    return bits >> _DROPPED_BITS


_BOTTOM, _TOP = _leading_bits(LOWEST), _leading_bits(HIGHEST)


def _index(value: float) -> int:
    if not value >= 0:
        msg = f"{value!r}: a histogram takes numbers of at least 0"
        raise ValueError(msg)
    return 0 if value < LOWEST else _leading_bits(min(value, HIGHEST))


def _value(index: int) -> float:
    """The middle of the bucket: nowhere in it is further than 1/128 of the value away."""
    if index == 0:
        return 0.0
    lower: float = _DOUBLE.unpack(_BITS.pack(index << _DROPPED_BITS))[0]
    return lower * (1 + 1 / 128)
