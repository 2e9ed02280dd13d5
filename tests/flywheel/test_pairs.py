from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from flywheel.data.examples import Example
from flywheel.learning.evaluation import Scored
from flywheel.learning.pairs import Pairs

if TYPE_CHECKING:
    from collections.abc import Sequence


def example(number: int, **metadata: Any) -> Example:
    facts = {"inputs": {"q": f"question {number}"}, "outputs": {"a": "right"}, "metadata": metadata}
    return Example.model_validate({**facts, "id": f"e{number:02}"})


def pairs(scores: Sequence[tuple[float | None, float | None]], **metadata: Any) -> Pairs:
    return Pairs(
        [example(n, **metadata) for n in range(len(scores))],
        [Scored(before, {"a": "before"}) for before, _ in scores],
        [Scored(after, {"a": "after"}) for _, after in scores],
    )


def test_changes_are_the_worst_and_the_best_with_both_answers() -> None:
    worst, best = pairs([(0.5, 0.0), (1.0, 0.0), (0.0, 1.0), (0.2, 0.4), (0.7, 0.7), (None, 1.0)]).changes()
    assert [change.id for change in worst] == ["e01", "e00"]
    assert [change.id for change in best] == ["e02", "e03"]
    assert worst[0].inputs == {"q": "question 1"}
    assert (worst[0].labels, worst[0].baseline_answer, worst[0].optimized_answer) == (
        {"a": "right"},
        {"a": "before"},
        {"a": "after"},
    )


def test_at_most_ten_of_each_are_shown() -> None:
    worst, best = pairs([(1.0, 0.0)] * 14 + [(0.0, 1.0)] * 14).changes()
    assert (len(worst), len(best)) == (10, 10)


def test_slices_count_failures_apart_and_name_what_is_unknown() -> None:
    found = pairs([(0.0, 1.0), (0.5, 0.5), (None, 1.0)], source="git", difficulty="easy").slices()
    assert found.keys() == {"source", "difficulty", "category"}
    part = found["source"]["git"]
    assert (part.n, part.n_failed, part.baseline, part.optimized) == (3, 1, 0.25, 0.75)
    assert found["category"].keys() == {"unknown"}
    nothing = pairs([(None, 1.0)]).slices()["source"]["unknown"]
    assert (nothing.n, nothing.n_failed, nothing.baseline, nothing.optimized) == (1, 1, None, None)


@given(st.lists(st.tuples(*(st.none() | st.floats(0, 1),) * 2), max_size=30), st.integers(1, 12))
def test_no_example_is_both_won_and_lost(scores: list[tuple[float | None, float | None]], most: int) -> None:
    worst, best = pairs(scores).changes(most)
    assert len(worst) <= most
    assert len(best) <= most
    assert not {change.id for change in worst} & {change.id for change in best}
    assert all(change.difference < 0 for change in worst)
    assert all(change.difference > 0 for change in best)
