from __future__ import annotations

import ast
import json
import math
import sys
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.base.errors import BadInputError, DamagedError
from flywheel.serving import evalues
from flywheel.serving.arms import ArmTick
from flywheel.serving.cutoffs import WARMUP_CALLS, freeze_cutoffs
from flywheel.serving.evidence import Evidence, add_tick, current
from flywheel.serving.figures import figures
from flywheel.serving.gaps import (
    METRICS_MISSING,
    NO_CUTOFFS,
    NO_QUALITY,
    SAMPLE_RATIO_MISMATCH,
    TOO_FEW_CALLS,
    TOO_YOUNG,
)
from flywheel.serving.noninferiority import agresti_caffo_upper, mean, mean_lower, variance, welch_upper
from flywheel.serving.rule import ERRORS, LATENCY, METRICS, QUALITY, RolloutConfig
from flywheel.serving.sequential import Decision, decide, decide_point
from flywheel.serving.stages import begin_round, begin_stage

CONFIG = RolloutConfig(required=METRICS)
WITHOUT_QUALITY = RolloutConfig()
CUTOFFS = (1500.0, 3600.0, 6300.0)
ONE = pytest.approx(1, abs=1e-9)


def arm(
    calls: int, errors: int = 0, latency: float = 1000, slow: tuple[int, int, int] = (0, 0, 0), **more: Any
) -> ArmTick:
    """Calls whose latencies are all alike and whose scores, unless given, are .85 and .75 in turn."""
    timed = calls - errors
    scores = more.pop("scores", tuple(0.85 if i % 2 else 0.75 for i in range(timed)))
    return ArmTick(calls, errors, timed, timed * latency, timed * latency**2, slow, 0, scores, **more)


def run(config: RolloutConfig, ticks: list[tuple[ArmTick, ArmTick]], start: Evidence | None = None) -> Evidence:
    evidence = start or Evidence(cutoffs=CUTOFFS)
    for candidate, baseline in ticks:
        evidence = add_tick(config, evidence, candidate, baseline, evidence.elapsed_minutes + 1)
    return evidence


def healthy(minutes: int = 60) -> list[tuple[ArmTick, ArmTick]]:
    """Ten and ninety calls a minute, 10 % of the baseline's and of the candidate's failing."""
    return [(arm(10, 1), arm(90, 9))] * minutes


def decided(config: RolloutConfig, ticks: list[tuple[ArmTick, ArmTick]]) -> Decision:
    return decide(config, run(config, ticks))


# --- e-processes: expectation 1 under the null, by enumerating every outcome ---


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.75])
def test_event_ratios_have_expectation_one(share: float) -> None:
    for events in range(6):
        weights = [math.comb(events, k) * share**k * (1 - share) ** (events - k) for k in range(events + 1)]
        grids = [evalues.event_logs(k, events - k, share) for k in range(events + 1)]
        for logs in zip(*grids, strict=True):
            assert sum(w * math.exp(log) for w, log in zip(weights, logs, strict=True)) == ONE


@pytest.mark.parametrize("share", [0.1, 0.5, 0.75])
@pytest.mark.parametrize("tail", [0.5, 0.1, 0.02])
@pytest.mark.parametrize("slow_rate", [0.0, 0.3, 1.0])
def test_odds_ratios_have_expectation_one_whatever_the_true_tail(share: float, tail: float, slow_rate: float) -> None:
    calls = 3
    totals = [0.0] * len(evalues.RATIOS)
    for outcome in product(product((True, False), repeat=2), repeat=calls):
        weight = math.prod(
            (share if own else 1 - share) * (slow_rate if slow else 1 - slow_rate) for own, slow in outcome
        )
        own = [slow for mine, slow in outcome if mine]
        other = [slow for mine, slow in outcome if not mine]
        logs = evalues.odds_logs((sum(own), len(own)), (sum(other), len(other)), share, tail)
        totals = [total + weight * math.exp(log) for total, log in zip(totals, logs, strict=True)]
    assert totals == [ONE] * len(totals)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.75])
@pytest.mark.parametrize(
    ("base", "excess"), [(0.0, 0.0), (0.2, 0.0), (0.2, 0.05), (0.9, 0.05), (1.0, 0.0), (0.5, -0.3)]
)
def test_excess_bets_have_expectation_at_most_one_up_to_the_margin(share: float, base: float, excess: float) -> None:
    margin = 0.05
    chances = (share * (base + excess), (1 - share) * base)
    quiet = 1 - sum(chances)
    grids = [evalues.excess_logs(*counts, 1, share, margin) for counts in ((1, 0), (0, 1), (0, 0))]
    for logs in zip(*grids, strict=True):
        expectation = sum(w * math.exp(log) for w, log in zip((*chances, quiet), logs, strict=True))
        assert expectation <= 1 + 1e-12
        if excess == margin:
            assert expectation == ONE


