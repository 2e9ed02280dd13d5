"""The flags by which a run says what it may spend, and what that costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flywheel.base import cli

if TYPE_CHECKING:
    import argparse

DEFAULT_TIMEOUT_HOURS = 2.0


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Limits of calls, money and time, the price table, and the plan alone."""
    add = parser.add_argument_group("spending").add_argument
    calls = "most model calls, all signatures together; what the tests need is kept back for them"
    add("--max-calls", type=cli.positive_int, metavar="N", help=calls)
    money = "most US dollars, all signatures together; needs a known price"
    add("--max-cost-usd", type=cli.positive_number, metavar="USD", help=money)
    hours = "for each signature; a search that takes longer ends with the best so far, in time for its test"
    add("--timeout", type=cli.positive_number, default=DEFAULT_TIMEOUT_HOURS, metavar="HOURS", help=hours)
    table = (
        'JSON file of prices, {"openai/my-model": {"input": 0.25, "output": 1, "cached_input": 0.025}}, '
        "in US dollars per million tokens (environment: FLYWHEEL_PRICES; default: DSPy's price list)"
    )
    add("--prices", metavar="FILE", help=table)
    only = "collect and validate into a temporary place, say what a run would take, and stop before any model call"
    add("--plan", action="store_true", help=only)
