"""dataset_manager.py's commands that only look: load, show, diff, verify, export."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.base import cli, paths
from flywheel.base.errors import NO, OK
from flywheel.base.text import one_line, visible
from flywheel.ops.datasets.command import add_command, data_root, the_signature, the_signatures

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from flywheel.data.metadata import DatasetMetadata
    from flywheel.ops.datasets.command import Commands

FORMATS = ("json", "jsonl", "dspy", "hf", "parquet")
SHOWN = 10


def add_commands(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add them to the command line."""
    formats = "json and jsonl as stored; dspy: input_keys and the splits' fields; hf: flat rows for Hugging Face"
    loader = add_command(commands, "load", load)
    _add_version(loader, "which version to print")
    loader.add_argument("--format", choices=FORMATS, default=FORMATS[0], help=formats)
    shown = add_command(commands, "show", show)
    _add_version(shown, "which version to show")
    shown.add_argument("--json", action="store_true", help="its metadata.json")
    compared = add_command(commands, "diff", diff)
    compared.add_argument("old", metavar="A", help="a version, or `latest`")
    compared.add_argument("new", metavar="B", help="a version, or `latest`")
    compared.add_argument("--json", action="store_true", help="as JSON, with every example's id")
    checked = add_command(commands, "verify", verify, every_signature=True)
    checked.add_argument("--version", metavar="VERSION", help="only this one (default: all, and what is between them)")
    checked.add_argument("--json", action="store_true", help="as JSON")
    cli.add_place(checked, "--programs-dir", paths.PROGRAMS)
    written = add_command(commands, "export", export)
    _add_version(written, "which version to write")
    written.add_argument("--format", choices=FORMATS, required=True, help=formats)
    target = "file to write, or for hf the folder that datasets.load_dataset() is given"
    written.add_argument("--output", required=True, metavar="PATH", help=target)


def _add_version(sub: argparse.ArgumentParser, text: str) -> None:
    sub.add_argument("--version", default="latest", metavar="VERSION", help=text)


def load(args: argparse.Namespace) -> int:
    """Print a version's examples, after checking them against their checksums."""
    import json

    from flywheel.base.errors import BadInputError
    from flywheel.data.exports import JSON, PARQUET, as_parquet, as_text
    from flywheel.data.store import DATASET, load_files

    if args.format == PARQUET and sys.stdout.isatty():
        msg = "parquet is no text for a terminal; write it to a file with `export --format parquet --output FILE`"
        raise BadInputError(msg)
    signature = the_signature(args)
    metadata, files = load_files(data_root(args), signature.name, args.version)
    cli.say(f"{signature.name} {metadata.version}: {metadata.example_count} examples")
    if args.format == JSON:
        cli.emit(files[DATASET].decode().rstrip())
    elif args.format == PARQUET:
        sys.stdout.buffer.write(as_parquet(json.loads(files[DATASET]), signature))
    else:
        cli.emit(as_text(json.loads(files[DATASET]), signature, args.format).rstrip("\n"))
    return OK


def export(args: argparse.Namespace) -> int:
    """Write a version's examples to a file, or a folder that other tools read."""
    from flywheel.data import exports
    from flywheel.data.store import load_rows

    signature = the_signature(args)
    metadata, rows = load_rows(data_root(args), signature.name, args.version)
    written = exports.export(rows, signature, args.format, Path(args.output).absolute())
    names = ", ".join(path.name for path in written)
    cli.say(f"{signature.name} {metadata.version}: {metadata.example_count} examples as {args.format} ({names})")
    cli.emit(args.output)
    return OK


def show(args: argparse.Namespace) -> int:
    """Show what a version is made of and where it came from."""
    from flywheel.base.files import to_json
    from flywheel.data.archive_file import is_archive
    from flywheel.data.store import find, read_metadata

    signature = the_signature(args)
    place = find(data_root(args), signature.name, args.version)
    metadata = read_metadata(place)
    if args.json:
        cli.emit(to_json(metadata.model_dump(mode="json")).rstrip())
        return OK
    for line in _described(metadata, archived=is_archive(place)):
        cli.emit(visible(line))
    return OK


