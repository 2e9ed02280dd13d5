from __future__ import annotations

import json
from math import floor, inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.serving.histogram import HIGHEST, LOWEST, RELATIVE_ERROR, Histogram

VALUES = st.floats(LOWEST, HIGHEST)


def of(values: list[float]) -> Histogram:
    histogram = Histogram()
    histogram.update(values)
    return histogram


@given(st.lists(VALUES, min_size=1), st.floats(0, 1))
def test_quantiles_are_within_one_percent(values: list[float], q: float) -> None:
    exact = sorted(values)[floor(q * (len(values) - 1))]
    found = of(values).quantile(q)
    assert found is not None
    assert abs(found - exact) <= RELATIVE_ERROR * exact


@given(st.lists(VALUES), st.lists(VALUES))
def test_merging_is_counting_together(left: list[float], right: list[float]) -> None:
    merged = of(left)
    merged.merge(of(right))
    assert merged == of(left + right)
    assert len(merged) == len(left) + len(right)


@given(st.lists(st.floats(0, 1e15)))
def test_one_by_one_and_all_at_once_agree(values: list[float]) -> None:
    singly = Histogram()
    for value in values:
        singly.add(value)
    assert singly == of(values)


@given(st.lists(VALUES))
def test_json_gives_an_equal_one_back(values: list[float]) -> None:
    assert Histogram.from_object(json.loads(json.dumps(of(values).to_object()))) == of(values)


def test_the_edges() -> None:
    assert of([]).quantile(0.5) is None
    assert of([0, 0, 1e-9]).quantile(1) == 0
    assert of([1e300]).quantile(0) == pytest.approx(HIGHEST, rel=RELATIVE_ERROR)
    assert of([inf]).quantile(0) == pytest.approx(HIGHEST, rel=RELATIVE_ERROR)
    assert of([-0.0]).quantile(0) == 0


@pytest.mark.parametrize("value", [-1, -1e-9, nan, -inf])
def test_what_is_no_latency_is_refused_and_nothing_counted(value: float) -> None:
    histogram = Histogram()
    with pytest.raises(ValueError, match="at least 0"):
        histogram.add(value)
    with pytest.raises(ValueError, match="at least 0"):
        histogram.update([5.0, value, 7.0])
    assert len(histogram) == 0


def test_a_quantile_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="within 0 and 1"):
        of([1.0]).quantile(1.5)


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"counts": []},
        {"relative_error": 0.02, "counts": {}},
        {"relative_error": 0.01, "counts": {"5": 0}},
        {"relative_error": 0.01, "counts": {"5": 1.5}},
        {"relative_error": 0.01, "counts": {"x": 1}},
        {"relative_error": 0.01, "counts": {"-4": 1}},
        {"relative_error": 0.01, "counts": {"99999999": 1}},
    ],
)
def test_damaged_json_is_refused(value: dict[str, object]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any message will do
        Histogram.from_object(value)


def test_memory_is_bounded() -> None:
    spread = of([LOWEST * 1.005**step for step in range(9_000)])
    assert len(spread.to_object()["counts"]) <= 3_900
