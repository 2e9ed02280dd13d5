"""What the loop costs in a calendar month (UTC): its runs and its canaries, held against the budget."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from math import fsum
from typing import TYPE_CHECKING

from flywheel.ops.findings import ERROR, WARNING, Finding
from flywheel.ops.observed import ORCHESTRATION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flywheel.ops.config import MonitoringConfig
    from flywheel.ops.observed import Observed

NEAR_BUDGET = 0.8


@dataclass(frozen=True)
class Spend:
    """US dollars of a month's known prices, and how many results used a model of unknown price."""

    month: datetime
    runs_usd: float
    canaries_usd: float
    unpriced: int

    @property
    def usd(self) -> float:
        """Everything of known price."""
        return self.runs_usd + self.canaries_usd


def months_spend(observed: Observed) -> dict[str, Spend]:
    """The spend of every month in which anything ran, by `2025-11`, oldest first."""
    prices: dict[str, list[tuple[datetime, bool, float | None]]] = {}
    for run in observed.runs:
        for facts in run.signatures.values():
            if facts.lm_calls or facts.cost_usd:
                prices.setdefault(f"{run.started:%Y-%m}", []).append((run.started, True, facts.cost_usd))
    for canary in observed.canaries:
        for score in canary.scores:
            at = datetime.fromisoformat(score.at)
            prices.setdefault(f"{at:%Y-%m}", []).append((at, False, score.cost_usd))
    return {
        name: Spend(
            min(at for at, _, _ in rows),
            fsum(usd for _, of_run, usd in rows if of_run and usd is not None),
            fsum(usd for _, of_run, usd in rows if not of_run and usd is not None),
            sum(usd is None for _, _, usd in rows),
        )
        for name, rows in sorted(prices.items())
    }


def month_spend(observed: Observed, now: datetime) -> Spend:
    """This calendar month's."""
    return months_spend(observed).get(f"{now:%Y-%m}", Spend(now, 0.0, 0.0, 0))


def check_spend(observed: Observed, config: MonitoringConfig, now: datetime) -> Iterator[Finding]:
    """A warning at 80 % of the month's budget, an error above it; calls of unknown price are said, not counted."""
    budget, spent = config.monthly_budget_usd, month_spend(observed, now)
    if budget is None or spent.usd < NEAR_BUDGET * budget:
        return
    over = spent.usd > budget
    yield Finding(
        ORCHESTRATION, "spend", f"{now:%Y-%m}", ERROR if over else WARNING,
        "Optimization Budget Exceeded" if over else "Optimization Budget Nearly Spent",
        f"${spent.usd:.2f} of ${budget:.2f} spent this month",
        spent.month,
        "touch ../.stop_optimization; it keeps the monthly job from starting; fewer --trials or a cheaper --model",
        {
            "spent_usd": round(spent.usd, 2),
            "budget_usd": budget,
            "runs_usd": round(spent.runs_usd, 2),
            "canaries_usd": round(spent.canaries_usd, 2),
            "results_of_unknown_price": spent.unpriced,
        },
    )  # fmt: skip