def test_below_mean_bets_are_fair_at_the_threshold_and_lose_above_it() -> None:
    for low, high, chance in ((0.0, 1.0, 0.7), (0.5, 0.8, 2 / 3), (0.7, 0.7, 0.5)):
        grids = [evalues.below_mean_logs(scores, 0.7) for scores in product((low, high), repeat=3)]
        weights = [
            math.prod(chance if score == high else 1 - chance for score in scores)
            for scores in product((low, high), repeat=3)
        ]
        if low == high:
            weights = [1 / 8] * 8
        for logs in zip(*grids, strict=True):
            assert sum(w * math.exp(log) for w, log in zip(weights, logs, strict=True)) == ONE
    assert max(evalues.below_mean_logs([0.71] * 50, 0.7)) < 0


@pytest.mark.parametrize("scores", [(0.1, 0.9, 0.4), (0.9, 0.5, 0.2, 0.1), (1.0, 0.0, 0.0, 1.0, 0.3)])
def test_below_baseline_bets_are_fair_over_all_labellings_whatever_the_trend(scores: tuple[float, ...]) -> None:
    """Exact where one arm has one score; on average over the dealing where both have several."""
    for size in range(1, len(scores)):
        labellings = list(combinations(range(len(scores)), size))
        single = min(size, len(scores) - size) == 1
        seeds = range(1) if single else range(400)
        total = [0.0] * len(evalues.STAKES)
        for chosen, seed in product(labellings, seeds):
            own = [scores[i] for i in chosen]
            other = [scores[i] for i in range(len(scores)) if i not in chosen]
            logs = evalues.below_baseline_logs(own, other, seed)
            total = [a + math.exp(log) / len(labellings) / len(seeds) for a, log in zip(total, logs, strict=True)]
        assert total == [pytest.approx(1, abs=1e-9 if single else 0.02)] * len(total)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_sample_ratio_mixture_has_expectation_one(share: float) -> None:
    calls = 12
    total = sum(
        math.comb(calls, k) * share**k * (1 - share) ** (calls - k) * math.exp(evalues.share_log(k, calls - k, share))
        for k in range(calls + 1)
    )
    assert total == ONE


def test_mixture_over_starts_has_expectation_one_across_stages() -> None:
    """Two stages of three errors each, at 10 % and at 50 %, of four planned."""
    first_share, second_share, events = 0.1, 0.5, 3
    total = 0.0
    for first, second in product(range(events + 1), repeat=2):
        weight = math.prod(
            math.comb(events, k) * share**k * (1 - share) ** (events - k)
            for k, share in ((first, first_share), (second, second_share))
        )
        carried = evalues.carry(evalues.zeros(7), evalues.event_logs(first, events - first, first_share))
        now = evalues.event_logs(second, events - second, second_share)
        total += weight * math.exp(evalues.mixed_log(carried, now, 2, 4))
    assert total == ONE


def test_mixture_is_the_mean_over_starts_written_out() -> None:
    first, second = evalues.event_logs(5, 3, 0.1), evalues.event_logs(9, 4, 0.5)
    starts = [sum(math.exp(a + b) for a, b in zip(first, second, strict=True)), sum(map(math.exp, second))]
    expected = (sum(starts) / len(first) + 2) / 4
    mixed = evalues.mixed_log(evalues.carry(evalues.zeros(7), first), second, 2, 4)
    assert math.exp(mixed) == pytest.approx(expected)


def test_huge_and_tiny_evidence_stays_finite() -> None:
    zeros = evalues.zeros(2)
    assert evalues.mixed_log(zeros, (5000.0, 4000.0), 1, 4) == pytest.approx(5000 - math.log(8))
    assert math.isfinite(evalues.mixed_log(zeros, (-5000.0, -4000.0), 4, 4))
    assert math.isfinite(evalues.e_value(1e6))
    assert all(math.isfinite(log) for log in evalues.carry((800.0, -800.0), (900.0, -900.0)))
    assert all(math.isfinite(log) for log in evalues.below_mean_logs([0.0] * 100_000, 0.99))


