"""What every command of dataset_manager.py has: its name, its help from its docstring, where the datasets are."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from flywheel.base import cli, paths
from flywheel.data.registry import all_signatures, chosen, one

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from flywheel.data.signatures.types import Signature

Commands = argparse._SubParsersAction  # noqa: SLF001 - what add_subparsers() returns has no public name


def add_command(
    commands: Commands[argparse.ArgumentParser],
    name: str,
    function: Callable[[argparse.Namespace], int],
    *,
    every_signature: bool = False,
) -> argparse.ArgumentParser:
    """A subcommand that calls `function`; with `every_signature`, --signature may be left out for all of them."""
    text = (function.__doc__ or "").strip()
    sub = commands.add_parser(name, help=text, description=text, formatter_class=cli.HelpFormatter, allow_abbrev=False)
    sub.set_defaults(function=function)
    which = "the signature (default: all that have datasets)" if every_signature else "the signature"
    sub.add_argument("--signature", required=not every_signature, metavar="NAME", help=which)
    cli.add_place(sub, "--data-dir", paths.DATASETS)
    cli.add_signature_file(sub)
    return sub


def the_signature(args: argparse.Namespace) -> Signature:
    """The signature that --signature names; BadInputError lists the known ones."""
    return one(all_signatures(args.signature_file), args.signature)


def the_signatures(args: argparse.Namespace) -> list[Signature]:
    """The one that --signature names, else every known one that has a folder of datasets."""
    table = all_signatures(args.signature_file)
    if args.signature is not None:
        return [one(table, args.signature)]
    return [signature for signature in chosen(table, None) if (data_root(args) / signature.name).is_dir()]


def data_root(args: argparse.Namespace) -> Path:
    """The folder of datasets."""
    return paths.DATASETS.resolve(args.data_dir)
