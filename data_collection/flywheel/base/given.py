"""Which flags a command line gives, as against those that have their defaults."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def given_flags(parser: argparse.ArgumentParser, argv: Sequence[str] | None, args: argparse.Namespace) -> set[str]:
    """Which of the namespace's names were given on the command line, and are not there by default."""
    absent = object()
    lists = {name for name, value in vars(args).items() if isinstance(value, list)}
    marked = argparse.Namespace(**{name: [] if name in lists else absent for name in vars(args)})
    found = vars(parser.parse_args(argv, marked))
    return {name for name, value in found.items() if value is not absent and value != []}
