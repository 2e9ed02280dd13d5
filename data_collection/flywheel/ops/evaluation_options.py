"""The flags that bear on how a run is judged and told."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add_evaluation_options(parser: argparse.ArgumentParser) -> None:
    """The forecast before a run."""
    group = parser.add_argument_group("forecast")
    add = group.add_argument
    forecast = "tell what the stored datasets' tests can show and what earlier runs lead to expect; runs nothing"
    add("--predict", action="store_true", help=forecast)
