"""A run's plan for people: a table of each signature's calls by stage, with tokens, money and time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flywheel.base.cli import say
from flywheel.base.progress import duration
from flywheel.ops.report import usd_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flywheel.base.plans import RunPlan, StagePlan
    from flywheel.base.prices import Price
    from flywheel.ops.journal import RunJournal

MILLION, THOUSAND = 1_000_000, 1_000


def tell_plan(plan: RunPlan, journal: RunJournal) -> None:
    """Say what the run will take, and keep it beside what it takes."""
    for line in plan_lines(plan):
        say(line)
    for name, planned in plan.signatures.items():
        journal.learned(name, {"planned": planned.stages})


def plan_lines(plan: RunPlan) -> Iterator[str]:
    """The plan as a table for a terminal."""
    stages = list(dict.fromkeys(stage for one in plan.signatures.values() for stage in one.stages))
    yield f"plan: at most {plan.total.calls:,} calls of {plan.model} ({price_text(plan.price)}; {plan.price_source})"
    head = ["signature", *stages, "calls", "tokens in", "tokens out", "USD"]
    rows = [
        [name, *(_count(one.stages.get(stage)) for stage in stages), *_sums(one.total)]
        for name, one in plan.signatures.items()
    ]
    if len(rows) > 1:
        parts = [[one.stages[stage] for one in plan.signatures.values() if stage in one.stages] for stage in stages]
        totals = [f"{sum(part.calls for part in some):,}" for some in parts]
        rows.append(["all", *totals, *_sums(plan.total)])
    yield from _aligned([head, *rows])
    for sentence in plan.basis:
        yield f"  {sentence}"
    limits = [] if plan.max_calls is None else [f"--max-calls {plan.max_calls:,}"]
    limits += [] if plan.max_cost_usd is None else [f"--max-cost-usd {plan.max_cost_usd:g}"]
    if limits:
        yield f"  limits: {', '.join(limits)}; what the tests need is kept back, and the searches share the rest"
    yield f"  time: roughly {duration(plan.seconds)} of model calls"


def price_text(price: Price | None) -> str:
    """`$3.00 in, $15.00 out a million tokens`."""
    if price is None:
        return "unknown price"
    if price.input == price.output == 0:
        return "free"
    return f"${price.input:,.2f} in, ${price.output:,.2f} out a million tokens"


def count_text(tokens: int) -> str:
    """`3.1 M`, `48 k`, `512`."""
    if tokens >= MILLION:
        return f"{tokens / MILLION:.1f} M"
    return f"{tokens / THOUSAND:.0f} k" if tokens >= 10 * THOUSAND else f"{tokens:,}"


def _count(stage: StagePlan | None) -> str:
    return f"{stage.calls:,}" if stage else "-"


def _sums(total: StagePlan) -> list[str]:
    money = "unknown" if total.cost_usd is None else usd_text(total.cost_usd)
    return [f"{total.calls:,}", count_text(total.input_tokens), count_text(total.output_tokens), money]


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        first, *rest = (
            cell.ljust(width) if number == 0 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join([first, *rest])
