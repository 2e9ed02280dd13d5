"""Which of many texts might be alike, without comparing all with all: MinHash signatures in bands.

Broder 1997 (MinHash) and Indyk and Motwani 1998 (banding): two texts become candidates when they agree in all `ROWS`
values of at least one of `BANDS` bands; at a word overlap (Jaccard) J that happens with 1 - (1 - J^ROWS)^BANDS. Words
tell long texts apart; in short ones a typo or two changes most words, so those have signatures of letter triples too.
Candidates are for verification: many are not alike at all.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

BANDS, ROWS = 32, 4
# Texts of fewer words than this are also compared by their letter triples.
SHORT = 20
_SEED = 20_251_104
# Texts, words and candidates worked on at a time: what keeps memory flat, and the tables within the processor's cache.
_TEXTS, _WORDS, _CANDIDATES = 256, 2_048, 500_000


def _words(text: str) -> Iterable[str]:
    return set(text.split()) or {""}


def _triples(text: str) -> Iterable[str]:
    return {text[n : n + 3] for n in range(max(1, len(text) - 2))}


class _Hashes:
    """BANDS * ROWS random permutations of words, each word's values computed once (multiply-shift, Dietzfelbinger)."""

    def __init__(self) -> None:
        generator = np.random.default_rng(_SEED)
        self._factors = generator.integers(1, 1 << 62, BANDS * ROWS, dtype=np.uint64) | np.uint64(1)
        self._shifts = generator.integers(0, 1 << 62, BANDS * ROWS, dtype=np.uint64)
        self._mixers = generator.integers(1, 1 << 62, (1, BANDS, ROWS), dtype=np.uint64) | np.uint64(1)

    def keys(self, parts: Sequence[Iterable[str]]) -> np.ndarray:
        """One row of BANDS keys for each set of words; sets that agree in a band have the same key there."""
        known: dict[str, int] = {}
        starts = np.empty(len(parts), dtype=np.int64)
        numbers: list[int] = []
        for row, words in enumerate(parts):
            starts[row] = len(numbers)
            numbers.extend([known.setdefault(word, len(known)) for word in words])
        places = np.array(numbers, dtype=np.int64)
        base = np.array([zlib.crc32(word.encode("utf-8", "surrogatepass")) for word in known], dtype=np.uint64)
        values = np.empty((len(base), BANDS * ROWS), dtype=np.uint32)
        for begin in range(0, len(base), _WORDS):
            some = base[begin : begin + _WORDS, None]
            values[begin : begin + _WORDS] = (some * self._factors + self._shifts) >> np.uint64(32)
        keys = np.empty((len(parts), BANDS), dtype=np.uint64)
        for begin in range(0, len(parts), _TEXTS):
            own = starts[begin : begin + _TEXTS]
            end = starts[begin + _TEXTS] if begin + _TEXTS < len(parts) else len(numbers)
            least = np.minimum.reduceat(values[places[own[0] : end]], own - own[0], axis=0)
            keys[begin : begin + _TEXTS] = (least.reshape(-1, BANDS, ROWS) * self._mixers).sum(axis=2)
        return keys


@dataclass(frozen=True)
class _Table:
    """The keys of some texts by band, sorted, and whose they are."""

    keys: np.ndarray
    owners: np.ndarray

    @classmethod
    def of(cls, owners: np.ndarray, keys: np.ndarray) -> _Table:
        """The table of texts `owners`, whose keys are the rows of `keys`."""
        order = np.argsort(keys, axis=0, kind="stable")
        return cls(np.take_along_axis(keys, order, axis=0).T, owners[order].T)

    def matches(self, other: _Table) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Pairs (owner here, owner there) that share a key, band by band, in portions."""
        for here, owners, keys, theirs in zip(self.keys, self.owners, other.keys, other.owners, strict=True):
            low = np.searchsorted(here, keys)
            counts = np.searchsorted(here, keys, "right") - low
            found = np.flatnonzero(counts)
            low, counts, given = low[found], counts[found], theirs[found]
            ends = counts.cumsum()
            begin = 0
            while begin < len(found):
                done = ends[begin - 1] if begin else 0
                end = max(begin + 1, int(np.searchsorted(ends, done + _CANDIDATES, "right")))
                some = counts[begin:end]
                first = np.repeat(low[begin:end] - (ends[begin:end] - some) + done, some)
                yield owners[first + np.arange(len(first))], np.repeat(given[begin:end], some)
                begin = end


class Index:
    """Texts that others are looked up among, numbered from 0 in the order in which they are added."""

    _FAMILIES: tuple[Callable[[str], Iterable[str]], ...] = (_words, _triples)

    def __init__(self) -> None:
        self._hashes = _Hashes()
        self._count = 0
        self._tables: list[list[_Table]] = [[] for _ in self._FAMILIES]

    def add(self, texts: Sequence[str]) -> list[_Table]:
        """Take the texts in; what `candidates` needs to look them up."""
        fresh = []
        for family, tables in zip(self._FAMILIES, self._tables, strict=True):
            rows = [n for n, text in enumerate(texts) if family is _words or text.count(" ") < SHORT - 1]
            owners = np.array(rows, dtype=np.int64) + self._count
            fresh.append(_Table.of(owners, self._hashes.keys([family(texts[n]) for n in rows])))
            tables.append(fresh[-1])
        self._count += len(texts)
        return fresh

    def candidates(self, added: list[_Table]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Numbers (older, newer) of what might be alike, the newer among what one call of `add` took in.

        In portions without repeats; a pair may stand in several portions.
        """
        seen, size = [], 0
        for tables, fresh in zip(self._tables, added, strict=True):
            for table in tables:
                for one, other in table.matches(fresh):
                    earlier = one < other
                    seen.append(one[earlier] * self._count + other[earlier])
                    size += len(seen[-1])
                    if size > _CANDIDATES:
                        yield self._parted(seen)
                        seen, size = [], 0
        if seen:
            yield self._parted(seen)

    def _parted(self, seen: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        older, newer = np.divmod(_distinct(np.concatenate(seen)), self._count)
        return older, newer


def _distinct(values: np.ndarray) -> np.ndarray:
    values.sort()
    return values[np.concatenate(([True], values[1:] != values[:-1]))] if len(values) else values
