"""Versioned datasets: create a version, add to the latest, list, load, compare, verify, archive, trace, purge.

Usage:
  python dataset_manager.py create --signature validate_intent --examples /tmp/validated_data/*.json --source git
  python dataset_manager.py add    --signature validate_intent --examples /tmp/new_examples/*.json --source manual
  python dataset_manager.py list   --signature validate_intent
  python dataset_manager.py load   --signature validate_intent --version v20251104_120000
  python dataset_manager.py diff   --signature validate_intent v20251004_120000 latest
  python dataset_manager.py verify
  python dataset_manager.py archive --older-than 90 --dry-run
  python dataset_manager.py lineage --example-id 5f0c1e2d3a4b5c6d7e8f9012
  python dataset_manager.py purge   --example-id 5f0c1e2d3a4b5c6d7e8f9012 --reason "a person's request" --erase

`create` makes a version of just these examples, `add` one of the latest plus these; without a subcommand it is
`create`. A version appears whole or not at all, and is never edited. Examples get an id, a split that their group
keeps for ever, and a quality score where they have none.

Exit codes: 0 done (also when nothing was new), 1 nothing to store, verify found flaws, or a program in use still shows
what was erased, 2 bad input or damaged data.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from flywheel.base import cli
from flywheel.base.errors import NO, OK
from flywheel.base.text import visible
from flywheel.data.registry import all_signatures, one
from flywheel.ops.datasets import archiving, purging, reading
from flywheel.ops.datasets.command import add_command, data_root, the_signature

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Collection, Sequence

    from flywheel.data.additions import Added
    from flywheel.data.metadata import DatasetMetadata


def store(args: argparse.Namespace, *, onto_latest: bool) -> int:
    """The create and add commands."""
    from flywheel.base.clock import now
    from flywheel.data.additions import Sharing, add_examples
    from flywheel.data.loading import load_examples
    from flywheel.data.publishing import Batch

    table = all_signatures(args.signature_file)
    signature = one(table, args.signature)
    loaded = load_examples([Path(path) for path in args.examples], table, signature)
    for path in loaded.passed_over:
        cli.say(f"passed over {path}: examples of another signature")
    if loaded.rejected:
        first = loaded.rejected[0].detail
        cli.say(f"left out {len(loaded.rejected)} malformed example(s), first: {first}; data_validator.py lists all")
    offered = loaded.examples.get(signature.name, [])
    if not offered:
        cli.say(f"{signature.name}: nothing to store in {len(loaded.files)} file(s)")
        return NO
    batch = Batch(args.source, args.notes, now())
    root = data_root(args)
    sharing = Sharing(args.split, args.temporal_holdout)
    added = add_examples(root, signature, offered, batch, onto_latest=onto_latest, sharing=sharing)
    _say_added(signature.name, added)
    return OK


def _say_added(signature: str, added: Added) -> None:
    refused = ", ".join(f"{n} {reason}" for reason, n in added.refused.items())
    cli.say(f"{signature}: {added.new} new of {added.offered}{f' (refused: {refused})' if refused else ''}")
    if added.retired:
        cli.say(f"{signature}: the test split was used up and is training data now")
    if added.metadata is not None and (added.new or added.retired):
        splits = ", ".join(f"{n} {name}" for name, n in added.metadata.statistics.splits.items())
        cli.say(f"{signature}: {added.metadata.version} has {added.metadata.example_count} examples ({splits})")
        cli.emit(added.metadata.version)


def create(args: argparse.Namespace) -> int:
    """Make a new version of just the given examples."""
    return store(args, onto_latest=False)


def add(args: argparse.Namespace) -> int:
    """Make a new version of the latest one plus the given examples."""
    return store(args, onto_latest=True)


def list_versions(args: argparse.Namespace) -> int:
    """Show the stored versions, oldest first."""
    from flywheel.base.files import to_json
    from flywheel.data.archive_file import is_archive
    from flywheel.data.store import places, versions

    signature = the_signature(args)
    found = versions(data_root(args), signature.name)
    archived = {name for name, place in places(data_root(args), signature.name).items() if is_archive(place)}
    if args.json:
        cli.emit(to_json([metadata.model_dump(mode="json") for metadata in found]).rstrip())
    else:
        for line in _table(found, archived):
            cli.emit(visible(line))
    if not found:
        cli.say(f"{signature.name}: no versions yet; `dataset_manager.py create` makes the first")
    return OK


def _table(found: Sequence[DatasetMetadata], archived: Collection[str]) -> list[str]:
    if not found:
        return []
    lines = [f"{'version':18} {'examples':>8} {'quality':>7}  {'train/val/test':14}  sources"]
    for metadata in found:
        facts = metadata.statistics
        splits = "/".join(str(facts.splits.get(split, 0)) for split in ("train", "val", "test"))
        sources = ", ".join(f"{name} {count}" for name, count in facts.sources.items())
        mean, sources = facts.quality_scores.mean, sources + " (archived)" * (metadata.version in archived)
        lines.append(f"{metadata.version:18} {metadata.example_count:>8} {mean:>7.1f}  {splits:14}  {sources}")
    return lines


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__ or "")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, function in (("create", create), ("add", add)):
        sub = add_command(commands, name, function)
        sub.add_argument(
            "--examples", required=True, nargs="+", metavar="PATH", help="files or folders of examples, or -: stdin"
        )
        origin = "where they come from, such as git, telemetry"
        sub.add_argument("--source", required=True, type=cli.plain_name, metavar="NAME", help=origin)
        sub.add_argument("--notes", default="", type=cli.plain_text, help="a remark to keep with the version")
        sub.add_argument(
            "--split", type=cli.split_fractions, metavar="TRAIN/VAL/TEST",
            help="shares in percent for new groups (default: 25/25/50 below 200 examples, 20/40/40 above)",
        )  # fmt: skip
        newest = "the newest git and telemetry examples of those that are new go to test"
        sub.add_argument("--temporal-holdout", action="store_true", help=newest)
    add_command(commands, "list", list_versions).add_argument("--json", action="store_true", help="as JSON")
    for noun in (reading, archiving, purging):
        noun.add_commands(commands)
    return parser


def with_command(argv: Sequence[str]) -> list[str]:
    """The arguments with `create` in front when they name no command but flags."""
    bare = bool(argv) and argv[0].startswith("--") and argv[0] != "--help"
    return ["create", *argv] if bare else list(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring for exit codes."""
    args = build_parser().parse_args(with_command(sys.argv[1:] if argv is None else argv))
    function: Callable[[argparse.Namespace], int] = args.function
    return function(args)


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
