from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.data.splits import SPLITS, Groups, Member, assign, default_fractions

if TYPE_CHECKING:
    import random

FRACTIONS = st.sampled_from([(0.25, 0.25, 0.5), (0.2, 0.4, 0.4), (1 / 3, 1 / 3, 1 / 3), (0.8, 0.1, 0.1)])
GROUPS = st.integers(0, 12).map("group:{}".format)
MEMBERS = st.lists(st.builds(Member, GROUPS, st.sampled_from(["True/easy", "False/hard"]), st.booleans()), max_size=40)


@pytest.mark.parametrize(
    ("count", "fractions"),
    [(1, (0.25, 0.25, 0.5)), (199, (0.25, 0.25, 0.5)), (200, (0.2, 0.4, 0.4)), (5000, (0.2, 0.4, 0.4))],
)
def test_default_fractions(count: int, fractions: tuple[float, float, float]) -> None:
    assert default_fractions(count) == fractions


@given(MEMBERS, FRACTIONS, st.randoms())
def test_every_new_group_gets_one_split_whatever_the_order(
    members: list[Member], fractions: tuple[float, float, float], rng: random.Random
) -> None:
    chosen = assign(members, {}, fractions, "key")
    assert chosen.keys() == {member.group for member in members}
    assert set(chosen.values()) <= set(SPLITS)
    assert assign(rng.sample(members, len(members)), {}, fractions, "key") == chosen


@given(MEMBERS, MEMBERS, FRACTIONS)
def test_what_is_assigned_is_never_assigned_again(
    old: list[Member], new: list[Member], fractions: tuple[float, float, float]
) -> None:
    before = assign(old, {}, fractions, "key")
    after = assign([*old, *new], before, fractions, "key")
    assert not before.keys() & after.keys()
    assert before.keys() | after.keys() == {member.group for member in [*old, *new]}


@given(
    st.integers(60, 400),
    FRACTIONS,
    st.lists(st.sampled_from(["True/easy", "True/hard", "False/easy", "False/hard"]), min_size=1, max_size=4),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.randoms(),
)
def test_fractions_are_met_within_rounding_of_each_stratum(
    count: int, fractions: tuple[float, float, float], strata: list[str], real: float, rng: random.Random
) -> None:
    members = [Member(f"g{n}", rng.choice(strata), rng.random() < real) for n in range(count)]
    found = Counter(assign(members, {}, fractions, "key").values())
    cells = 2 * len(set(strata))
    for split, share in zip(SPLITS, fractions, strict=True):
        assert abs(found[split] - share * count) <= 1 + cells


@given(st.integers(20, 200), st.randoms())
def test_labels_are_spread_over_the_splits(count: int, rng: random.Random) -> None:
    members = [Member(f"g{n}", rng.choice(["True", "False"]), real=True) for n in range(count)]
    chosen = assign(members, {}, (0.25, 0.25, 0.5), "key")
    total = Counter(member.stratum for member in members)
    test = Counter(member.stratum for member in members if chosen[member.group] == "test")
    assert all(abs(test[label] - total[label] / 2) <= 1.5 for label in total)


def test_the_test_split_takes_real_examples_first_and_training_keeps_some() -> None:
    members = [Member(f"g{n}", "x", real=n < 40) for n in range(100)]
    chosen = assign(members, {}, (0.25, 0.25, 0.5), "key")
    real = Counter(chosen[f"g{n}"] for n in range(40))
    assert real["test"] == 32
    assert real["train"] >= 3
    assert Counter(chosen.values())["test"] == 50


def test_a_large_group_is_not_torn_and_the_rest_makes_up_for_it() -> None:
    members = [Member("large", "x", real=True)] * 30 + [Member(f"g{n}", "x", real=True) for n in range(30)]
    chosen = assign(members, {}, (0.25, 0.25, 0.5), "key")
    sizes = Counter(chosen[member.group] for member in members)
    assert sizes == {"train": 15, "val": 15, "test": 30}


def test_the_key_decides_ties() -> None:
    members = [Member(f"g{n}", "x", real=True) for n in range(30)]
    assert assign(members, {}, (1 / 3, 1 / 3, 1 / 3), "one") != assign(members, {}, (1 / 3, 1 / 3, 1 / 3), "two")


def test_joined_groups_share_a_split() -> None:
    groups = Groups({"a": "train", "b": "test", "c": "train"})
    assert groups.join(["a", "new"])
    assert groups.split("new") == "train"
    assert groups.join(["a", "c"])
    assert not groups.join(["new", "b"])
    assert groups.split("b") == "test"
    assert groups.find("b") == "b"
    assert groups.join(["x", "y"])
    assert groups.split("x") is None
    assert groups.join(["y", "b"])
    assert groups.split("x") == "test"
    assert not groups.join(["x", "new", "fresh"])
    assert groups.find("fresh") == "fresh"


@given(
    st.dictionaries(GROUPS, st.sampled_from(SPLITS), max_size=5),
    st.lists(st.lists(GROUPS, min_size=1, max_size=4), max_size=12),
)
def test_no_sequence_of_joins_changes_a_recorded_split(recorded: dict[str, str], joins: list[list[str]]) -> None:
    groups = Groups(recorded)
    for names in joins:
        joined = groups.join(names)
        assert joined <= (len({groups.find(name) for name in names}) == 1)
    assert {name: groups.split(name) for name in recorded} == recorded
