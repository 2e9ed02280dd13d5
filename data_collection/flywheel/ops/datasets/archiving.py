"""dataset_manager.py's commands archive and restore."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flywheel.base import cli, paths
from flywheel.base.errors import OK
from flywheel.ops.datasets.command import add_command, data_root, the_signature, the_signatures

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from pathlib import Path

    from flywheel.ops.datasets.command import Commands

OLD_DAYS = 90.0


def add_commands(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add them to the command line."""
    packer = add_command(commands, "archive", archive, every_signature=True)
    age = "only versions that were made more than so many days ago"
    packer.add_argument("--older-than", type=cli.number, default=OLD_DAYS, metavar="DAYS", help=age)
    packer.add_argument("--dry-run", action="store_true", help="print what would be archived and change nothing")
    cli.add_place(packer, "--programs-dir", paths.PROGRAMS)
    cli.add_place(packer, "--experiments-dir", paths.EXPERIMENTS)
    unpacker = add_command(commands, "restore", restore)
    unpacker.add_argument("--version", required=True, metavar="VERSION", help="the archived version to put back")


def archive(args: argparse.Namespace) -> int:
    """Pack old versions into v*.tar.gz: never the latest three, never one that a deployed or tested program names."""
    from flywheel.base.clock import now
    from flywheel.data.archives import archive as pack
    from flywheel.data.archives import due
    from flywheel.data.publishing import writer_lock

    root = data_root(args)
    programs, experiments = paths.PROGRAMS.resolve(args.programs_dir), paths.EXPERIMENTS.resolve(args.experiments_dir)
    total = 0
    for signature in the_signatures(args):
        name = signature.name
        if args.dry_run:
            found = due(root, name, now(), args.older_than, set(_needed(programs, experiments, name)))
            for version in found:
                cli.emit(str(root / name / version))
        else:
            with writer_lock(root, name):
                found = due(root, name, now(), args.older_than, set(_needed(programs, experiments, name)))
                for version in found:
                    cli.emit(str(pack(root, name, version)))
        total += len(found)
    cli.say(f"{'would archive' if args.dry_run else 'archived'} {total} version(s) older than {args.older_than:g} days")
    return OK


def _needed(programs: Path, experiments: Path, signature: str) -> Iterator[str]:
    """The dataset versions that programs in use were made from; one that cannot be read ends the command."""
    from flywheel.base.programs import envelope_signature, read_program
    from flywheel.ops.datasets.in_use import modules_in_use

    for module in sorted(modules_in_use(programs, experiments, signature)):
        if envelope_signature(module) is not None:
            yield read_program(module).dataset_version


def restore(args: argparse.Namespace) -> int:
    """Put an archived version's folder back, byte for byte, and remove its archive."""
    from flywheel.base.errors import BadInputError
    from flywheel.data.archives import restore as unpack
    from flywheel.data.publishing import writer_lock
    from flywheel.data.store import places

    signature, root = the_signature(args), data_root(args)
    if not places(root, signature.name):
        msg = f"{signature.name}: no versions in {root}"
        raise BadInputError(msg)
    with writer_lock(root, signature.name):
        done = unpack(root, signature.name, args.version)
    cli.say(f"{signature.name} {args.version}: {'restored' if done else 'is not archived; nothing to do'}")
    cli.emit(str(root / signature.name / args.version))
    return OK
