"""How a run's budget is shared: what the tests need is kept back first, and the searches share the rest.

A candidate that waits is retested before anything else, and no half of a retest is paid: where the budget does not pay
for all of it, nothing is asked, and the candidate waits on. A search that ends early leaves its share to those that
follow; one that uses it up ends with the best program so far, which is still tested.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from flywheel.learning.calls import Totals
from flywheel.learning.stages import RETEST, SEARCH, TEST, planned_stage

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
    """Each signature's shares: for the retest of a candidate that waits, for the test of a new one, for its search.

    `unpaid` says why others cannot even be tested, `unsearched` why nothing can be paid beyond the retest.
    """

    tests: dict[str, Share] = field(default_factory=dict)
    searches: dict[str, Share] = field(default_factory=dict)
    unpaid: dict[str, str] = field(default_factory=dict)
    retests: dict[str, Share] = field(default_factory=dict)
    unsearched: dict[str, str] = field(default_factory=dict)


UNLIMITED = Budget()


def searcher(signature: str) -> str:
    """Under which name a signature's search draws on the budget; its test does under the signature's own."""
    return f"{signature}/search"


def retester(signature: str) -> str:
    """Under which name the retest of a signature's candidate draws on the budget."""
    return f"{signature}/retest"


class _Left:
    """What can still be kept back of a run's limits."""

    def __init__(self, plan: RunPlan, calls: int, usd: float) -> None:
        self.plan = plan
        self.calls = math.inf if plan.max_calls is None else plan.max_calls - calls
        self.usd = math.inf if plan.max_cost_usd is None else plan.max_cost_usd - usd

    def share(self, one: SignaturePlan, stage: str) -> Share | str:
        """The share of a signature's test or retest; or why the rest of the limits does not pay for it."""
        need = kept_for(one, stage)
        if need.calls > self.calls or need.usd > self.usd:
            return _unpaid(need, self, stage)
        self.calls, self.usd = self.calls - need.calls, self.usd - need.usd
        calls = 0 if self.plan.max_calls is None else need.calls
        return Share(calls, 0.0 if self.plan.max_cost_usd is None else need.usd)


def share_out(plan: RunPlan, calls: int, usd: float) -> Budget:
    """Share what the run's limits leave after `calls` and `usd` that are spent already; empty without a limit.

    Tests come first, in the plan's order, as many as can be paid: of a signature whose candidate waits its retest, and
    when all have theirs, also the test of what it finds if it is to search after all. A signature whose test or retest
    cannot be paid is not begun. Searches share the rest by how much each could use.
    """
    if plan.max_calls is None and plan.max_cost_usd is None:
        return UNLIMITED
    left = _Left(plan, calls, usd)
    budget = Budget()
    waiting = {name: one for name, one in plan.signatures.items() if RETEST in one.stages}
    for name, one in plan.signatures.items():
        stage, shares = (RETEST, budget.retests) if name in waiting else (TEST, budget.tests)
        and_so = "; nothing was asked, and the candidate waits on" if name in waiting else "; nothing was asked"
        _keep(left.share(one, stage), name, shares, budget.unpaid, and_so)
    for name, one in waiting.items():
        if name in budget.retests:
            _keep(left.share(one, TEST), name, budget.tests, budget.unsearched, "; no search was begun")
    wanted = {name: _search(plan.signatures[name]) for name in budget.tests}
    all_calls, all_usd = sum(w.calls for w in wanted.values()), math.fsum(w.usd for w in wanted.values())
    for name, want in wanted.items():
        budget.searches[name] = Share(
            math.floor(left.calls * want.calls / all_calls) if plan.max_calls is not None and all_calls else 0,
            left.usd * want.usd / all_usd if plan.max_cost_usd is not None and all_usd else 0.0,
        )
    return budget


def _keep(share: Share | str, name: str, shares: dict[str, Share], unpaid: dict[str, str], and_so: str) -> None:
    if isinstance(share, Share):
        shares[name] = share
    else:
        unpaid[name] = share + and_so


