"""What calls came to: for people while a search runs, and one program against another."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from flywheel.learning.ledger import read_calls

if TYPE_CHECKING:
    from flywheel.learning.ledger import Account, Call


def spent(account: Account) -> str:
    """`120 calls, $0.35`; a price that nobody knows is said."""
    totals = account.totals()
    cost = "price unknown" if totals.cost_usd is None else f"${totals.cost_usd:.2f}"
    return f"{totals.calls} calls, {cost}"


def deltas(account: Account, before: str, after: str) -> tuple[float | None, float | None]:
    """Stage `after` less stage `before`: median latency (ms) and mean cost (USD) of a call; None where not known."""
    first, second = _paid(account, before), _paid(account, after)
    if not first or not second:
        return None, None
    latency = [statistics.median(call.latency_ms or 0.0 for call in calls) for calls in (first, second)]
    if any(call.cost_usd is None for call in (*first, *second)):
        return round(latency[1] - latency[0], 1), None
    cost = [statistics.fmean(call.cost_usd or 0.0 for call in calls) for calls in (first, second)]
    return round(latency[1] - latency[0], 1), cost[1] - cost[0]


def _paid(account: Account, stage: str) -> list[Call]:
    """The answered calls of a stage that reached the model."""
    wanted = (account.signature, stage, False, None)
    calls = read_calls(account.ledger.path)
    return [call for call in calls if (call.signature, call.stage, call.cached, call.error) == wanted]