def _described(metadata: DatasetMetadata, *, archived: bool) -> list[str]:
    facts, scores = metadata.statistics, metadata.statistics.quality_scores
    lines = {
        "signature": metadata.signature,
        "version": f"{metadata.version}{' (archived)' if archived else ''}, number {metadata.sequence}",
        "created": metadata.created,
        "made from": metadata.parent_version or "nothing before it",
        "batch": metadata.source,
        "notes": one_line(metadata.notes),
        "examples": str(metadata.example_count) + (f", {len(metadata.erased)} erased" if metadata.erased else ""),
        "quality": f"mean {scores.mean:.1f}, median {scores.median:.1f}, {scores.min:.1f} to {scores.max:.1f}",
        "splits": _counts(facts.splits, ("train", "val", "test")),
        "sources": _counts(facts.sources),
        "difficulty": _counts(facts.difficulty, ("easy", "medium", "hard")),
        "categories": _counts(facts.categories),
        "label": _counts(facts.completeness or {}),
        "hash": metadata.content_hash,
    }
    return [f"{name:10}  {value}" for name, value in lines.items() if value]


def _counts(counts: Mapping[str, int], order: Sequence[str] = ()) -> str:
    names = [*(name for name in order if name in counts), *(name for name in counts if name not in order)]
    return ", ".join(f"{one_line(name, 60)} {counts[name]}" for name in names)


def diff(args: argparse.Namespace) -> int:
    """Say which examples B has that A has not, and the other way round."""
    from flywheel.base.files import to_json
    from flywheel.data.store import load_rows

    signature = the_signature(args)
    root = data_root(args)
    (old, before), (new, after) = (load_rows(root, signature.name, version) for version in (args.old, args.new))
    one, other = ({row["id"]: row for row in rows} for rows in (before, after))
    found = {
        "added": [key for key in other if key not in one],
        "removed": [key for key in one if key not in other],
        "changed": [key for key in other if key in one and one[key] != other[key]],
    }
    if args.json:
        cli.emit(to_json({"signature": signature.name, "old": old.version, "new": new.version, **found}).rstrip())
        return OK
    counts = ", ".join(f"{len(keys)} {name}" for name, keys in found.items())
    cli.emit(f"{old.version} ({old.example_count}) -> {new.version} ({new.example_count}): {counts}")
    for name, keys in found.items():
        for key in keys[:SHOWN]:
            cli.emit(visible(f"  {name:7}  {_line((other if key in other else one)[key])}"))
        if len(keys) > SHOWN:
            cli.emit(f"  {name:7}  and {len(keys) - SHOWN} more; --json lists them all")
    return OK


def _line(row: Mapping[str, Any]) -> str:
    first = next((str(value) for value in row["inputs"].values()), "")
    return f"{row['id']}  {row['split']:5}  {one_line(str(row['metadata'].get('source')), 20)}  {one_line(first, 60)}"


def verify(args: argparse.Namespace) -> int:
    """Compute everything again from the examples and name what is off; exit code 1 when something is.

    Also proves that no group and no two near-duplicates straddle the splits, and that the deployed program shows no
    test example.
    """
    from flywheel.base.files import to_json
    from flywheel.data.leaks import leaks
    from flywheel.data.verification import verify as verify_all

    report = {}
    for signature in the_signatures(args):
        found = dict(verify_all(data_root(args), signature, args.version))
        if args.version is None:
            programs = paths.PROGRAMS.resolve(args.programs_dir)
            found["leaks"] = list(leaks(data_root(args), signature, programs))
        report[signature.name] = found
    flaws = [flaw for found in report.values() for list_of in found.values() for flaw in list_of]
    if args.json:
        cli.emit(to_json(report).rstrip())
    else:
        for flaw in flaws:
            cli.emit(visible(flaw))
    looked = sum(name not in {"latest", "leaks"} for found in report.values() for name in found)
    cli.say(f"{looked} version(s) of {len(report)} signature(s): {f'{len(flaws)} flaw(s)' if flaws else 'all sound'}")
    return NO if flaws else OK
