"""The flags by which a run says how it searches."""

from __future__ import annotations

import argparse

from flywheel.base import cli

# Held to learning/trials.py by a test: a command line must not wait for DSPy.
OPTIMIZERS = ("mipro", "gepa", "bootstrap-rs", "labeled")
DEFAULT_PLATEAU_TRIALS, FEWEST_CANDIDATES = 10, 3


def optimizers(text: str) -> tuple[str, ...]:
    """An argparse type: `mipro,labeled` -> ("mipro", "labeled"), without repeats."""
    named = tuple(cli.names([text]))
    unknown = [name for name in named if name not in OPTIMIZERS]
    if unknown or not named:
        msg = f"{text!r}: expected one or several of {', '.join(OPTIMIZERS)}, with commas"
        raise argparse.ArgumentTypeError(msg)
    return named


def fewest_candidates(text: str) -> int:
    """An argparse type: a whole number of at least 3."""
    value = cli.positive_int(text)
    if value < FEWEST_CANDIDATES:
        msg = f"{text!r}: must be at least {FEWEST_CANDIDATES}, or DSPy makes no set of bootstrapped demonstrations"
        raise argparse.ArgumentTypeError(msg)
    return value


def add_optimizers(group: argparse._ActionsContainer) -> None:
    """By what is searched, and when a search ends."""
    add = group.add_argument
    how = (
        f"one of {', '.join(OPTIMIZERS)}; of several (a,b) the cheapest program that is not significantly worse on val"
    )
    add("--optimizer", type=optimizers, default=OPTIMIZERS[0], metavar="NAME[,NAME]", help=how)
    still = "end a search when no full evaluation in N trials improved by more than noise; 0 runs all trials"
    add("--plateau-trials", type=cli.whole_number, default=DEFAULT_PLATEAU_TRIALS, metavar="N", help=still)
    add("--reflection-model", metavar="NAME", help="the model that gepa has reflect (default: the same one)")
