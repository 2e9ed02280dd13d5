from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.base import clock

MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(9998, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


def test_now_has_an_offset() -> None:
    assert clock.now().utcoffset() == timedelta(0)


def test_iso_is_utc_with_offset_in_whole_seconds() -> None:
    berlin = timezone(timedelta(hours=1))
    assert clock.iso(datetime(2025, 11, 4, 13, 0, 0, 999_999, tzinfo=berlin)) == "2025-11-04T12:00:00+00:00"


def test_iso_refuses_a_naive_moment() -> None:
    with pytest.raises(ValueError, match="naive"):
        clock.iso(datetime(2025, 11, 4))  # noqa: DTZ001


@given(MOMENTS)
def test_stamp_round_trips_to_the_second(moment: datetime) -> None:
    assert clock.parse_stamp(clock.stamp(moment)) == moment.replace(microsecond=0)


@given(MOMENTS, MOMENTS)
def test_stamps_sort_as_their_moments(one: datetime, other: datetime) -> None:
    assert (clock.stamp(one) < clock.stamp(other)) == (one.replace(microsecond=0) < other.replace(microsecond=0))


@pytest.mark.parametrize(
    "text",
    ["", "20251104", "2025114_120000", "20251104_1200", "20251104_120000 ", "20251304_120000", "٢٠٢٥١١٠٤_120000"],
)
def test_parse_stamp_takes_nothing_but_stamps(text: str) -> None:
    with pytest.raises(ValueError, match=r"format|expected|unconverted"):
        clock.parse_stamp(text)
