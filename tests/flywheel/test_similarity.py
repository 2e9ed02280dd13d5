from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.data.similarity import best_match, partial, ratio, similar_pairs, sorted_words

if TYPE_CHECKING:
    import random

WORDS = st.lists(st.sampled_from(["alpha", "beta", "Gamma", "delta,", "42", "ünï"]), max_size=8)


@given(WORDS, st.randoms())
def test_order_case_spacing_and_punctuation_do_not_count(words: list[str], rng: random.Random) -> None:
    shuffled = rng.sample(words, len(words))
    assert sorted_words(" ".join(words)) == sorted_words(" \n-".join(shuffled).upper())
    assert ratio(" ".join(words), " \n-".join(shuffled).upper()) == 1.0


@given(st.text(), st.text())
def test_likeness_is_within_its_scale_and_the_same_both_ways(one: str, other: str) -> None:
    assert ratio(one, other) == ratio(other, one)
    assert 0 <= ratio(one, other) <= 1
    assert 0 <= partial(one, other) <= 1
    assert ratio(one, one) == 1.0


def test_one_or_two_words_must_stand_in_the_text_as_they_are() -> None:
    assert partial("page size", "cap the Page-Size now") == 1.0
    assert partial("page size", "cap the pages size now") == 0.0
    assert partial("", "anything") == partial("anything", "") == 0.0


@given(st.lists(WORDS.map(" ".join), max_size=5), st.lists(WORDS.map(" ".join), max_size=5), st.floats(0, 1))
def test_matches_use_each_text_once_best_first(left: list[str], right: list[str], least: float) -> None:
    found = best_match(left, right, least)
    assert len({i for i, _, _ in found}) == len({j for _, j, _ in found}) == len(found)
    assert all(score == ratio(left[i], right[j]) >= least for i, j, score in found)
    assert [score for _, _, score in found] == sorted((score for _, _, score in found), reverse=True)


def slow_pairs(texts: list[str], threshold: float, start: int) -> dict[tuple[int, int], float]:
    """The definition, written out: 1 - insertions and deletions / both lengths."""
    found = {}
    for newer in range(start, len(texts)):
        for older in range(newer):
            one, other = texts[older], texts[newer]
            total = len(one) + len(other)
            ratio = 1 - (total - 2 * common(one, other)) / total if total else 1.0
            if ratio >= threshold:
                found[older, newer] = ratio
    return found


def common(one: str, other: str) -> int:
    row = [0] * (len(other) + 1)
    for a in one:
        above = row[:]
        for index, b in enumerate(other, 1):
            row[index] = above[index - 1] + 1 if a == b else max(above[index], row[index - 1])
    return row[-1]


@settings(max_examples=60)
@given(st.lists(st.text("ab c", max_size=12), max_size=8), st.sampled_from([0.5, 0.6, 0.85, 1.0]), st.integers(0, 8))
def test_every_pair_at_or_above_the_threshold_is_found_and_no_other(
    texts: list[str], threshold: float, start: int
) -> None:
    expected = slow_pairs(texts, threshold, start)
    found = {(older, newer): ratio for older, newer, ratio in similar_pairs(texts, threshold, start)}
    for pair in found.keys() ^ expected.keys():
        assert abs(expected.get(pair, threshold) - threshold) < 1e-6  # rounding may decide only at the very threshold
    assert all(abs(found[pair] - expected[pair]) < 1e-6 for pair in found.keys() & expected.keys())
    assert all(older < newer and newer >= start for older, newer in found)


def test_blocks_do_not_hide_pairs() -> None:
    texts = [f"{'abcdefgh'[n % 8] * 30}{n}" for n in range(1300)]
    texts[3] = texts[700] = texts[1299] = "the very same text"
    pairs = {(i, j) for i, j, _ in similar_pairs(texts, 0.999)}
    assert {(3, 700), (3, 1299), (700, 1299)} <= pairs
    assert {(3, 1299), (700, 1299)} == {(i, j) for i, j, _ in similar_pairs(texts, 0.999, start=1299)}
