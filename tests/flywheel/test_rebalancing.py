"""The largest part of a batch that passes: it passes, and no larger one does."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import quality_gates
from flywheel.data.examples import Example, Metadata
from flywheel.data.rebalancing import largest
from flywheel.data.registry import all_signatures
from quality_gates import above_minimum, evaluate, gate_of, rebalance

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

SIGNATURE = all_signatures()["validate_completeness"]


def example(number: int, difficulty: str | None, label: bool, source: str, category: str, quality: float) -> Example:  # noqa: FBT001
    return Example(
        inputs={"implementation": f"It was done {number}.", "requirements": ["it"]},
        outputs={"is_complete": label, "missing_requirements": [] if label else ["it"], "explanation": "It was seen."},
        metadata=Metadata.model_validate(
            {"difficulty": difficulty, "source": source, "category": category, "quality_score": quality}
        ),
    )


def batches(most: int) -> st.SearchStrategy[list[Example]]:
    return st.lists(
        st.builds(
            example,
            st.integers(0, 10**6),
            st.sampled_from(["easy", "medium", "medium", "hard", None]),
            st.booleans(),
            st.sampled_from(["git", "git", "synthetic", "telemetry"]),
            st.sampled_from(["api", "auth", "data", "ui"]),
            st.sampled_from([60.0, 75.0, 90.0, 95.0]),
        ),
        min_size=1,
        max_size=most,
        unique_by=lambda e: str(e.inputs),
    )


def passes(examples: Sequence[Example]) -> bool:
    return bool(examples) and not evaluate(SIGNATURE, examples, strict=True).reasons


@settings(max_examples=40, deadline=None)
@given(batches(9), st.sampled_from([1, 4, 7]))
def test_no_larger_part_passes(batch: list[Example], small: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quality_gates, "SMALL_SAMPLE", small)
        fit = above_minimum(SIGNATURE, batch)
        found = largest(SIGNATURE, gate_of(SIGNATURE), fit, small)
        assert all(e in batch for e in found)
        assert passes(found) or not found
        for size in range(len(batch), len(found), -1):
            assert not any(passes(part) for part in combinations(batch, size))


@settings(max_examples=25, deadline=None)
@given(batches(120), st.randoms())
def test_a_large_batch_passes_afterwards_whatever_its_order(batch: list[Example], rng: random.Random) -> None:
    kept, dropped = rebalance(SIGNATURE, batch)
    again, _ = rebalance(SIGNATURE, rng.sample(batch, len(batch)))
    assert {str(e.inputs) for e in kept} == {str(e.inputs) for e in again}
    assert len(kept) + len(dropped) == len(batch)
    assert [r.index for r in dropped] == [n for n, e in enumerate(batch) if e not in kept]
    assert passes(kept) or not dropped


def test_of_what_the_gate_cannot_tell_apart_the_best_stay() -> None:
    levels = ["easy", "medium", "medium", "hard", "easy", "medium", "medium", "hard", "easy", "medium"]
    batch = [
        example(n, levels[n % 10], n % 5 < 2, "git" if n % 5 < 3 else "synthetic", "abc"[n % 3], 80.0)
        for n in range(40)
    ]
    extra = [example(100 + n, "easy", label=False, source="git", category="a", quality=90.0 + n) for n in range(9)]
    kept, dropped = rebalance(SIGNATURE, [*batch, *extra])
    assert {r.reason for r in dropped} == {"surplus"}
    assert all(r.detail.startswith("easy/") for r in dropped)
    assert extra[-1] in kept
    assert len(kept) > 40


def test_where_nothing_passes_all_of_it_is_judged() -> None:
    batch = [example(n, "easy", label=True, source="git", category="api", quality=90.0) for n in range(30)]
    assert rebalance(SIGNATURE, batch) == (batch, [])


def test_the_solver_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    rebalance(SIGNATURE, [example(n, "easy", n % 2 == 0, "git", "abc"[n % 3], 90.0) for n in range(40)])
    assert "".join(capfd.readouterr()) == ""
