"""How a run's budget is shared: what the tests need is kept back first, and the searches share the rest.

A search that ends early leaves its share to those that follow; one that uses it up ends with the best program so far,
which is still tested.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flywheel.learning.calls import Totals
from flywheel.learning.stages import TEST, planned_stage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flywheel.base.plans import RunPlan, SignaturePlan, StagePlan
    from flywheel.learning.calls import Call
    from flywheel.learning.gate import Gate
    from flywheel.learning.ledger import Account

# An answer that does not parse is asked for again, and prices are estimates.
MORE_CALLS, MORE_USD = 1.1, 1.3


@dataclass(frozen=True)
class Share:
    """A part of the budget; without a limit of that kind it is 0."""

    calls: int = 0
    usd: float = 0.0


@dataclass(frozen=True)
class Budget:
    """Each signature's shares, for its test and for its search; `unpaid` says why others cannot even be tested."""

    tests: dict[str, Share] = field(default_factory=dict)
    searches: dict[str, Share] = field(default_factory=dict)
    unpaid: dict[str, str] = field(default_factory=dict)


UNLIMITED = Budget()


def searcher(signature: str) -> str:
    """Under which name a signature's search draws on the budget; its test does under the signature's own."""
    return f"{signature}/search"


def share_out(plan: RunPlan, calls: int, usd: float) -> Budget:
    """Share what the run's limits leave after `calls` and `usd` that are spent already; empty without a limit.

    Tests come first, in the plan's order, as many as can be paid; a signature whose test cannot be paid is not begun.
    Searches share the rest by how much each could use.
    """
    if plan.max_calls is None and plan.max_cost_usd is None:
        return UNLIMITED
    left_calls = math.inf if plan.max_calls is None else plan.max_calls - calls
    left_usd = math.inf if plan.max_cost_usd is None else plan.max_cost_usd - usd
    budget = Budget()
    for name, one in plan.signatures.items():
        need = test_share(one)
        if need.calls > left_calls or need.usd > left_usd:
            budget.unpaid[name] = _unpaid(need, plan, left_calls, left_usd)
            continue
        budget.tests[name] = Share(
            0 if plan.max_calls is None else need.calls, 0.0 if plan.max_cost_usd is None else need.usd
        )
        left_calls, left_usd = left_calls - need.calls, left_usd - need.usd
    wanted = {name: _search(plan.signatures[name]) for name in budget.tests}
    all_calls, all_usd = sum(w.calls for w in wanted.values()), math.fsum(w.usd for w in wanted.values())
    for name, want in wanted.items():
        budget.searches[name] = Share(
            math.floor(left_calls * want.calls / all_calls) if plan.max_calls is not None and all_calls else 0,
            left_usd * want.usd / all_usd if plan.max_cost_usd is not None and all_usd else 0.0,
        )
    return budget


def less_spent(budget: Budget, calls: Iterable[Call]) -> Budget:
    """The shares without what each was used for already, by a run that was cut short and goes on."""
    totals: dict[tuple[str, bool], Totals] = defaultdict(Totals)
    for call in calls:
        place = call.signature, planned_stage(call.stage) == TEST
        totals[place] = totals[place].plus(call)
    tests = {name: _left(share, totals[name, True]) for name, share in budget.tests.items()}
    searches = {name: _left(share, totals[name, False]) for name, share in budget.searches.items()}
    return Budget(tests, searches, budget.unpaid)


def _left(share: Share, spent: Totals) -> Share:
    return Share(max(0, share.calls - spent.calls), max(0.0, share.usd - (spent.cost_usd or 0.0)))


def test_share(plan: SignaturePlan) -> Share:
    """What is kept back for a signature's test."""
    stage = plan.stages.get(TEST)
    if stage is None:
        return Share()
    return Share(math.ceil(stage.calls * MORE_CALLS), (stage.cost_usd or 0.0) * MORE_USD)


def _search(plan: SignaturePlan) -> Share:
    """What everything but the test could use."""
    parts: list[StagePlan] = [part for stage, part in plan.stages.items() if stage != TEST]
    return Share(sum(part.calls for part in parts), math.fsum(part.cost_usd or 0.0 for part in parts))


def _unpaid(need: Share, plan: RunPlan, calls: float, usd: float) -> str:
    if need.calls > calls:
        have = f"{max(0, int(calls))} of --max-calls {plan.max_calls}"
        return (
            f"the budget does not pay for its test: {need.calls} calls are needed, {have} are left; nothing was asked"
        )
    have = f"${max(0.0, usd):.2f} of --max-cost-usd {plan.max_cost_usd:g}"
    return f"the budget does not pay for its test: ${need.usd:.2f} are needed, {have} are left; nothing was asked"


def begin_search(account: Account) -> None:
    """From now on the account draws on the search's share."""
    account.holder, account.finishing = searcher(account.signature), True


def begin_test(account: Account) -> None:
    """From now on the account draws on what is kept back for the test; what the search left is everybody's."""
    account.ledger.gate.keep_back(account.holder, 0)
    account.holder, account.finishing = account.signature, True


def end(account: Account) -> None:
    """The signature is done: what is left of its shares is everybody's."""
    for holder in (searcher(account.signature), account.signature):
        account.ledger.gate.keep_back(holder, 0)


def keep_back(gate: Gate, budget: Budget) -> None:
    """Have the gate keep each share for its holder."""
    for name, share in budget.tests.items():
        gate.keep_back(name, share.calls, share.usd)
    for name, share in budget.searches.items():
        gate.keep_back(searcher(name), share.calls, share.usd)
