from __future__ import annotations

import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from flywheel.base.plans import RunPlan, SignaturePlan, StagePlan
from flywheel.learning.budget import Budget, Share, keep_back, less_spent, searcher, share_out
from flywheel.learning.calls import Call
from flywheel.learning.gate import Caps
from flywheel.learning.governor import Governor
from flywheel.learning.limits import BudgetExhausted
from flywheel.learning.stages import RETEST, SEARCH, TEST

CALLS = st.integers(0, 5000)
STAGES = (SEARCH, TEST, RETEST)


def plan(*sizes: tuple[int, ...], max_calls: int | None = None, max_cost_usd: float | None = None) -> RunPlan:
    """One signature for each (search calls, test calls, retest calls if any), at a cent a call."""
    stages = [
        {name: StagePlan(calls=count, cost_usd=count / 100) for name, count in zip(STAGES, each, strict=False) if count}
        for each in sizes
    ]
    return RunPlan(
        model="m", price=None, price_source="", basis=[], seconds=0, max_calls=max_calls, max_cost_usd=max_cost_usd,
        signatures={
            f"s{n}": SignaturePlan(train=1, val=1, test=1, searched=True, prompt_characters=1, stages=one)
            for n, one in enumerate(stages)
        },
    )  # fmt: skip


@given(
    st.lists(st.tuples(CALLS, CALLS, st.one_of(st.just(0), CALLS)), min_size=1, max_size=5),
    st.integers(1, 10000), st.one_of(st.none(), st.floats(0.01, 100)), st.integers(0, 100),
)  # fmt: skip
def test_shares_never_exceed_the_limits_and_tests_come_first(
    sizes: list[tuple[int, int, int]], calls: int, usd: float | None, spent: int
) -> None:
    made = plan(*sizes, max_calls=calls, max_cost_usd=usd)
    budget = share_out(made, spent, spent / 100)
    shares = [*budget.tests.values(), *budget.searches.values(), *budget.retests.values()]
    assert sum(share.calls for share in shares) <= max(0, calls - spent)
    if usd is not None:
        assert math.fsum(share.usd for share in shares) <= max(0.0, usd - spent / 100) + 1e-9
    begun = made.signatures.keys() - budget.unpaid.keys()
    assert budget.tests.keys() == budget.searches.keys() == begun - budget.unsearched.keys()
    assert budget.retests.keys() == {name for name in begun if RETEST in made.signatures[name].stages}
    assert budget.unsearched.keys() <= budget.retests.keys()
    for stage, kept in ((TEST, budget.tests), (RETEST, budget.retests)):
        for name, share in kept.items():
            planned = made.signatures[name].stages.get(stage)
            assert share.calls >= (planned.calls if planned else 0)


def test_the_searches_share_by_what_each_could_use() -> None:
    budget = share_out(plan((300, 10), (100, 10), max_calls=222), 0, 0.0)
    assert budget.tests == {"s0": Share(11), "s1": Share(11)}
    assert budget.searches == {"s0": Share(150), "s1": Share(50)}


def test_a_test_that_cannot_be_paid_is_said_so_and_the_others_are_not_held_up() -> None:
    budget = share_out(plan((10, 10), (10, 1000), (10, 10), max_calls=100), 1, 0.0)
    assert list(budget.tests) == ["s0", "s2"]
    assert budget.unpaid == {
        "s1": "the budget does not pay for its test: 1100 calls are needed, 88 of --max-calls 100 are left; "
        "nothing was asked"
    }
    poor = share_out(plan((10, 10), max_cost_usd=0.1), 0, 0.04)
    assert poor.unpaid["s0"].startswith("the budget does not pay for its test: $0.13 are needed, $0.06 of")


def test_a_candidate_that_waits_is_retested_before_anybody_searches() -> None:
    waiting = plan((10, 100, 20), (10, 50), max_calls=90)
    budget = share_out(waiting, 0, 0.0)
    assert (budget.retests, budget.tests) == ({"s0": Share(22)}, {"s1": Share(56)})
    assert budget.searches == {"s1": Share(12)}, "what is left, since the other cannot test what it would find"
    why = "the budget does not pay for its test: 111 calls are needed, 12 of --max-calls 90 are left"
    assert budget.unsearched == {"s0": f"{why}; no search was begun"}
    assert share_out(plan((10, 10, 100), max_calls=100), 0, 0.0).unpaid == {
        "s0": "the budget does not pay for its candidate's retest: 111 calls are needed, 100 of --max-calls 100 are "
        "left; nothing was asked, and the candidate waits on"
    }


def test_a_resumed_run_has_what_each_stage_left() -> None:
    budget = share_out(plan((10, 100, 20), max_calls=142), 0, 0.0)
    assert (budget.retests["s0"], budget.tests["s0"], budget.searches["s0"]) == (Share(22), Share(111), Share(9))
    calls = [call(stage) for stage in ("retest-baseline", "retest-candidate", "bootstrap", "test-baseline")]
    left = less_spent(budget, calls)
    assert (left.retests["s0"], left.tests["s0"], left.searches["s0"]) == (Share(20), Share(110), Share(8))


def call(stage: str) -> Call:
    return Call("2026-01-01T00:00:00+00:00", stage, "s0", "m", 1, 1, False, 0.0, 1.0, None)


def test_without_limits_nothing_is_kept_back() -> None:
    assert share_out(plan((10, 10)), 0, 0.0) == Budget()


def test_a_search_cannot_eat_a_test_nor_another_search(  # the gate's part of the agreement
) -> None:
    governor = Governor(Caps(max_calls=32))
    keep_back(governor, share_out(plan((10, 10), (10, 10), max_calls=32), 0, 0.0))

    def asked(holder: str) -> int:
        for count in itertools.count():
            try:
                with governor.admitted(holder, finishing=True) as admission:
                    admission.spent(1, 0.0)
            except BudgetExhausted:
                return count
        raise AssertionError

    assert asked(searcher("s0")) == 5
    assert asked("s0") == 11
    governor.keep_back(searcher("s0"), 0)
    governor.keep_back("s0", 0)
    assert asked(searcher("s1")) == 5
    assert asked("s1") == 11
