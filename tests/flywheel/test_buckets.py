from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.serving.buckets import Buckets
from flywheel.serving.counters import Counters
from flywheel.serving.promql import CorruptError, Series

BOUNDS = (100.0, 250.0, 500.0, 1000.0, math.inf)
LATENCIES = st.lists(st.floats(0, 5_000), min_size=1, max_size=60)


def counted(latencies: list[float]) -> Buckets:
    return Buckets({bound: sum(value <= bound for value in latencies) for bound in BOUNDS}, sum(latencies))


@given(LATENCIES)
def test_squares_are_never_taken_for_less_than_they_are(latencies: list[float]) -> None:
    total, squares = counted(latencies).sums()
    assert total == pytest.approx(sum(latencies))
    truth = sum(value * value for value in latencies)
    assert truth <= squares * (1 + 1e-9) + 1e-6
    assert squares <= total * total + 1e-6


def test_the_largest_squares_are_reached_by_what_the_buckets_allow() -> None:
    """Two calls within 100 .. 250 of sum 350: at most 100 and 250."""
    assert Buckets({100.0: 0, 250.0: 2, math.inf: 2}, 350.0).sums() == (350.0, 100.0**2 + 250.0**2)


@given(LATENCIES)
def test_slow_calls_above_a_bound_are_counted_exactly(latencies: list[float]) -> None:
    slow = counted(latencies).slow((100.0, 500.0, 1000.0))
    assert slow == tuple(sum(value > bound for value in latencies) for bound in (100.0, 500.0, 1000.0))


@given(st.lists(st.floats(0, 900), min_size=200, max_size=600))
def test_what_stands_for_the_first_calls_has_their_quantiles(latencies: list[float]) -> None:
    warmup = sorted(counted(latencies).warmup())
    assert len(warmup) == 200
    ordered = sorted(latencies)
    for rank in (99, 179, 195):
        truth = ordered[(2 * rank + 1) * len(ordered) // 400]
        assert warmup[rank] == min(bound for bound in BOUNDS if truth <= bound)


@pytest.mark.parametrize(
    "cumulative", [{100.0: 5, math.inf: 4}, {100.0: 5}, {100.0: 0, 250.0: 1, math.inf: 1}], ids=["falls", "open", "sum"]
)
def test_what_no_histogram_can_hold_is_refused(cumulative: dict[float, int]) -> None:
    with pytest.raises(CorruptError):
        Buckets(cumulative, 5_000.0).sums()


RISES = st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=30)


@given(RISES, st.data())
def test_counters_count_all_that_was_scraped_whatever_restarts_and_however_it_is_read(
    rises: list[tuple[int, bool]], data: st.DataObject
) -> None:
    """A companion that always grows gives restarts away which the counter itself has outgrown."""
    value, companion, samples, companions, total = 0, 0, [], [], 0
    for number, (rise, restart) in enumerate(rises, 1):
        if restart:
            value, companion = 0, 0
        value, companion, total = value + rise, companion + 100 if not restart else 1, total + rise
        samples.append((number * 1000, float(value)))
        companions.append((number * 1000, float(companion)))
    counters, found, done = Counters(0), 0.0, 0
    while done < len(samples):
        end = data.draw(st.integers(done + 1, len(samples)))
        part = [
            Series({"__name__": name, "instance": "a", "job": "j"}, tuple(items[max(0, done - 1) : end]))
            for name, items in (("x", samples), ("y", companions))
        ]
        found += counters.growth({"x": part[:1], "y": part[1:]}, 0, end * 1000)["x"][0]
        counters = Counters.from_object(counters.to_object())
        done = end
    # A restart whose companion did not fall either cannot be told from growth.
    unseen = sum(companions[n][1] >= companions[n - 1][1] for n in range(1, len(rises)) if rises[n][1])
    assert found == total or unseen
