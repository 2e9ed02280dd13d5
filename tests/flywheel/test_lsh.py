"""Candidates by hashing: few are missed, and far fewer are compared than there are pairs."""

from __future__ import annotations

import random

import pytest

from flywheel.data import similarity
from flywheel.data.lsh import Index
from flywheel.data.similarity import similar_pairs, sorted_words

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def corpus(count: int, words: int, typos: bool, seed: int = 1) -> list[str]:  # noqa: FBT001 - a parameter of the test
    """Texts of which a third are copies of earlier ones with up to a fifth of their words changed."""
    rng = random.Random(seed)
    known = ["".join(rng.choices(LETTERS, k=rng.randint(3, 9))) for _ in range(900)]
    texts: list[list[str]] = []
    for _ in range(count):
        text = list(rng.choice(texts)) if texts and rng.random() < 0.33 else rng.choices(known, k=rng.randint(4, words))
        for _ in range(rng.randint(0, len(text) // 5)):
            place = rng.randrange(len(text))
            if typos:
                at = rng.randrange(len(text[place]))
                text[place] = text[place][:at] + rng.choice(LETTERS) + text[place][at + 1 :]
            else:
                text[place] = rng.choice(known)
        texts.append(text)
    return [sorted_words(" ".join(text)) for text in texts]


@pytest.mark.parametrize(("words", "typos"), [(8, False), (8, True), (18, True), (60, False)])
def test_hashing_finds_what_comparing_all_finds(
    monkeypatch: pytest.MonkeyPatch,
    words: int,
    typos: bool,  # noqa: FBT001
) -> None:
    texts = corpus(1500, words, typos)
    exact = {(i, j): ratio for i, j, ratio in similar_pairs(texts, 0.85, 300)}
    monkeypatch.setattr(similarity, "EXACT", 0)
    likely = {(i, j): ratio for i, j, ratio in similar_pairs(texts, 0.85, 300)}
    assert likely.items() <= exact.items()
    assert len(likely) >= 0.985 * len(exact) > 100


def paired(index: Index, texts: list[str]) -> list[tuple[int, int]]:
    return [pair for sides in index.candidates(texts) for pair in zip(*(side.tolist() for side in sides), strict=True)]


def test_few_of_all_pairs_are_candidates() -> None:
    pairs = set(paired(Index(), corpus(1500, 40, typos=False)))
    assert all(i < j for i, j in pairs)
    assert len(pairs) < 0.02 * 1500 * 1499 / 2


def test_later_texts_are_looked_up_among_all_earlier_ones() -> None:
    index = Index()
    index.add(["one two three four five", "something else altogether"])
    index.add(["six seven eight nine ten"])
    assert set(paired(index, ["", "six seven eight nine ten", "one two three four five"])) == {(2, 4), (0, 5)}
    assert set(paired(index, ["something else altogether"])) == {(1, 6)}


def test_what_is_no_unicode_is_found_too() -> None:
    assert set(paired(Index(), ["a\ud800b", "\udfff", "a\ud800b"])) == {(0, 2)}


def test_nothing_has_no_candidates() -> None:
    assert paired(Index(), []) == []
    assert paired(Index(), [""]) == []
