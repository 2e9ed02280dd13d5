"""A run's budget of calls and money, of which parts are kept back for what must not run dry."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from flywheel.learning.limits import BudgetExhausted


@dataclass
class _Kept:
    calls: int = 0
    cost_usd: float = 0.0
    under_way: int = 0


class Purse:
    """What is spent and under way; None means no limit. It is not safe to use from several threads without a lock."""

    def __init__(self, max_calls: int | None, max_cost_usd: float | None, calls: int, cost_usd: float) -> None:
        self.max_calls, self.max_cost_usd = max_calls, max_cost_usd
        self.calls, self.cost_usd = calls, cost_usd
        self.under_way = 0
        self._dearest = 0.0
        self._kept: defaultdict[str, _Kept] = defaultdict(_Kept)

    def keep_back(self, holder: str, calls: int, cost_usd: float) -> None:
        """So much is kept back for the holder from now on."""
        self._kept[holder].calls, self._kept[holder].cost_usd = calls, cost_usd

    def open_for(self, holder: str | None) -> bool:
        """Whether one more call may start now, or has to wait for the outcome of those under way.

        What is kept back is nobody's but the holder's; None is somebody for whom nothing is.

        Raises:
            BudgetExhausted: it never may.
        """
        others = [kept for name, kept in self._kept.items() if name != holder]
        return self._within_calls(others) and self._within_money(others)

    def start(self, holder: str | None) -> None:
        """A call of the holder starts."""
        self.under_way += 1
        if holder is not None:
            self._kept[holder].under_way += 1

    def end(self, holder: str | None, calls: int, cost_usd: float) -> None:
        """It is over, and came to so much; what was kept back for the holder is used up by it."""
        self.under_way -= 1
        self.calls += calls
        self.cost_usd += cost_usd
        self._dearest = max(self._dearest, cost_usd)
        if holder is not None:
            kept = self._kept[holder]
            kept.under_way -= 1
            kept.calls = max(0, kept.calls - calls)
            kept.cost_usd = max(0.0, kept.cost_usd - cost_usd)

    def _within_calls(self, others: list[_Kept]) -> bool:
        if self.max_calls is None:
            return True
        kept = sum(other.calls for other in others)
        if self.calls + kept >= self.max_calls:
            aside = f", and {kept} are kept back" if kept else ""
            msg = f"{self.calls} of {self.max_calls} calls are spent{aside}"
            raise BudgetExhausted(msg)
        # Those under way that use what is kept back for them are counted once.
        still = sum(max(0, other.calls - other.under_way) for other in others)
        return self.calls + self.under_way + still < self.max_calls

    def _within_money(self, others: list[_Kept]) -> bool:
        if self.max_cost_usd is None:
            return True
        kept = sum(other.cost_usd for other in others)
        # One call more may cost what the dearest did; before there was any, it costs something.
        if self.cost_usd + kept + self._dearest > self.max_cost_usd or self.cost_usd + kept >= self.max_cost_usd:
            aside = f", and {kept:.4f} are kept back" if kept else ""
            msg = f"{self.cost_usd:.4f} of {self.max_cost_usd:.4f} USD are spent{aside}"
            raise BudgetExhausted(msg)
        more = (self.under_way + 1) * self._dearest
        return not self.under_way or self.cost_usd + kept + more <= self.max_cost_usd
