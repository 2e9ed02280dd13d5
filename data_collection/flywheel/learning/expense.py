"""What a program takes of the model, and whether a better one takes too much more.

Measured on the test that decides. An answer from the run's cache spent nothing, but in production it would: it counts
with the tokens and the price that it had the first time. Latency is that of calls which reached the model.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flywheel.base.evaluations import Usage
from flywheel.learning.ledger import read_calls
from flywheel.learning.prices import cost_of, taken
from flywheel.learning.verdict import DEPLOY, INCONCLUSIVE, Verdict

if TYPE_CHECKING:
    from flywheel.learning.ledger import Account, Call
    from flywheel.learning.lm import RecordedLM

TOO_EXPENSIVE = "too expensive"


@dataclass(frozen=True)
class Allowance:
    """How much more a better program may take: its cost as a multiple of the baseline's, its latency in ms more."""

    cost_growth: float = 1.5
    latency_growth_ms: float = 500.0


@dataclass(frozen=True)
class Expense:
    """What an example takes of the baseline and of the candidate."""

    baseline: Usage
    optimized: Usage

    @property
    def cost_delta(self) -> float | None:
        """USD an example that the candidate costs more; None where the price is not known."""
        before, after = self.baseline.cost_usd, self.optimized.cost_usd
        return None if before is None or after is None else after - before

    @property
    def latency_delta_ms(self) -> float | None:
        """Milliseconds an example that the candidate takes longer; None where not measured."""
        before, after = self.baseline.latency_ms, self.optimized.latency_ms
        return None if before is None or after is None else round(after - before, 1)

    @property
    def cost_ratio(self) -> float | None:
        """The candidate's cost as a multiple of the baseline's; None where the price is not known or nothing."""
        before, after = self.baseline.cost_usd, self.optimized.cost_usd
        return after / before if before and after is not None else None

    @property
    def token_ratio(self) -> float | None:
        """The candidate's tokens, in and out, as a multiple of the baseline's; None where the server tells none."""
        before, after = (usage.input_tokens + usage.output_tokens for usage in (self.baseline, self.optimized))
        return after / before if before else None

    def excess(self, allowed: Allowance) -> str | None:
        """In words, what goes beyond the allowance and the flag that would accept it; None when nothing does."""
        ratio, slower = self.cost_ratio, self.latency_delta_ms
        if ratio is not None and ratio > allowed.cost_growth:
            return f"{ratio:.2f}x the cost ({allowed.cost_growth:g}x allowed; accept it by --max-cost-growth)"
        if slower is not None and slower > allowed.latency_growth_ms:
            most = f"{allowed.latency_growth_ms:g} ms allowed; accept it by --max-latency-growth"
            return f"{slower:+.0f} ms an example ({most})"
        return None


def usage_of(model: RecordedLM, stage: str, examples: int) -> Usage | None:
    """What an example took of a model that answered nothing but this stage's `examples`; None when it answered none."""
    entries = model.history
    if not entries or not examples:
        return None
    told = [taken(entry, model.model) for entry in entries]
    costs = [cost_of(entry, model.model, model.price) for entry in entries]
    known = [cost for cost in costs if cost is not None]
    latencies = [call.latency_ms for call in _paid(model.account, stage) if call.latency_ms is not None]
    each = len(entries) / examples
    return Usage(
        calls=each,
        input_tokens=sum(one.input_tokens for one in told) / examples,
        output_tokens=sum(one.output_tokens for one in told) / examples,
        cost_usd=None if len(known) < len(costs) else sum(known) / examples,
        # A median, since one hung call says nothing of the program; times calls, since a second attempt does.
        latency_ms=statistics.median(latencies) * each if latencies else None,
    )


def _paid(account: Account, stage: str) -> list[Call]:
    """The answered calls of a stage that reached the model, in whatever process of the run."""
    wanted = (account.signature, stage, False, None)
    calls = read_calls(account.ledger.path)
    return [call for call in calls if (call.signature, call.stage, call.cached, call.error) == wanted]


def weighed(verdict: Verdict, found: Expense | None, allowed: Allowance) -> Verdict:
    """The verdict with the expense taken into account: what would be deployed may be inconclusive for its cost."""
    if verdict.verdict != DEPLOY or found is None:
        return verdict
    excess = found.excess(allowed)
    if excess is None:
        return verdict
    return Verdict(INCONCLUSIVE, f"{TOO_EXPENSIVE}: {excess}; better by {verdict.reason}")
