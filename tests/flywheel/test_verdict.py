from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.learning.verdict import (
    DEPLOY,
    INCONCLUSIVE,
    REJECT,
    Item,
    Rule,
    compare,
    detectable_points,
    judge,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


def items(pairs: Sequence[tuple[float | None, float | None]], source: str = "git", group: str = "") -> list[Item]:
    return [Item(group or f"g{n}", source, before, after) for n, (before, after) in enumerate(pairs)]


def test_a_clear_gain_is_deployed_with_its_figures() -> None:
    found = compare(items([(0.0, 1.0)] * 20 + [(1.0, 1.0)] * 30))
    assert found.baseline_score == pytest.approx(0.6)
    assert found.optimized_score == pytest.approx(1.0)
    assert found.improvement_percent == pytest.approx(100 * 0.4 / 0.6)
    low, high = found.improvement_ci
    assert 0 < low < found.improvement_percent < high
    # Half-width of a paired difference at 40 % discordance, n = 50: 1.96 * sqrt(.24/50) = 13.6 points = 22.6 %.
    assert (high - low) / 2 == pytest.approx(100 * 0.136 / 0.6, rel=0.1)
    assert found.p_value < 0.001
    verdict = judge(found, Rule())
    assert verdict.verdict == DEPLOY
    assert "+66.7 %" in verdict.reason


def test_a_worse_candidate_is_rejected() -> None:
    verdict = judge(compare(items([(1.0, 0.0)] * 5 + [(1.0, 1.0)] * 20)), Rule())
    assert verdict.verdict == REJECT
    assert "not better" in verdict.reason


def test_an_unchanged_candidate_is_rejected() -> None:
    assert judge(compare(items([(0.5, 0.5)] * 30)), Rule()).verdict == REJECT


def test_a_small_sure_gain_below_the_minimum_is_rejected() -> None:
    verdict = judge(compare(items([(0.50, 0.505)] * 60)), Rule(min_improvement=5.0))
    assert verdict.verdict == REJECT
    assert "less than 5 %" in verdict.reason


def test_a_gain_on_few_examples_is_inconclusive_and_says_how_many_would_do() -> None:
    found = compare(items([(0.0, 1.0)] * 4 + [(1.0, 0.0)] * 2 + [(1.0, 1.0)] * 14))
    verdict = judge(found, Rule())
    assert verdict.verdict == INCONCLUSIVE
    assert verdict.examples_needed is not None
    assert verdict.examples_needed > found.n_test
    assert str(verdict.examples_needed) in verdict.reason


def test_the_point_rule_looks_at_the_bare_threshold() -> None:
    found = compare(items([(0.0, 1.0)] * 4 + [(1.0, 0.0)] * 2 + [(1.0, 1.0)] * 14))
    assert judge(found, Rule(point=True)).verdict == DEPLOY
    assert judge(found, Rule(point=True, min_improvement=99.0)).verdict == REJECT


def test_a_zero_baseline_compares_in_points() -> None:
    found = compare(items([(0.0, 0.5)] * 40))
    assert found.improvement_percent == pytest.approx(50.0)


def test_failed_items_are_counted_and_not_scored() -> None:
    found = compare(items([(0.5, 0.9)] * 18 + [(None, 0.9), (0.5, None)]))
    assert (found.n_test, found.n_failed) == (20, 2)
    assert found.baseline_score == pytest.approx(0.5)
    assert found.optimized_score == pytest.approx(0.9)


def test_below_80_percent_coverage_there_is_no_verdict() -> None:
    verdict = judge(compare(items([(0.0, 1.0)] * 15 + [(None, 1.0)] * 5)), Rule())
    assert verdict.verdict is None
    assert "15 of 20" in verdict.reason


def test_nothing_answered_is_an_error() -> None:
    with pytest.raises(ValueError, match="no test example"):
        compare(items([(None, None)]))


def test_a_mostly_synthetic_test_does_not_deploy_unless_allowed() -> None:
    found = compare(items([(0.0, 1.0)] * 30, source="synthetic"))
    held = judge(found, Rule())
    assert held.verdict == INCONCLUSIVE
    assert "--allow-synthetic-test" in held.reason
    allowed = judge(found, Rule(allow_synthetic_test=True))
    assert allowed.verdict == DEPLOY
    assert "100% of the test examples are synthetic" in allowed.reason


def test_examples_of_one_group_count_as_one_observation() -> None:
    alone = compare(items([(0.0, 1.0)] * 6 + [(1.0, 0.0)] * 2))
    together = compare([Item("one", "git", 0.0, 1.0)] * 6 + [Item("two", "git", 1.0, 0.0)] * 2)
    assert together.n_groups == 2
    assert together.improvement_ci[0] < alone.improvement_ci[0]
    assert together.p_value > alone.p_value


def test_equal_seeds_give_equal_figures() -> None:
    pairs = [(random.Random(n).random(), random.Random(-n).random()) for n in range(40)]
    assert compare(items(pairs), seed=3) == compare(items(pairs), seed=3)


def test_what_can_be_detected_shrinks_with_the_root_of_the_test() -> None:
    # z(.975) + z(.80) = 2.80; 2.80 * sqrt(.20/50) = 17.7 points.
    assert detectable_points(50) == pytest.approx(17.7, abs=0.05)
    assert detectable_points(200) == pytest.approx(detectable_points(50) / 2)
    assert detectable_points(0) == float("inf")


def test_equally_good_programs_are_seldom_deployed() -> None:
    generator = random.Random(0)
    deployed = 0
    for seed in range(100):
        pairs = [(float(generator.random() < 0.5), float(generator.random() < 0.5)) for _ in range(40)]
        deployed += judge(compare(items(pairs), seed), Rule()).verdict == DEPLOY
    # One-sided 2.5 %: 8 or more of 100 has a chance of 0.3 %.
    assert deployed <= 7


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=30),
    st.integers(0, 5),
    st.randoms(use_true_random=False),
)
@settings(max_examples=40, deadline=None)
def test_order_does_not_matter_and_the_verdict_follows_the_rule(
    pairs: list[tuple[float, float]], seed: int, shuffler: random.Random
) -> None:
    listed = items(pairs)
    shuffled = listed[:]
    shuffler.shuffle(shuffled)
    found, again = compare(listed, seed), compare(shuffled, seed)
    assert found.improvement_ci == pytest.approx(again.improvement_ci)
    assert found.p_value == again.p_value
    verdict = judge(found, Rule()).verdict
    low, high = found.improvement_ci
    assert low <= high
    if verdict == DEPLOY:
        assert found.improvement_percent >= 5
        assert low > 0
        assert found.p_value <= 0.025
    if verdict == INCONCLUSIVE:
        assert found.improvement_percent > 0
        assert high >= 5


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=20))
@settings(max_examples=30, deadline=None)
def test_swapping_the_programs_turns_the_difference_round(pairs: list[tuple[float, float]]) -> None:
    forth = compare(items(pairs))
    back = compare(items([(after, before) for before, after in pairs]))
    assert forth.optimized_score - forth.baseline_score == pytest.approx(back.baseline_score - back.optimized_score)
    # Every arrangement of signs is as extreme as the observed one, or less, in one direction or the other.
    assert forth.p_value + back.p_value >= 1 - 0.05


def test_a_share_of_the_error_rate_asks_for_more_evidence() -> None:
    pairs = items([(0.0, 1.0)] * 23 + [(1.0, 0.0)] * 10 + [(1.0, 1.0)] * 67)
    whole, share = compare(pairs), compare(pairs, alpha=0.0125)
    assert share.improvement_ci == whole.improvement_ci == whole.decision_ci
    assert share.decision_ci[0] < whole.decision_ci[0] < whole.decision_ci[1] < share.decision_ci[1]
    assert share.minimum_detectable_percent > whole.minimum_detectable_percent
    assert judge(whole, Rule()).verdict == "deploy"
    verdict = judge(share, Rule())
    assert verdict.verdict == "inconclusive"
    assert "98.75% sure" in verdict.reason
    assert detectable_points(50, 0.0125) == pytest.approx(21.1, abs=0.05)