@given(st.integers(0, 300), st.integers(0, 3000), st.sampled_from([0.1, 0.25, 0.5, 0.75]))
def test_one_more_error_on_the_candidate_strengthens_every_bet(candidate: int, baseline: int, share: float) -> None:
    calls = candidate + baseline + 10
    fewer, more = evalues.event_logs(candidate, baseline, share), evalues.event_logs(candidate + 1, baseline, share)
    assert all(a > b for a, b in zip(more, fewer, strict=True))
    fewer = evalues.excess_logs(candidate, baseline, calls, share, 0.05)
    more = evalues.excess_logs(candidate + 1, baseline, calls, share, 0.05)
    assert all(a > b for a, b in zip(more, fewer, strict=True))


@given(st.lists(st.floats(0, 1), max_size=80), st.lists(st.floats(0, 1), max_size=80))
def test_swapping_labels_turns_evidence_round(candidate: list[float], baseline: list[float]) -> None:
    """A bet that wins one way loses the other: (1 + x)(1 - x) <= 1."""
    one = evalues.below_baseline_logs(candidate, baseline, 3)
    other = evalues.below_baseline_logs(baseline, candidate, 3)
    if min(len(candidate), len(baseline)) == 1:
        assert all(a + b <= 1e-9 for a, b in zip(one, other, strict=True))
    assert one == evalues.below_baseline_logs(candidate, baseline, 3)


