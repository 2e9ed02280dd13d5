"""What calls came to, for people while a search runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flywheel.learning.ledger import Account


def spent(account: Account) -> str:
    """`120 calls, $0.35`; a price that nobody knows is said."""
    totals = account.totals()
    cost = "price unknown" if totals.cost_usd is None else f"${totals.cost_usd:.2f}"
    return f"{totals.calls} calls, {cost}"
