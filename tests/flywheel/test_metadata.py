from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.data import metadata
from flywheel.data.examples import Example, Metadata
from flywheel.data.registry import all_signatures

if TYPE_CHECKING:
    import random

SIGNATURES = all_signatures()
ROWS = st.lists(st.dictionaries(st.text("abc", min_size=1), st.integers() | st.text(st.characters())), max_size=6)


def example(score: float, *, complete: bool, **facts: Any) -> Example:
    return Example(
        inputs={}, outputs={"is_complete": complete}, id="f" * 24, split="train",
        metadata=Metadata(quality_score=score, **{"source": "git", **facts}),
    )  # fmt: skip


@given(ROWS, st.randoms())
def test_equal_sets_of_rows_have_equal_hashes(rows: list[dict[str, Any]], rng: random.Random) -> None:
    whole = metadata.content_hash("salt", rows)
    assert metadata.content_hash("salt", rng.sample(rows, len(rows))) == whole
    assert metadata.content_hash("pepper", rows) != whole or not rows
    assert metadata.content_hash("salt", [*rows, {"new": 1}]) != whole


def test_statistics_count_what_is_there() -> None:
    examples = [
        example(80, complete=True, category="api", difficulty="easy"),
        example(90, complete=False, category="api", difficulty="hard", source="synthetic"),
        example(100, complete=False),
    ]
    found = metadata.summarize(SIGNATURES["validate_completeness"], examples)
    assert found.model_dump() == {
        "sources": {"git": 2, "synthetic": 1},
        "difficulty": {"easy": 1, "hard": 1, "unknown": 1},
        "categories": {"api": 2, "unknown": 1},
        "completeness": {"false": 2, "true": 1},
        "quality_scores": {"mean": 90.0, "median": 90.0, "min": 80.0, "max": 100.0, "count": 3},
        "splits": {"train": 3},
    }


def test_a_signature_without_a_label_has_no_completeness() -> None:
    assert metadata.summarize(SIGNATURES["extract_requirements"], [example(80, complete=True)]).completeness is None


def test_no_examples_are_no_version() -> None:
    with pytest.raises(ValueError, match="at least one example"):
        metadata.summarize(SIGNATURES["validate_completeness"], [])


def test_provenance_has_all_that_the_source_knew_and_nothing_it_made_up() -> None:
    row = metadata.provenance_row(
        example(80, complete=True, group="commit:1", commit_sha="abc", example_id="forged", timestamp="then"), "now"
    )
    assert row == {
        "example_id": "f" * 24,
        "source": "git",
        "timestamp": "then",
        "quality_score": 80,
        "group": "commit:1",
        "commit_sha": "abc",
    }
    assert metadata.provenance_row(example(80, complete=True), "now")["timestamp"] == "now"
