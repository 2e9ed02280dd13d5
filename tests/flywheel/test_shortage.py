"""What a gate asks for is enough to pass, and no fewer examples would be."""

from __future__ import annotations

from itertools import combinations_with_replacement, product
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import quality_gates
from flywheel.data.examples import Example, Metadata
from flywheel.data.registry import all_signatures
from flywheel.data.shortage import Shortage, allowed, shortage
from flywheel.data.signatures.types import Gate
from quality_gates import evaluate

if TYPE_CHECKING:
    from collections.abc import Sequence

SIGNATURE = all_signatures()["validate_completeness"]
LEVELS = ("easy", "medium", "hard")


def example(difficulty: str | None, label: bool, source: str, category: str) -> Example:  # noqa: FBT001
    facts = {"difficulty": difficulty, "source": source, "category": category, "quality_score": 90.0}
    return Example(
        inputs={"implementation": "It was done.", "requirements": ["it"]},
        outputs={"is_complete": label, "missing_requirements": [] if label else ["it"], "explanation": "It was seen."},
        metadata=Metadata.model_validate(facts),
    )


def batches(most: int) -> st.SearchStrategy[list[Example]]:
    levels, sources = st.sampled_from([*LEVELS, "easy", None]), st.sampled_from(["git", "git", "git", "synthetic"])
    made = st.builds(example, levels, st.booleans(), sources, st.sampled_from("abcd"))
    return st.lists(made, min_size=1, max_size=most)


def collected(found: Shortage) -> list[Example]:
    """Examples just as the shortage asks for them."""
    levels: list[str | None] = [level for level, count in found.difficulty.items() for _ in range(count)]
    levels = levels or [None] * found.examples
    labels = [name.endswith("true") for name, count in found.label.items() for _ in range(count)]
    labels = labels or [True] * found.examples
    other = [f"other{number}" for number in range(found.other_sources)]
    sources = other + [found.source or "git"] * (found.examples - len(other))
    categories = [f"new{number}" for number in range(found.new_categories)] + ["a"] * found.examples
    return [example(*facts) for facts in zip(levels, labels, sources, categories, strict=False)]


def passes(examples: Sequence[Example]) -> bool:
    return not evaluate(SIGNATURE, examples, strict=True).reasons


@given(batches(80))
def test_what_is_asked_for_is_enough(batch: list[Example]) -> None:
    found = evaluate(SIGNATURE, batch, strict=True).collect
    assert found is not None
    more = collected(found)
    assert len(more) == found.examples
    assert passes([*batch, *more])
    assert bool(found.examples) == (not passes(batch))


@settings(max_examples=30, deadline=None)
@given(batches(7))
def test_fewer_are_not(batch: list[Example]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quality_gates, "SMALL_SAMPLE", 3)
        found = evaluate(SIGNATURE, batch, strict=True).collect
        assert found is not None
        kinds = [example(*facts) for facts in product(LEVELS, (True, False), ("git", "new"), ("a", "y", "z"))]
        fewer = range(min(found.examples, 3))
        assert not any(
            passes([*batch, *more]) for count in fewer for more in combinations_with_replacement(kinds, count)
        )


@given(st.integers(1, 400), st.integers(0, 100), st.integers(0, 100))
def test_the_bounds_are_those_that_the_gate_judges_by(total: int, target: int, tolerance: int) -> None:
    low, high = max(0.0, (target - tolerance) / 100), min(1.0, (target + tolerance) / 100)
    least, most = allowed(low, high, total)
    for count in range(total + 1):
        assert (least <= count <= most) == (low * total - 0.5 - 1e-6 <= count <= high * total + 0.5 + 1e-6)


def test_a_gate_that_nothing_passes_says_so() -> None:
    gate = Gate(difficulty={"easy": 1.0, "medium": 0.0, "hard": 0.0}, tolerance=0.0)
    batch = [example("hard", label=True, source="git", category="a")] * 30
    assert shortage(SIGNATURE, gate, batch, 20) is None


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (Shortage(0), "0 more examples"),
        (Shortage(12, {"easy": 0, "hard": 12}), "12 more examples: 12 hard"),
        (
            Shortage(3, {"easy": 3}, {"x=true": 1, "x=false": 2}, 2, "git", 1),
            "3 more examples: 3 easy; 1 x=true, 2 x=false; 2 from sources other than git; of 1 more categories",
        ),
    ],
)
def test_it_is_told_in_words(found: Shortage, told: Any) -> None:
    assert str(found) == told
