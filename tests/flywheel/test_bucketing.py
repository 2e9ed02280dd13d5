from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.serving.bucketing import BUCKETS, LONGEST_UNIT, bucket, position, salted, threshold
from flywheel.serving.telemetry import SAMPLING_SALT

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
UNLEASH = sorted(VECTORS.glob("unleash-*.json"))
UNITS = [f"user-{number}" for number in range(20_000)]
STICKINESS = {"gradualRolloutUserId": ["userId"], "gradualRolloutSessionId": ["sessionId"]}


def unleash_cases() -> list[Any]:
    """Cases that test hashing: one rollout strategy, and an id in the context for it to hash."""
    found = []
    for path in UNLEASH:
        spec = json.loads(path.read_text())
        features = {feature["name"]: feature["strategies"] for feature in spec["state"]["features"]}
        for case in spec["tests"]:
            strategies = features[case["toggleName"]]
            unit = unleash_unit(strategies[0], case["context"])
            if len(strategies) == 1 and unit is not None:
                parameters = strategies[0]["parameters"]
                share = int(parameters.get("percentage", parameters.get("rollout")))
                known = (parameters["groupId"], unit, share, case["expectedResult"])
                found.append(pytest.param(*known, id=case["description"]))
    return found


def unleash_unit(strategy: dict[str, Any], context: dict[str, Any]) -> str | None:
    wanted = strategy["parameters"].get("stickiness", "default")
    fields = STICKINESS.get(strategy["name"]) or {"default": ["userId", "sessionId"]}.get(wanted, [wanted])
    known = {**context.get("properties", {}), **context}
    return next((known[field] for field in fields if field in known), None)


@pytest.mark.parametrize(("group", "unit", "percent", "expected"), unleash_cases())
def test_unleash_cases_pass_with_a_hundred_buckets(group: str, unit: str, percent: int, expected: bool) -> None:  # noqa: FBT001
    place = bucket(group, unit, 100)
    assert place is not None
    assert (place < percent) is expected


def test_unleash_cases_are_all_there() -> None:
    assert len(UNLEASH) == 4
    assert len(unleash_cases()) >= 17


@pytest.mark.parametrize(
    "unit", [None, 7, 1.5, b"user", ["user"], object(), "a\ud800b", "\udc80", "a" * (LONGEST_UNIT + 1)]
)
def test_what_cannot_be_bucketed_is_baselines(unit: object) -> None:
    assert bucket("salt", unit) is None


def test_the_limit_is_a_mebibyte_of_utf8() -> None:
    assert bucket("salt", "é" * (LONGEST_UNIT // 2)) is not None
    assert bucket("salt", "é" * (LONGEST_UNIT // 2 + 1)) is None
    assert bucket("salt", "a" * LONGEST_UNIT) is not None


def test_a_salt_that_cannot_be_encoded_buckets_nobody() -> None:
    assert bucket("\ud800", "user") is None


def test_a_str_subclass_is_hashed_by_its_characters() -> None:
    class Loud(str):
        __slots__ = ()

        def encode(self, *_: object) -> bytes:
            raise AssertionError

        def __format__(self, _: str) -> str:
            raise AssertionError

    assert bucket("salt", Loud("user")) == bucket("salt", "user")


@given(st.text(), st.text(st.characters(codec="utf-8")), st.integers(1, 1 << 32))
def test_a_bucket_lies_within_the_buckets(unit: str, salt: str, buckets: int) -> None:
    place = bucket(salt, unit, buckets)
    assert place is None or 0 <= place < buckets
    assert place == bucket(salt, unit, buckets) == position(salted(salt), unit, buckets)


@given(st.text(), st.text(min_size=1), st.tuples(st.integers(0, 10_000), st.integers(0, 10_000)))
def test_raising_the_share_never_moves_a_unit_back(unit: str, salt: str, hundredths: tuple[int, int]) -> None:
    low, high = sorted(hundredths)
    place = bucket(salt, unit)
    if place is not None and place < threshold(low / 100):
        assert place < threshold(high / 100)


def chi_square_of_pairs(salt: str, other: str) -> float:
    """Of a 10 x 10 table of two salts' buckets against independence; 99 degrees of freedom."""
    pairs = Counter((bucket(salt, unit, 10), bucket(other, unit, 10)) for unit in UNITS)
    expected = len(UNITS) / 100
    return sum((pairs[row, column] - expected) ** 2 / expected for row in range(10) for column in range(10))


@pytest.mark.parametrize("other", ["exp-2", "exp-1 ", "exp-11", SAMPLING_SALT])
def test_experiments_and_sampling_are_independent(other: str) -> None:
    # The 99.99 % point of chi-square with 99 degrees of freedom is 161.
    assert chi_square_of_pairs("exp-1", other) < 161


def test_the_same_salt_would_be_noticed() -> None:
    assert chi_square_of_pairs("exp-1", "exp-1") > 10_000


@pytest.mark.parametrize(
    ("percent", "buckets"), [(0, 0), (0.01, 1), (12.5, 1250), (33.33, 3333), (99.99, 9999), (100, BUCKETS)]
)
def test_thresholds_count_buckets(percent: float, buckets: int) -> None:
    assert threshold(percent) == buckets


@pytest.mark.parametrize("percent", [-1, -0.01, 100.01, 12.345, float("nan"), float("inf")])
def test_a_share_out_of_range_or_too_fine_is_refused(percent: float) -> None:
    with pytest.raises(ValueError, match="share"):
        threshold(percent)
