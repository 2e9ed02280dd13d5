"""What calls came to: for people while a search runs, and by stage for the summary."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from flywheel.learning.calls import Totals, read_calls
from flywheel.learning.stages import planned_stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from flywheel.base.plans import RunPlan
    from flywheel.learning.calls import Call
    from flywheel.learning.ledger import Account


def spent(account: Account) -> str:
    """`120 calls, $0.35`; a price that nobody knows is said."""
    totals = account.totals()
    cost = "price unknown" if totals.cost_usd is None else f"${totals.cost_usd:.2f}"
    return f"{totals.calls} calls, {cost}"


def by_stage(
    calls: Iterable[Call], signature: str | None = None, stage_of: Callable[[str], str] = str
) -> dict[str, dict[str, Any]]:
    """What each stage spent, of one signature or of all, in order of their first call."""
    found: dict[str, Totals] = {}
    for call in calls:
        if signature in {None, call.signature}:
            stage = stage_of(call.stage)
            found[stage] = found.get(stage, Totals()).plus(call)
    return {stage: asdict(totals) for stage, totals in found.items()}


def told_of(totals: Totals) -> dict[str, Any]:
    """Totals as a signature's part of the summary has them."""
    tokens = {"input_tokens": totals.input_tokens, "output_tokens": totals.output_tokens, "total_tokens": totals.tokens}
    spent = {"lm_calls": totals.calls, "cached_calls": totals.cached_calls}
    return {**spent, "tokens": tokens, "cost_usd": totals.cost_usd}


def run_spend(calls: Path, plan: RunPlan) -> dict[str, Any]:
    """The whole run's spend by stage of the plan beside what was planned, and where its prices come from."""
    names = dict.fromkeys(stage for one in plan.signatures.values() for stage in one.stages)
    planned = {name: plan.stage(name).model_dump() for name in names}
    return {
        "price_source": plan.price_source,
        "price": None if plan.price is None else plan.price.model_dump(),
        "max_calls": plan.max_calls,
        "max_cost_usd": plan.max_cost_usd,
        "planned": planned,
        "spent": by_stage(read_calls(calls), stage_of=planned_stage),
    }
