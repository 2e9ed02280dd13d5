"""Which of several optimizers' programs meets the test."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.base.evaluations import Usage
from flywheel.learning.contenders import Contender, Ranked, choose, sentence

N = 40
GROUPS = [str(n) for n in range(N)]


def contender(name: str, right: int, tokens: float, cost: float | None = None) -> Contender:
    """A program that answers the first `right` of N examples right."""
    usage = Usage(calls=1, input_tokens=tokens, output_tokens=0, cost_usd=cost, latency_ms=None)
    return Contender(name, [float(n < right) for n in range(N)], usage)


def chosen(*contenders: Contender, groups: list[str] = GROUPS) -> str:
    return winner(choose(contenders, groups)).optimizer


def winner(ranked: list[Ranked]) -> Ranked:
    (one,) = [one for one in ranked if one.chosen]
    return one


def test_the_cheaper_of_two_that_cannot_be_told_apart_wins() -> None:
    assert chosen(contender("mipro", 30, tokens=300), contender("labeled", 28, tokens=100)) == "labeled"


def test_a_significantly_worse_one_does_not_win_however_cheap() -> None:
    ranked = choose([contender("mipro", 30, tokens=300), contender("labeled", 20, tokens=1)], GROUPS)
    assert winner(ranked).optimizer == "mipro"
    assert ranked[1].worse
    assert ranked[0].lead is None
    assert ranked[1].lead == pytest.approx(25.0)
    # Ten of forty in favour: 25 points less 1.645 standard errors of 6.8 points.
    assert ranked[1].lead_low == pytest.approx(13.7, abs=1.5)


def test_the_level_is_shared_among_those_compared() -> None:
    # Three of forty in favour: a resample holds none of them with (37/40)**40 = 0.044, between 0.025 and 0.05.
    best, other = contender("mipro", 30, tokens=300), contender("labeled", 27, tokens=100)
    assert chosen(best, other) == "mipro"
    third = contender("gepa", 30, tokens=900)
    ranked = choose([best, other, third], GROUPS)
    assert winner(ranked).optimizer == "labeled"
    assert {one.level for one in ranked} == {0.025}


def test_money_is_the_price_where_all_of_it_is_known_else_tokens() -> None:
    cheap = contender("gepa", 30, tokens=900, cost=0.001)
    assert chosen(contender("mipro", 30, tokens=300, cost=0.002), cheap) == "gepa"
    assert chosen(contender("mipro", 30, tokens=300, cost=None), cheap) == "mipro"
    assert chosen(contender("mipro", 30, tokens=300, cost=0.0), contender("gepa", 30, tokens=900, cost=0.0)) == "mipro"


def test_equally_cheap_the_better_wins_then_the_first_named() -> None:
    assert chosen(contender("a", 28, tokens=100), contender("b", 30, tokens=100)) == "b"
    assert chosen(contender("a", 30, tokens=100), contender("b", 30, tokens=100)) == "a"


def test_one_whose_price_nobody_knows_is_the_dearest() -> None:
    unknown = Contender("a", contender("a", 30, tokens=1).scores, None)
    assert chosen(unknown, contender("b", 28, tokens=10_000)) == "b"


def test_a_failed_answer_counts_0() -> None:
    failing = Contender("a", [None] * N, contender("a", 0, tokens=1).usage)
    assert chosen(failing, contender("b", 20, tokens=100)) == "b"


def test_examples_of_one_group_are_one_piece_of_evidence() -> None:
    # All differences are in one of 21 groups, which a resample misses with (20/21)**21 = 0.36.
    groups = ["one" if 20 <= n < 30 else str(n // 2) for n in range(N)]
    best, other = contender("mipro", 30, tokens=300), contender("labeled", 20, tokens=1)
    assert chosen(best, other, groups=groups) == "labeled"


def test_with_few_groups_the_better_is_not_given_up_for_the_cheaper() -> None:
    groups = [str(n // 7) for n in range(N)]
    assert chosen(contender("mipro", 40, tokens=300), contender("gepa", 13, tokens=1), groups=groups) == "mipro"
    assert chosen(contender("mipro", 40, tokens=300), contender("gepa", 39, tokens=1), groups=["one"] * N) == "mipro"


def test_the_choice_is_told() -> None:
    ranked = choose([contender("mipro", 30, tokens=300), contender("labeled", 29, tokens=100)], GROUPS)
    told = sentence(ranked)
    assert told.startswith("labeled is the cheapest that is not significantly worse on val: mipro 75.0 (300 tokens), ")
    assert "labeled 72.5 (100 tokens, behind by 2.5 points, at least 0.0)" in told


@given(st.lists(st.tuples(st.integers(0, N), st.integers(1, 500)), min_size=1, max_size=5))
def test_exactly_one_wins_and_it_is_never_worse(asked: list[tuple[int, int]]) -> None:
    contenders = [contender(str(n), right, tokens) for n, (right, tokens) in enumerate(asked)]
    ranked = choose(contenders, GROUPS)
    assert not winner(ranked).worse
    cheaper = [one for one in ranked if (one.price or 0) < (winner(ranked).price or 0)]
    assert all(one.worse for one in cheaper)