def test_swapped_arms_accuse_only_the_worse() -> None:
    config = RolloutConfig(stages=(50, 100), required=METRICS)
    bad, good = arm(50, 20, scores=(0.3,) * 30), arm(50, 2, scores=(0.9,) * 48)
    forward, backward = decided(config, [(bad, good)] * 10), decided(config, [(good, bad)] * 10)
    assert forward.action == "rollback"
    assert backward.action == "hold"
    assert max(backward.figures.e_errors, backward.figures.e_emergency, backward.figures.e_quality_delta) < 1


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 20)), min_size=1, max_size=12))
def test_ticks_add_up_to_one_batch(counts: list[tuple[int, int]]) -> None:
    """Counters and the bets on them do not care how calls are cut into ticks."""
    ticks = [(arm(own, own // 3), arm(other, other // 4)) for own, other in counts]
    in_ticks = run(CONFIG, ticks)
    scores = [tuple(score for pair in ticks for score in pair[i].scores) for i in range(2)]
    whole = [arm(sum(t[i].calls for t in ticks), sum(t[i].errors for t in ticks), scores=scores[i]) for i in range(2)]
    at_once = run(CONFIG, [(whole[0], whole[1])])
    one, other = current(CONFIG, in_ticks), current(CONFIG, at_once)
    for name in ("errors", "emergency", "latency", "quality"):
        assert getattr(one, name) == pytest.approx(getattr(other, name))
    assert (in_ticks.candidate.drawn, in_ticks.baseline.drawn) == (at_once.candidate.calls, at_once.baseline.calls)
    assert in_ticks.candidate.score_sum == pytest.approx(at_once.candidate.score_sum)


# --- bounds ---


def test_bounds_by_hand() -> None:
    spread = math.sqrt(6 / 102 * 96 / 102 / 102 + 46 / 902 * 856 / 902 / 902)
    assert agresti_caffo_upper((5, 100), (45, 900)) == pytest.approx(6 / 102 - 46 / 902 + 1.6448536 * spread)
    # t quantile for 18 degrees of freedom: 1.7341
    assert welch_upper((100, 1090, 10), (90, 900, 10)) == pytest.approx(1 + 1.7341 * math.sqrt(2 * 10 / 10), abs=2e-3)
    assert mean_lower(80, 64.5, 100) == pytest.approx(0.8 - 1.6448536 * math.sqrt(0.5 / 99 / 100))


def test_bounds_say_nothing_of_no_data() -> None:
    assert mean(0, 0) is None
    assert agresti_caffo_upper((0, 0), (0, 10)) is None
    assert welch_upper((1, 1, 1), (5, 9, 5)) is None
    assert mean_lower(1, 1, 1) is None
    assert variance(3, 3, 3) == 0
    assert welch_upper((30, 300, 3), (15, 75, 3)) == 5


# --- decisions ---


def test_a_healthy_candidate_is_promoted_when_its_stage_is_over() -> None:
    young, grown = decided(CONFIG, healthy(59)), decided(CONFIG, healthy(60))
    assert (young.action, young.reasons) == ("hold", (TOO_YOUNG,))
    assert (grown.action, grown.next_percent) == ("promote", 25)
    assert json.loads(json.dumps(grown.figures.e_bound)) == 400


def test_few_calls_hold() -> None:
    decision = decided(CONFIG, [(arm(1), arm(9))] * 99)
    assert decision.action == "hold"
    assert TOO_FEW_CALLS in decision.reasons
    assert "99 of 100" in decision.text


def test_few_baseline_calls_hold() -> None:
    config = RolloutConfig(stages=(75, 100))
    for calls in (29, 30):
        evidence = run(config, [(arm(75), arm(calls, calls // 2)), *[(arm(2), ArmTick())] * 59])
        assert decide(config, evidence).action == "hold"
        assert (TOO_FEW_CALLS in decide(config, evidence).reasons) == (calls == 29)


def test_few_baseline_scores_are_no_quality_evidence() -> None:
    decision = decided(
        CONFIG, [(arm(10, 1), arm(90, 9, scores=(0.8,) * 8)), *[(arm(10, 1), arm(90, 9, scores=()))] * 59]
    )
    assert decision.action == "hold"
    assert NO_QUALITY in decision.reasons


def test_the_last_stage_promotes_to_all_or_ends_the_rollout() -> None:
    config = RolloutConfig(stages=(50, 100))
    assert decided(config, [(arm(50), arm(50))] * 60).next_percent == 100
    holdback = RolloutConfig(stages=(95,))
    decision = decided(holdback, [(arm(95), arm(5))] * 60)
    assert (decision.action, decision.next_percent) == ("promote", None)


def test_rollback_on_errors_has_evidence_and_the_exact_reason() -> None:
    decision = decided(CONFIG, [(arm(10, 3), arm(90, 9))] * 30)
    assert (decision.action, decision.reason) == ("rollback", "error_rate_delta > 0.05")
    assert decision.figures.error_rate_delta == pytest.approx(0.2)
    assert "30.0 % against 10.0 %" in decision.text


def test_an_error_difference_without_evidence_is_no_rollback() -> None:
    ticks = [(arm(10, 1), arm(90, 3))] * 10
    assert decide_point(CONFIG, run(CONFIG, ticks)).reason == "error_rate_delta > 0.05"
    assert decided(CONFIG, ticks).action == "hold"


def test_exactly_the_threshold_is_not_past_it() -> None:
    ticks = [(arm(20, 2), arm(180, 9))] * 100
    decision = decided(CONFIG, ticks)
    assert decision.figures.error_rate_delta == pytest.approx(0.05)
    exact = RolloutConfig(error_rate_delta=decision.figures.error_rate_delta or 0)
    assert decided(exact, ticks).action == "hold"
    assert decide_point(exact, run(exact, ticks)).action != "rollback"


def test_a_dead_candidate_is_rolled_back_before_the_hundredth_call() -> None:
    ticks = [(arm(1, 1), arm(9))]
    calls = next(n for n in range(1, 20) if decided(CONFIG, ticks * n).action == "rollback")
    assert calls <= 10


def test_rollback_on_latency() -> None:
    slow, usual = arm(10, 0, 2200, (9, 3, 1)), arm(90, 0, 1500, (45, 9, 2))
    decision = decided(CONFIG, [(slow, usual)] * 30)
    assert (decision.action, decision.reason) == ("rollback", "latency_delta_ms > 500")
    without = replace(WITHOUT_QUALITY, required=(ERRORS,))
    assert decided(without, [(slow, usual)] * 30).action == "hold"


def test_rollback_on_quality_needs_the_baseline_to_be_better() -> None:
    low = (0.6, 0.65) * 5
    decision = decided(CONFIG, [(arm(10, scores=low), arm(90))] * 40)
    assert (decision.action, decision.reason) == ("rollback", "quality_score < 0.70")
    both = decided(CONFIG, [(arm(10, scores=low), arm(90, scores=low * 9))] * 100)
    assert both.action == "hold"
    assert both.figures.e_quality > both.figures.e_bound
    assert "baseline quality below 0.70" in both.reasons


def test_all_reasons_are_told_the_first_is_recorded() -> None:
    bad = arm(10, 5, 3000, (5, 5, 5), scores=(0.1,) * 5)
    decision = decided(CONFIG, [(bad, arm(90, 9))] * 40)
    assert decision.reasons == ("error_rate_delta > 0.05", "latency_delta_ms > 500", "quality_score < 0.70")


def test_thresholds_of_the_config_are_in_the_reasons() -> None:
    config = replace(CONFIG, error_rate_delta=0.125, latency_delta_ms=250.0, quality_score=0.8)
    bad = arm(10, 5, 3000, (5, 5, 5), scores=(0.1,) * 5)
    decision = decided(config, [(bad, arm(90, 9))] * 40)
    assert decision.reasons == ("error_rate_delta > 0.125", "latency_delta_ms > 250", "quality_score < 0.80")


def test_without_quality_every_decision_says_so() -> None:
    for ticks in (healthy(1), healthy(60), [(arm(10, 10), arm(90))] * 9, []):
        decision = decided(WITHOUT_QUALITY, ticks)
        assert decision.notes == (NO_QUALITY,)
        assert NO_QUALITY in decision.text
        assert decide_point(WITHOUT_QUALITY, run(WITHOUT_QUALITY, ticks)).notes == (NO_QUALITY,)


def test_too_few_scores_are_no_quality_evidence() -> None:
    ticks = [(arm(10, scores=(0.8,) if i % 3 == 0 else ()), arm(90)) for i in range(60)]
    decision = decided(CONFIG, ticks)
    assert (decision.action, decision.reason) == ("hold", NO_QUALITY)


def test_sample_ratio_mismatch_holds() -> None:
    decision = decided(CONFIG, [(arm(20, 2), arm(80, 8))] * 60)
    assert (decision.action, decision.reasons) == ("hold", (SAMPLE_RATIO_MISMATCH,))
    assert "1200 of 6000 times at 10 %" in decision.text


def test_the_sample_ratio_is_that_of_units_where_they_are_known() -> None:
    """Nine busy units make a fifth of the calls, and are a tenth of the units."""
    busy = [(arm(20, 2, drawn=min(9, n)), arm(80, 8, drawn=min(81, 9 * n))) for n in range(1, 61)]
    assert decided(CONFIG, busy).action == "promote"
    few = [(arm(10, 1, drawn=min(n, 100)), arm(90, 9, drawn=500)) for n in range(1, 61)]
    assert decided(CONFIG, few).action == "promote"
    skewed = [(arm(10, 1, drawn=100), arm(90, 9, drawn=300))] * 60
    decision = decided(CONFIG, skewed)
    assert (decision.action, decision.reasons) == ("hold", (SAMPLE_RATIO_MISMATCH,))
    assert (decision.figures.candidate_drawn, decision.figures.baseline_drawn) == (100, 300)


@pytest.mark.parametrize(
    ("calls", "units", "others", "told"),
    [(100, 20, 180, True), (99, 20, 180, False), (100, 99, 900, True), (100, 100, 900, False), (200, 50, 4950, False)],
)
def test_calls_of_few_units_are_told(calls: int, units: int, others: int, told: bool) -> None:  # noqa: FBT001
    """Not where there are as many as calls must be, nor where the rest of many is not counted."""
    ticks = [(arm(calls, calls // 10, drawn=units), arm(900, 90, drawn=others))]
    for decision in (decided(CONFIG, ticks), decide_point(CONFIG, run(CONFIG, ticks))):
        assert decision.notes == ((f"the candidate's calls are of {units} units alone",) if told else ())
        assert decision.text.endswith("alone") == told
    assert not any("units" in note for note in decided(CONFIG, healthy()).notes)


def test_a_stage_asks_anew_whether_routing_draws_its_share() -> None:
    """Units stay where they are, so that one stage's luck is found again in the next and must not count twice."""
    unlucky = run(CONFIG, [(arm(10, 1, drawn=40), arm(90, 9, drawn=200))] * 60)
    assert figures(CONFIG, unlucky).e_sample_ratio > 1
    after = begin_stage(CONFIG, unlucky, 1)
    assert figures(CONFIG, after).e_sample_ratio == pytest.approx(1 / CONFIG.guarded_stages)
    assert (after.candidate.drawn, after.baseline.drawn) == (0, 0)


def test_unfrozen_cutoffs_hold() -> None:
    evidence = run(CONFIG, healthy(), Evidence())
    assert decide(CONFIG, evidence).reasons == (NO_CUTOFFS,)


def test_undecided_at_the_deadline_is_inconclusive() -> None:
    ticks = [(arm(10, 1), arm(90, 5))] * 369
    assert decided(CONFIG, ticks[:-1]).action != "inconclusive"
    config = replace(CONFIG, error_rate_delta=0.045)
    evidence = run(config, ticks)
    assert evidence.enough_at == 10
    assert decide(config, evidence).action == "hold"
    decision = decide(config, run(config, ticks[:1], evidence))
    assert decision.action == "inconclusive"
    assert decision.figures.deadline_minutes == 370


def test_slow_traffic_has_until_the_cap() -> None:
    config = replace(CONFIG, tick_seconds=3600.0)
    evidence = Evidence(cutoffs=CUTOFFS)
    for hour in range(1, 14 * 24 + 1):
        assert decide(config, evidence).action == "hold"
        evidence = add_tick(config, evidence, arm(int(hour % 4 == 0)), arm(2), hour * 60.0)
    assert decide(config, evidence).action == "inconclusive"


def test_no_records_at_all_roll_back_at_the_deadline() -> None:
    evidence = Evidence(cutoffs=CUTOFFS)
    for minute in range(1, 360):
        evidence = add_tick(CONFIG, evidence, ArmTick(), ArmTick(), float(minute))
    held = decide(CONFIG, evidence)
    assert (held.action, held.reason) == ("hold", METRICS_MISSING)
    decision = decide(CONFIG, add_tick(CONFIG, evidence, ArmTick(), ArmTick(), 360.0))
    assert (decision.action, decision.reason) == ("rollback", METRICS_MISSING)
    assert decide_point(CONFIG, evidence).reason == METRICS_MISSING


@pytest.mark.parametrize("silent", ["candidate", "baseline"])
def test_stale_metrics_hold_then_roll_back(silent: str) -> None:
    pairs = {"candidate": (ArmTick(), arm(90, 9)), "baseline": (arm(10, 1), ArmTick())}
    evidence = run(CONFIG, [*healthy(40), *[pairs[silent]] * 25])
    decision = decide(CONFIG, evidence)
    assert (decision.action, decision.reason) == ("hold", METRICS_MISSING)
    assert f"{silent}: no records for 25 min" in decision.text
    late = decide(CONFIG, run(CONFIG, [pairs[silent]] * 310, evidence))
    assert (late.action, late.reason) == ("rollback", METRICS_MISSING)


def test_silence_before_the_hundredth_call_does_not_wait_for_the_cap() -> None:
    evidence = run(CONFIG, [*[(arm(1), arm(9))] * 50, *[(ArmTick(), arm(9))] * 359])
    assert decide(CONFIG, evidence).action == "hold"
    decision = decide(CONFIG, run(CONFIG, [(ArmTick(), arm(9))], evidence))
    assert (decision.action, decision.reason) == ("rollback", METRICS_MISSING)
    back = decide(CONFIG, run(CONFIG, [(arm(1), arm(9))], evidence))
    assert back.action == "hold"


def test_missing_scores_hold_though_calls_go_on() -> None:
    evidence = run(CONFIG, [*healthy(40), *[(arm(10, 1, scores=()), arm(90, 9))] * 25])
    decision = decide(CONFIG, evidence)
    assert (decision.action, decision.reason) == ("hold", METRICS_MISSING)
    assert "candidate: no quality scores for 25 min" in decision.text


def test_unusable_records_hold() -> None:
    evidence = run(CONFIG, [(replace(arm(10, 1), invalid=1), arm(90, 9))] * 60)
    assert decide(CONFIG, evidence).reasons == (METRICS_MISSING,)


BAD_TICKS = [
    {"calls": -1},
    {"calls": 10.0},
    {"calls": True},
    {"calls": math.nan},
    {"errors": 11},
    {"errors": -1},
    {"errors": None},
    {"timed": 11},
    {"timed": 2},
    {"latency_sum_ms": math.nan},
    {"latency_sum_ms": -5.0},
    {"latency_sum_ms": math.inf},
    {"latency_sum_ms": None},
    {"latency_squares": math.nan},
    {"latency_squares": 1.0},
    {"latency_squares": 1e12},
    {"slow": (1, 2, 0)},
    {"slow": (10, 0, 0)},
    {"slow": (0, 0)},
    {"invalid": -1},
    {"scores": (math.nan,)},
    {"scores": (1.0001,)},
    {"scores": ("0.9",)},
    {"scores": (0.9,) * 11},
]


@pytest.mark.parametrize("change", BAD_TICKS, ids=str)
@pytest.mark.parametrize("side", ["candidate", "baseline"])
def test_an_unusable_tick_counts_for_nothing_and_holds(change: dict[str, Any], side: str) -> None:
    before = run(CONFIG, healthy(100))
    bad = replace(arm(10, 1), **change)
    pair = (bad, arm(10, 1)) if side == "candidate" else (arm(10, 1), bad)
    after = run(CONFIG, [pair], before)
    assert (after.candidate, after.baseline, after.bad_ticks) == (before.candidate, before.baseline, 1)
    assert after.last_problem is not None
    assert after.last_problem.startswith(side)
    decision = decide(CONFIG, after)
    assert (decision.action, decision.reasons) == ("hold", (METRICS_MISSING,))
    assert decide_point(CONFIG, after).action == "hold"


def test_after_an_unusable_tick_a_whole_stage_time_must_be_sound() -> None:
    broken = run(CONFIG, [(replace(arm(10, 1), errors=11), arm(90, 9))], run(CONFIG, healthy(40)))
    assert decide(CONFIG, run(CONFIG, healthy(59), broken)).reasons == (METRICS_MISSING,)
    assert decide(CONFIG, run(CONFIG, healthy(60), broken)).action == "promote"


@pytest.mark.parametrize("clock", [math.nan, math.inf, -1.0, 99.5, None])
def test_a_clock_that_jumps_back_or_is_broken_holds(clock: Any) -> None:
    evidence = run(CONFIG, healthy(100))
    after = add_tick(CONFIG, evidence, arm(10, 1), arm(90, 9), clock)
    assert after.elapsed_minutes == 100
    assert decide(CONFIG, after).reasons == (METRICS_MISSING,)


any_number = st.one_of(
    st.integers(-3, 20), st.floats(allow_nan=True, allow_infinity=True), st.sampled_from([math.nan, None, "3", True])
)
any_clock = st.one_of(st.integers(71, 90), any_number)
any_arm = st.builds(
    ArmTick,
    any_number,
    any_number,
    any_number,
    any_number,
    any_number,
    st.tuples(any_number, any_number, any_number),
    any_number,
    st.lists(any_number, max_size=3).map(tuple),
    any_number,
)


GROWN = run(CONFIG, healthy(70))


@settings(max_examples=200)
@given(st.lists(st.tuples(any_arm, any_arm, any_clock), min_size=1, max_size=4))
def test_noise_for_metrics_never_promotes_nor_raises(ticks: list[tuple[ArmTick, ArmTick, Any]]) -> None:
    evidence = GROWN
    for candidate, baseline, clock in ticks:
        evidence = add_tick(CONFIG, evidence, candidate, baseline, clock)
        if evidence.last_problem is not None:
            # A clock past the deadline rolls back.
            assert decide(CONFIG, evidence).action in {"hold", "rollback"}
            assert decide_point(CONFIG, evidence).action in {"hold", "rollback"}
        json.dumps(evidence.to_object(), allow_nan=False)


# --- stages and state ---


def test_a_new_stage_starts_afresh_and_remembers_the_evidence() -> None:
    first = run(CONFIG, [(arm(10, 2), arm(90, 9))] * 20)
    second = begin_stage(CONFIG, first, 1)
    assert (second.stage, second.begun, second.elapsed_minutes, second.candidate.calls) == (1, 2, 0.0, 0)
    now, then = figures(CONFIG, second), figures(CONFIG, first)
    # With nothing new, the second start counts 1, as it did before it was begun.
    assert now.e_errors == pytest.approx(then.e_errors)
    assert now.e_emergency == pytest.approx(then.e_emergency)
    assert now.error_rate_delta is None
    assert now.error_rate_delta_pooled == pytest.approx(0.1)


def test_pooled_differences_are_weighted_by_stage() -> None:
    evidence = begin_stage(CONFIG, run(CONFIG, [(arm(10, 2), arm(90, 9))]), 1)
    evidence = run(CONFIG, [(arm(25, 10), arm(75, 15))], evidence)
    weights = (10 * 90 / 100, 25 * 75 / 100)
    expected = (weights[0] * 0.1 + weights[1] * 0.2) / sum(weights)
    assert figures(CONFIG, evidence).error_rate_delta_pooled == pytest.approx(expected)


@pytest.mark.parametrize("stage", [-1, 0, 4, 5])
def test_stages_only_rise_and_the_last_has_no_evidence(stage: int) -> None:
    with pytest.raises(ValueError, match=f"stage {stage}"):
        begin_stage(CONFIG, Evidence(), stage)


def test_scores_wait_until_the_other_arm_has_one() -> None:
    low, high = arm(1, scores=(0.1,)), arm(1, scores=(0.9,))
    evidence = run(CONFIG, [(ArmTick(), high)] * 30)
    assert len(evidence.waiting_baseline) == 20
    assert set(evidence.quality_delta_logs) == {0.0}
    evidence = run(CONFIG, [(low, ArmTick())], evidence)
    assert evidence.waiting_baseline == evidence.waiting_candidate == ()
    assert min(evidence.quality_delta_logs) > 0


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 40)), max_size=10), st.booleans())
def test_state_survives_json_and_goes_on_as_if_nothing_had_happened(counts: list[tuple[int, int]], later: bool) -> None:  # noqa: FBT001
    evidence = run(CONFIG, [(arm(own, own // 2), arm(other, other // 5)) for own, other in counts])
    if later:
        evidence = run(CONFIG, healthy(2), begin_stage(CONFIG, evidence, 1))
    restored = Evidence.from_object(json.loads(json.dumps(evidence.to_object(), allow_nan=False)))
    assert restored == evidence
    assert run(CONFIG, healthy(3), restored) == run(CONFIG, healthy(3), evidence)


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: state.pop("stage"),
        lambda state: state.update(extra=1),
        lambda state: state.update(elapsed_minutes=math.nan),
        lambda state: state.update(ticks=-1),
        lambda state: state.update(ticks=None),
        lambda state: state.update(candidate=[1]),
        lambda state: state["candidate"].update(calls="12"),
        lambda state: state["candidate"].update(slow=[1, 2]),
        lambda state: state["carried"].update(errors=[0.0]),
        lambda state: state.update(quality_logs=[math.inf] * len(evalues.STAKES)),
    ],
)
def test_damaged_state_is_refused(damage: Any) -> None:
    state = json.loads(json.dumps(run(CONFIG, healthy(2)).to_object()))
    damage(state)
    with pytest.raises(DamagedError, match="rollout evidence"):
        Evidence.from_object(state)


def test_cutoffs_are_the_quantiles_of_the_warmup() -> None:
    latencies = [float(i) for i in range(WARMUP_CALLS, 0, -1)]
    assert freeze_cutoffs(latencies) == (100, 180, 196)


@pytest.mark.parametrize("latencies", [[1.0] * 199, [1.0] * 199 + [math.nan], [1.0] * 199 + [-1.0]])
def test_cutoffs_need_a_whole_sound_warmup(latencies: list[float]) -> None:
    with pytest.raises(ValueError, match="latencies"):
        freeze_cutoffs(latencies)


def test_slow_calls_before_the_cutoffs_are_refused() -> None:
    evidence = run(CONFIG, [(arm(10, slow=(1, 0, 0)), arm(90))], Evidence())
    assert evidence.last_problem is not None
    assert "slow" in evidence.last_problem


# --- config ---


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stages", ()),
        ("stages", (25, 10, 100)),
        ("stages", (10, 10, 100)),
        ("stages", (0, 100)),
        ("stages", (10, 101)),
        ("stages", (100,)),
        ("stages", (math.nan, 100)),
        ("stages", [10, 100]),
        ("stage_minutes", 0),
        ("stage_minutes", math.inf),
        ("min_calls", 0),
        ("min_calls", 1.5),
        ("min_calls", True),
        ("error_rate_delta", -0.1),
        ("error_rate_delta", 5),
        ("latency_delta_ms", math.nan),
        ("quality_score", 1.0),
        ("quality_score", "0.7"),
        ("alpha", 0.0),
        ("sample_ratio_alpha", 1),
        ("required", (LATENCY,)),
        ("required", (ERRORS, "speed")),
        ("required", (ERRORS, ERRORS)),
        ("required", [ERRORS]),
        ("deadline_factor", 0.5),
        ("cap_days", 0),
        ("tick_seconds", -1),
    ],
)
def test_config_names_the_bad_value(name: str, value: Any) -> None:
    with pytest.raises(BadInputError, match=name):
        RolloutConfig(**{name: value})


def test_alpha_is_shared_by_all_tests() -> None:
    assert WITHOUT_QUALITY.bound == pytest.approx(300)
    assert RolloutConfig(required=(ERRORS, LATENCY, QUALITY)).bound == pytest.approx(400)
    assert RolloutConfig(stages=(5, 95)).guarded_stages == 2


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=6), st.floats(0.05, 0.5))
def test_a_round_within_a_stage_changes_no_e_value(looks: list[tuple[int, int]], share: float) -> None:
    """Counters start afresh and evidence does not: the same calls give the same e-values."""
    config = RolloutConfig()
    whole = parts = replace(Evidence(), share=share)
    for own, other in looks:
        mine, theirs = (ArmTick(2 * n + 5, n, n + 5, 5.0 * (n + 5), 25.0 * (n + 5)) for n in (own, other))
        whole = add_tick(config, whole, mine, theirs, whole.elapsed_minutes + 1)
        parts = begin_round(config, add_tick(config, parts, mine, theirs, parts.elapsed_minutes + 1), share)
    one, other_one = figures(config, whole), figures(config, parts)
    assert parts.candidate.calls == 0
    assert other_one.e_errors == pytest.approx(one.e_errors, rel=1e-6)
    assert other_one.e_emergency == pytest.approx(one.e_emergency, rel=1e-6)
    assert other_one.error_rate_delta_pooled is not None


def test_the_rule_needs_only_the_standard_library() -> None:
    folder = Path(evalues.__file__).parent
    for name in ("arms", "cutoffs", "evalues", "evidence", "figures", "noninferiority", "rule", "sequential", "stages"):
        tree = ast.parse((folder / f"{name}.py").read_text())
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert all(top.split(".")[0] in {*sys.stdlib_module_names, "flywheel"} for top in names)
