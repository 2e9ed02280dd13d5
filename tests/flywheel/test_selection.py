"""Selection comes as close to the wished shares as its pool allows, and always in the same way."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from flywheel.data.examples import Example, Metadata
from flywheel.data.registry import all_signatures
from flywheel.data.selection import select

COMPLETENESS = all_signatures()["validate_completeness"]
EXTRACTION = all_signatures()["extract_requirements"]


def example(number: int, label: bool | None, difficulty: str, category: str, group: str | None = None) -> Example:  # noqa: FBT001
    outputs = {} if label is None else {"is_complete": label}
    metadata = Metadata.model_validate({"difficulty": difficulty, "category": category, "group": group or f"g{number}"})
    return Example(inputs={"n": number}, outputs=outputs, metadata=metadata)


def pool(size: int) -> list[Example]:
    levels, kinds = ("easy", "medium", "hard"), ("api", "docs", "tests", "build")
    return [example(n, n % 5 != 0, levels[n % 3], kinds[n % 4]) for n in range(size)]


def test_shares_are_met_when_the_pool_has_enough() -> None:
    chosen = select(pool(600), COMPLETENESS, 50)
    assert Counter(e.outputs["is_complete"] for e in chosen) == {True: 20, False: 30}
    assert Counter(e.metadata.difficulty for e in chosen) == {"easy": 15, "medium": 25, "hard": 10}
    categories = Counter(e.metadata.category for e in chosen)
    assert max(categories.values()) - min(categories.values()) <= 2


def test_too_small_a_pool_is_taken_whole() -> None:
    assert select(pool(7), COMPLETENESS, 50) == pool(7)
    assert select([], COMPLETENESS, 5) == []


def test_a_signature_without_a_label_is_balanced_by_difficulty() -> None:
    examples = [example(n, None, ("easy", "medium", "hard")[n % 3], "api") for n in range(90)]
    chosen = select(examples, EXTRACTION, 10)
    assert Counter(e.metadata.difficulty for e in chosen) == {"easy": 3, "medium": 5, "hard": 2}


def test_another_difficulty_target_is_followed() -> None:
    chosen = select(pool(600), COMPLETENESS, 40, difficulty={"easy": 1.0, "medium": 0.0, "hard": 0.0})
    assert {e.metadata.difficulty for e in chosen} == {"easy"}


def test_one_group_never_fills_the_lot() -> None:
    crowd = [example(n, n % 2 == 0, "medium", "api", "same") for n in range(50)]
    others = [example(n, n % 2 == 0, "medium", "api") for n in range(50, 60)]
    chosen = select([*crowd, *others], COMPLETENESS, 12)
    assert Counter(e.metadata.group == "same" for e in chosen) == {False: 10, True: 2}
    assert len(select(crowd, COMPLETENESS, 12)) == 4
    assert len(select(crowd, COMPLETENESS, 12, max_per_group=(1,))) == 1


CELL = st.tuples(st.booleans(), st.sampled_from(["easy", "medium", "hard"]), st.sampled_from("ab"), st.integers(0, 9))


@given(st.lists(CELL, max_size=40), st.integers(1, 20))
def test_choice_is_in_order_within_bounds_and_repeatable(cells: list[tuple[bool, str, str, int]], target: int) -> None:
    examples = [example(n, a, b, c, f"g{d}") for n, (a, b, c, d) in enumerate(cells)]
    chosen = select(examples, COMPLETENESS, target)
    numbers = [e.inputs["n"] for e in chosen]
    assert numbers == sorted(set(numbers))
    assert len(chosen) <= target
    assert max(Counter(e.metadata.group for e in chosen).values(), default=0) <= 4
    assert chosen == select(examples, COMPLETENESS, target)
