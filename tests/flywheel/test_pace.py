from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.learning.pace import SLOWEST_PER_SECOND, Pace


def started(pace: Pace, seconds: float, begin: float = 0.0) -> list[float]:
    """When calls start that are always ready to, within so many seconds; at most a hundred a second."""
    moments, now = [], begin
    while now < begin + seconds:
        now = max(now, pace.due(now))
        if now >= begin + seconds:
            break
        pace.start(now)
        moments.append(now)
        now += 0.01
    return moments


def test_there_is_no_limit_until_a_refusal() -> None:
    assert len(started(Pace(), 5)) == pytest.approx(500, abs=1)


def test_a_refusal_pauses_for_what_is_asked_and_halves_the_rate() -> None:
    pace = Pace()
    started(pace, 10)
    assert pace.refused(10.0, 9.9, retry_after=7.0) == 7.0
    after = started(pace, 8, begin=10.0)
    assert min(after) >= 17.0
    assert pace.rate is not None
    assert 45 <= len(after) <= 62, "a second at half of a hundred a second, growing by ten each second"


def test_the_rate_is_back_after_five_seconds_and_grows_on() -> None:
    pace = Pace()
    started(pace, 10)
    pace.refused(10.0, 9.9, retry_after=0.0)
    started(pace, 5, begin=10.0)
    assert pace.rate == pytest.approx(100, rel=0.05)
    started(pace, 5, begin=15.0)
    assert pace.rate == pytest.approx(150, rel=0.05)


def test_refusals_of_one_flood_halve_the_rate_once() -> None:
    pace = Pace()
    started(pace, 10)
    pace.refused(10.0, 9.9, retry_after=1.0)
    once = pace.rate
    for _ in range(20):
        pace.refused(10.1, 9.95, retry_after=1.0)
    assert pace.rate == once
    pace.refused(12.0, 11.5, retry_after=1.0)
    assert pace.rate is not None
    assert once is not None
    assert pace.rate < once


def test_pauses_that_nobody_asks_for_double_until_an_answer() -> None:
    pace = Pace()
    moments = [0.0, 10.0, 20.0, 30.0]
    assert [pace.refused(now, now, None) for now in moments] == [1.0, 2.0, 4.0, 8.0]
    pace.answered()
    assert pace.refused(50.0, 50.0, None) == 1.0
    for number in range(20):
        longest = pace.refused(1000.0 * (number + 1), 1000.0 * (number + 1), None)
    assert longest == 60.0


@given(st.lists(st.tuples(st.floats(0.0, 5.0), st.floats(0.0, 30.0)), max_size=12))
def test_a_pause_is_never_cut_short_and_calls_always_go_on(refusals: list[tuple[float, float]]) -> None:
    pace, now = Pace(), 0.0
    for wait, retry_after in refusals:
        now += wait
        pace.refused(now, now, retry_after)
        assert pace.due(now) >= now + retry_after
    due = pace.due(now)
    assert due <= pace.paused_until + 1 / SLOWEST_PER_SECOND
    assert pace.due(due + 1e-6) <= due + 1e-3
