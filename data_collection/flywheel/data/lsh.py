"""Which of many texts might be alike, without comparing all with all: MinHash signatures in bands; the door to rensa.

Broder 1997 (MinHash) and Indyk and Motwani 1998 (banding): two texts become candidates when they agree in all `ROWS`
values of at least one of `BANDS` bands; at a word overlap (Jaccard) J that happens with 1 - (1 - J^ROWS)^BANDS. Words
tell long texts apart; in short ones a typo or two changes most words, so those have signatures of letter triples too.
Candidates are for verification: many are not alike at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from rensa import RMinHash, RMinHashLSH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

BANDS, ROWS = 32, 4
# Texts of fewer words than this are also compared by their letter triples.
SHORT = 20
_SEED = 20_251_104
# For a question that is never asked of the tables: whether two given texts are alike.
_UNUSED = 0.5
# Texts hashed and candidates collected at a time: what keeps memory flat.
_TEXTS, _CANDIDATES = 2_000, 500_000


def _words(text: str) -> set[str]:
    return set(text.split()) or {""}


def _triples(text: str) -> set[str]:
    return {text[n : n + 3] for n in range(max(1, len(text) - 2))}


def _is_short(text: str) -> bool:
    return text.count(" ") < SHORT - 1


class Index:
    """Texts that others are looked up among, numbered from 0 in the order in which they are added."""

    def __init__(self) -> None:
        self._count = 0
        self._families: tuple[tuple[Callable[[str], set[str]], RMinHashLSH], ...] = tuple(
            (parts, RMinHashLSH(_UNUSED, BANDS * ROWS, BANDS)) for parts in (_words, _triples)
        )

    def add(self, texts: Sequence[str]) -> None:
        """Take the texts in."""
        for parts, table in self._families:
            for entries in self._hashed(texts, parts):
                table.insert_pairs(entries)
        self._count += len(texts)

    def candidates(self, texts: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Take the texts in; numbers (older, newer) of what might be alike, the newer among these.

        In portions; a pair of short texts may stand in two of them.
        """
        older: list[int] = []
        newer: list[int] = []
        for parts, table in self._families:
            for entries in self._hashed(texts, parts):
                table.insert_pairs(entries)
                for number, signature in entries:
                    earlier = [other for other in table.query(signature) if other < number]
                    older += earlier
                    newer += [number] * len(earlier)
                    if len(older) > _CANDIDATES:
                        yield np.array(older), np.array(newer)
                        older, newer = [], []
        if older:
            yield np.array(older), np.array(newer)
        self._count += len(texts)

    def _hashed(self, texts: Sequence[str], parts: Callable[[str], set[str]]) -> Iterator[list[tuple[int, RMinHash]]]:
        """The numbers of those texts that the family is for, with their signatures."""
        rows = [n for n, text in enumerate(texts) if parts is _words or _is_short(text)]
        for begin in range(0, len(rows), _TEXTS):
            some = rows[begin : begin + _TEXTS]
            # As bytes: a lone surrogate is no reason to leave a text out.
            sets = [[part.encode("utf-8", "surrogatepass") for part in parts(texts[n])] for n in some]
            signatures = RMinHash.from_token_sets(sets, BANDS * ROWS, _SEED)
            yield [(self._count + n, signature) for n, signature in zip(some, signatures, strict=True)]
