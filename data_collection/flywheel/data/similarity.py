"""How alike two texts are, and which texts belong together; the only door to rapidfuzz. Ratios are 0-1, 1 = same."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from rapidfuzz import fuzz

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np

_FEW_WORDS = 3
_NOT_WORDS = re.compile(r"[\W_]+")
_BLOCK = 512
# All pairs of 5,000 texts: some ten seconds of CPU.
EXACT = 12_500_000


def normalised(text: str) -> str:
    """`text` in one case and width, words parted by single spaces, punctuation gone."""
    return _NOT_WORDS.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


def sorted_words(text: str) -> str:
    """`text` normalised, its words in sorted order: word order does not count either."""
    return " ".join(sorted(normalised(text).split()))


def ratio(first: str, second: str) -> float:
    """Likeness of two texts, 0-1: 1 for the same words in any order; 0 when one has no words and the other has."""
    left, right = normalised(first), normalised(second)
    if left == right:
        return 1.0
    return fuzz.token_sort_ratio(left, right) / 100 if left and right else 0.0


def partial(needle: str, text: str) -> float:
    """How well `text` holds `needle` somewhere, 0-1; one or two words must stand there as they are."""
    part, whole = normalised(needle), normalised(text)
    if not part or not whole:
        return 0.0
    if len(part.split()) < _FEW_WORDS:
        return float(f" {part} " in f" {whole} ")
    return (fuzz.partial_ratio(part, whole) if len(part) <= len(whole) else fuzz.ratio(part, whole)) / 100


def best_match(left: Sequence[str], right: Sequence[str], least: float = 0.0) -> list[tuple[int, int, float]]:
    """Pairs (index in left, index in right, likeness), each index once, the most alike first.

    Greedy: the best pair is taken, then the best of the rest. Pairs less alike than `least`, or not at all, are left
    out; among equals the earlier in `left`, then in `right`, comes first.
    """
    pairs = [(ratio(a, b), i, j) for i, a in enumerate(left) for j, b in enumerate(right)]
    taken: list[tuple[int, int, float]] = []
    for score, i, j in sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2])):
        if score <= 0 or score < least:
            break
        if all(i != used and j != other for used, other, _ in taken):
            taken.append((i, j, score))
    return taken


def similar_pairs(texts: Sequence[str], threshold: float, start: int = 0) -> Iterator[tuple[int, int, float]]:
    """Pairs (i, j, ratio), i < j and j >= start, of normalised texts at least `threshold` alike.

    Up to EXACT comparisons every pair is compared (rapidfuzz's normalised indel similarity, on all cores). Beyond, only
    the candidates of locality-sensitive hashing are, which misses a few in a thousand (benchmarks/dedup.py measures).
    Memory grows with the number of texts, not its square.
    """
    many = (len(texts) - start) * (len(texts) + start) // 2 > EXACT
    return _likely_pairs(texts, threshold, start) if many else _all_pairs(texts, threshold, start)


def _all_pairs(texts: Sequence[str], threshold: float, start: int) -> Iterator[tuple[int, int, float]]:
    import numpy as np
    from rapidfuzz import process
    from rapidfuzz.distance import Indel

    for begin in range(start, len(texts), _BLOCK):
        block = texts[begin : begin + _BLOCK]
        earlier = texts[: begin + len(block)]
        scores = process.cdist(
            block, earlier, scorer=Indel.normalized_similarity, score_cutoff=threshold, dtype=np.float32, workers=-1
        )
        for row, column in zip(*np.nonzero(scores), strict=True):
            newer, older = begin + int(row), int(column)
            if older < newer:
                yield older, newer, float(scores[row, column])


def _likely_pairs(texts: Sequence[str], threshold: float, start: int) -> Iterator[tuple[int, int, float]]:
    from flywheel.data.lsh import Index

    index = Index()
    index.add(texts[:start])
    found: dict[tuple[int, int], float] = {}
    for older, newer in index.candidates(texts[start:]):
        found.update(verified(texts, older, newer, threshold))
    return ((older, newer, score) for (older, newer), score in found.items())


def verified(
    texts: Sequence[str], older: np.ndarray, newer: np.ndarray, threshold: float
) -> Iterator[tuple[tuple[int, int], float]]:
    """Of the candidate pairs (positions in `texts`) those at least `threshold` alike, with their ratio."""
    import numpy as np
    from rapidfuzz import process
    from rapidfuzz.distance import Indel

    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    shorter, longer = np.minimum(lengths[older], lengths[newer]), np.maximum(lengths[older], lengths[newer])
    # What the lengths alone allow; a hair below, so that rounding leaves the decision to the comparison itself.
    possible = 2 * shorter >= (threshold - 1e-6) * (shorter + longer)
    older, newer = older[possible], newer[possible]
    scores = process.cpdist(
        [texts[i] for i in older], [texts[j] for j in newer],
        scorer=Indel.normalized_similarity, score_cutoff=threshold, dtype=np.float32, workers=-1,
    )  # fmt: skip
    for row in np.flatnonzero(scores):
        yield (int(older[row]), int(newer[row])), float(scores[row])
