"""The forecast before a run: what the test can tell, what gain to expect, and whether both keep their word."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.base.past import Past
from flywheel.data.examples import Example
from flywheel.learning.forecast import MEAN_SD, SPREAD_SCALE, forecast
from flywheel.learning.prediction import ALPHA, line, predict, table
from flywheel.learning.verdict import Item, Rule, compare, detectable_points, judge

if TYPE_CHECKING:
    from collections.abc import Sequence

MODEL = "some/model"


def examples(test: int, a_group: int = 1) -> list[Example]:
    """So many test examples, and a few to learn from."""
    rows = [("train", 20), ("val", 10), ("test", test)]
    return [
        Example.model_validate(
            {
                "inputs": {},
                "outputs": {},
                "id": f"{split}{n}",
                "split": split,
                "metadata": {"group": f"{split}{n // a_group}"},
            }
        )
        for split, count in rows
        for n in range(count)
    ]


def past(
    points: float, differences: Sequence[float] = (), *, baseline: float = 0.5, error: float = 4.0, **more: object
) -> Past:
    percent, half = points / baseline, 1.96 * error / baseline
    facts = {"run_id": "run_1", "model": MODEL, "deployed": False, "search": True, **more}
    return Past(
        baseline_score=baseline,
        optimized_score=baseline + points / 100,
        improvement_ci=(percent - half, percent + half),
        differences=tuple((f"test{n}", d) for n, d in enumerate(differences)),
        **facts,  # type: ignore[arg-type]
    )


def test_without_history_it_says_so_and_goes_by_the_tests_size() -> None:
    found = predict("task", examples(100), [], 5.0)
    assert (found.train, found.val, found.test, found.test_groups) == (20, 10, 100, 100)
    assert found.detectable_points == pytest.approx(detectable_points(100, ALPHA))
    assert found.detects is False, "even a perfect baseline's 5 % are 5 points"
    assert (found.runs, found.expected_points, found.chance, found.baseline_score) == (0, None, None, None)
    assert "no history" in line(found)
    assert "cannot tell a 5 % gain (at most 5.0 points)" in line(found)


def test_examples_of_a_group_count_as_one_until_measured() -> None:
    one, many = predict("task", examples(120), [], 5.0), predict("task", examples(120, 4), [], 5.0)
    assert many.test_groups == 30
    assert one.detectable_points is not None
    assert many.detectable_points == pytest.approx(2 * one.detectable_points)


def test_the_measured_spread_replaces_the_assumed_one_but_never_wholly() -> None:
    alike = predict("task", examples(100), [past(0.0, [0.0] * 100)], 5.0)
    assert alike.variance == pytest.approx(0.20 * 10 / 110), "programs that never differed are not certain to go on so"
    assert alike.discordance == 0.0
    noisy = predict("task", examples(100), [past(0.0, [1.0, -1.0] * 50)], 5.0)
    assert noisy.variance == pytest.approx((100 * 100 / 99 + 10 * 0.20) / 110)
    assert (noisy.discordance, noisy.variance_examples) == (1.0, 100)


def test_groups_that_move_together_widen_it() -> None:
    together = [1.0] * 4 + [-1.0] * 4
    grouped = predict("task", examples(80, 4), [past(0.0, together * 10)], 5.0)
    single = predict("task", examples(80), [past(0.0, together * 10)], 5.0)
    # Sums of 4 have 4 times the variance; the assumed part has it too.
    assert grouped.variance == pytest.approx(4 * single.variance, rel=0.05)


def test_a_large_quiet_test_can_tell_and_the_needed_examples_agree() -> None:
    history = [past(4.0, [0.0] * 900 + [0.5] * 90 + [-0.5] * 10, baseline=0.8, error=0.5)]
    found = predict("task", examples(1000), history, 5.0)
    assert found.wanted_points == pytest.approx(4.0)
    assert found.detects is True
    assert found.examples_needed <= 1000
    small = predict("task", examples(found.examples_needed - 1), history, 5.0)
    assert small.detects is False
    assert small.examples_needed == found.examples_needed
    assert f"about {small.examples_needed:,} would" in line(small)


def test_a_deployed_candidate_is_the_next_baseline() -> None:
    assert predict("task", examples(9), [past(20.0, deployed=True)], 5.0).baseline_score == pytest.approx(0.7)
    assert predict("task", examples(9), [past(20.0)], 5.0).baseline_score == pytest.approx(0.5)


def test_retests_and_other_models_are_no_improvements_to_expect() -> None:
    history = [past(30.0, model="other"), past(6.0), past(30.0, search=False)]
    assert predict("task", examples(50), history, 5.0, MODEL).past_points == (6.0,)
    assert predict("task", examples(50), history, 5.0, "a new one").past_points == (30.0, 6.0)


def test_nothing_to_test_on_is_told() -> None:
    found = predict("task", [], [past(5.0)], 5.0)
    assert found.detectable_points is None
    assert found.detects is False
    assert found.chance is None
    assert "no test examples" in line(found)
    assert len(list(table([found]))) == 4


def test_a_lucky_run_is_shrunk_and_several_that_agree_are_believed() -> None:
    once = forecast([(20.0, 10.0)])
    often = forecast([(20.0, 3.0)] * 8)
    assert 5 < once.mean < 12
    assert 18 < often.mean < 20
    low, high = once.interval()
    assert low < 0 < high
    assert often.interval()[0] > 5


def test_no_history_is_no_forecast() -> None:
    with pytest.raises(ValueError, match="no earlier improvement"):
        forecast([])


@given(st.lists(st.tuples(st.floats(-60, 60), st.floats(0, 30)), min_size=1, max_size=12))
def test_a_forecast_is_a_distribution(measured: list[tuple[float, float]]) -> None:
    found = forecast(measured)
    low, high = found.interval()
    assert sum(found.weights) == pytest.approx(1.0)
    assert low < found.mean < high
    assert 1 - found.reaches(low, 0.0) == pytest.approx(0.025, abs=1e-6)
    assert found.reaches(low, 0.0) >= found.reaches(high, 0.0)


def test_the_forecasts_interval_holds_what_it_says() -> None:
    """300 signatures drawn as the model believes they are: the next true improvement is inside 95 times of 100."""
    generator = np.random.default_rng(20261128)
    inside = 0
    for _ in range(300):
        mean, spread = generator.normal(0, MEAN_SD), abs(generator.normal(0, SPREAD_SCALE))
        runs = int(generator.integers(1, 7))
        true, errors = generator.normal(mean, spread, runs + 1), generator.uniform(1, 9, runs)
        measured = [(float(generator.normal(t, e)), float(e)) for t, e in zip(true[1:], errors, strict=True)]
        low, high = forecast(measured).interval()
        inside += low <= true[0] <= high
    # 3.1 standard errors on either side of 285.
    assert abs(inside - 285) <= 3.1 * math.sqrt(300 * 0.95 * 0.05)


def test_a_gain_of_the_size_that_is_told_is_found_four_times_of_five() -> None:
    """The promise held against the verdict's own rule: true gains of `detectable_points`, 100 tests of 60 examples."""
    generator = random.Random(5)
    size = detectable_points(60, ALPHA) / 100
    up, down = (0.20 + size**2 + size) / 2, (0.20 + size**2 - size) / 2
    found = 0
    for seed in range(100):
        draws = [generator.random() for _ in range(60)]
        pairs = [(0.0, 1.0) if d < up else (1.0, 0.0) if d < up + down else (1.0, 1.0) for d in draws]
        compared = compare([Item(f"g{n}", "git", *pair) for n, pair in enumerate(pairs)], seed, ALPHA)
        found += judge(compared, Rule(0.0)).verdict == "deploy"
    # 80 of 100; 3.1 standard errors are 12.4.
    assert abs(found - 80) <= 12


def test_the_chance_to_deploy_is_what_happens() -> None:
    """A history that leaves no doubt of the gain: then the chance is the power of the verdict's rule."""
    history = [past(12.0, [0.0] * 60 + [1.0] * 24 + [-1.0] * 12, error=0.5)] * 40
    found = predict("task", examples(96), history, 5.0)
    assert found.chance is not None
    assert found.expected_points is not None
    generator = random.Random(3)
    deployed = 0
    for seed in range(80):
        gain = generator.gauss(12.0, 1.0) / 100
        up, down = (0.375 + gain) / 2, (0.375 - gain) / 2
        draws = [generator.random() for _ in range(96)]
        pairs = [(0.0, 1.0) if d < up else (1.0, 0.0) if d < up + down else (0.5, 0.5) for d in draws]
        compared = compare([Item(f"g{n}", "git", *pair) for n, pair in enumerate(pairs)], seed, ALPHA)
        deployed += judge(compared, Rule(5.0)).verdict == "deploy"
    assert found.chance == pytest.approx(deployed / 80, abs=0.17)