def less_spent(budget: Budget, calls: Iterable[Call]) -> Budget:
    """The shares without what each was used for already, by a run that was cut short and goes on."""
    totals: dict[tuple[str, str], Totals] = defaultdict(Totals)
    for call in calls:
        stage = planned_stage(call.stage)
        place = call.signature, stage if stage in {TEST, RETEST} else SEARCH
        totals[place] = totals[place].plus(call)
    left = {
        stage: {name: _left(share, totals[name, stage]) for name, share in shares.items()}
        for stage, shares in ((TEST, budget.tests), (SEARCH, budget.searches), (RETEST, budget.retests))
    }
    return replace(budget, tests=left[TEST], searches=left[SEARCH], retests=left[RETEST])


def _left(share: Share, spent: Totals) -> Share:
    return Share(max(0, share.calls - spent.calls), max(0.0, share.usd - (spent.cost_usd or 0.0)))


def kept_for(plan: SignaturePlan, stage: str) -> Share:
    """What is kept back for a signature's test or retest."""
    asked = plan.stages.get(stage)
    if asked is None:
        return Share()
    return Share(math.ceil(asked.calls * MORE_CALLS), (asked.cost_usd or 0.0) * MORE_USD)


def _search(plan: SignaturePlan) -> Share:
    """What everything but the tests could use."""
    parts: list[StagePlan] = [part for stage, part in plan.stages.items() if stage not in {TEST, RETEST}]
    return Share(sum(part.calls for part in parts), math.fsum(part.cost_usd or 0.0 for part in parts))


def _unpaid(need: Share, left: _Left, stage: str) -> str:
    what = "its candidate's retest" if stage == RETEST else "its test"
    if need.calls > left.calls:
        have = f"{max(0, int(left.calls))} of --max-calls {left.plan.max_calls}"
        return f"the budget does not pay for {what}: {need.calls} calls are needed, {have} are left"
    have = f"${max(0.0, left.usd):.2f} of --max-cost-usd {left.plan.max_cost_usd:g}"
    return f"the budget does not pay for {what}: ${need.usd:.2f} are needed, {have} are left"


def begin_retest(account: Account) -> None:
    """From now on the account draws on what is kept back for the retest."""
    account.holder, account.finishing = retester(account.signature), True


def begin_search(account: Account) -> None:
    """From now on the account draws on the search's share; what a retest left is everybody's."""
    account.ledger.gate.keep_back(retester(account.signature), 0)
    account.holder, account.finishing = searcher(account.signature), True


def begin_test(account: Account) -> None:
    """From now on the account draws on what is kept back for the test; what the search left is everybody's."""
    account.ledger.gate.keep_back(account.holder, 0)
    account.holder, account.finishing = account.signature, True


def end(account: Account) -> None:
    """The signature is done: what is left of its shares is everybody's."""
    for holder in (retester(account.signature), searcher(account.signature), account.signature):
        account.ledger.gate.keep_back(holder, 0)


def keep_back(gate: Gate, budget: Budget) -> None:
    """Have the gate keep each share for its holder."""
    for name, share in budget.tests.items():
        gate.keep_back(name, share.calls, share.usd)
    for name, share in budget.searches.items():
        gate.keep_back(searcher(name), share.calls, share.usd)
    for name, share in budget.retests.items():
        gate.keep_back(retester(name), share.calls, share.usd)


def ran_out(account: Account, reason: object) -> str:
    """What is said of a signature whose test, or whose candidate's retest, the budget did not pay to its end."""
    if account.holder == retester(account.signature):
        return f"the budget ran out before the retest was done, and the candidate waits on: {reason}"
    return f"the budget ran out before the test was done: {reason}"


def timed_out(hours: float) -> str:
    """What is said of a signature that took too long."""
    return f"optimization timed out after {hours:g} hours"
