from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.serving.allotment import allot, best_probabilities, widths

NAMES = ("candidate", "candidate_2", "candidate_3", "candidate_4")


@pytest.mark.parametrize(
    "records",
    [
        [(0, 0), (0, 0)],
        [(90, 100), (95, 100)],
        [(90, 100), (95, 100), (10, 12), (0, 0)],
        [(100, 100), (100, 100)],
        [(0, 50), (1, 50), (0, 10)],
        [(9_500, 10_000), (9_520, 10_000)],
    ],
    ids=str,
)
def test_the_probabilities_are_those_of_thompsons_draws(records: list[tuple[float, int]]) -> None:
    rng = random.Random(1)
    wins = [0] * len(records)
    for _ in range(20_000):
        draws = [rng.betavariate(1 + won, 1 + trials - won) for won, trials in records]
        wins[draws.index(max(draws))] += 1
    found = best_probabilities(records)
    assert sum(found) == pytest.approx(1)
    assert found == pytest.approx([count / 20_000 for count in wins], abs=0.015)


@given(
    st.lists(st.integers(0, 10**7).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), min_size=1, max_size=8)
)
def test_any_counts_have_probabilities(records: list[tuple[int, int]]) -> None:
    found = best_probabilities(records)
    assert sum(found) == pytest.approx(1)
    assert all(0 <= value <= 1 for value in found)


def test_the_better_gets_more_and_none_less_than_five_percent() -> None:
    chances = best_probabilities([(60, 100), (95, 100), (94, 100)])
    found = widths(50, dict(zip(NAMES, chances, strict=False)))
    assert sum(found.values()) == 5_000
    assert found["candidate"] in range(500, 510)
    assert found["candidate_2"] > found["candidate_3"] > 1_000
    assert widths(10, dict.fromkeys(NAMES[:3], 1 / 3)) == dict.fromkeys(NAMES[:3], 500)


def shares() -> st.SearchStrategy[dict[str, int]]:
    return st.dictionaries(st.sampled_from(NAMES), st.integers(1, 2_500), min_size=1)


@given(st.lists(shares(), min_size=1, max_size=6))
def test_no_more_units_move_than_the_shares_demand(steps: list[dict[str, int]]) -> None:
    present: dict[str, tuple[tuple[int, int], ...]] = {}
    for wanted in steps:
        after = allot(present, wanted)
        old, new = owners(present), owners(after)
        assert {name: new.count(name) for name in wanted} == wanted
        moved = sum(one != other for one, other in zip(old, new, strict=True))
        names = {*old, *new}
        assert moved == sum(max(0, old.count(name) - new.count(name)) for name in names)
        present = after


def owners(buckets: dict[str, tuple[tuple[int, int], ...]]) -> list[str]:
    line = ["baseline"] * 10_000
    for name, ranges in buckets.items():
        for low, high in ranges:
            assert set(line[low:high]) == {"baseline"}
            line[low:high] = [name] * (high - low)
    return line
