"""dataset_manager.py's commands lineage, purge and retire-test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flywheel.base import cli, paths
from flywheel.base.errors import NO, OK
from flywheel.base.text import visible
from flywheel.ops.datasets.command import add_command, data_root, the_signature, the_signatures

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from flywheel.data.erasure import Held
    from flywheel.data.target import Target
    from flywheel.ops.datasets.command import Commands


def add_commands(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add them to the command line."""
    for name, function in (("lineage", lineage), ("purge", purge)):
        sub = add_command(commands, name, function, every_signature=True)
        sub.add_argument("--example-id", required=True, type=cli.plain_name, metavar="ID", help="the example")
        cli.add_place(sub, "--output-dir", paths.RUNS)
        cli.add_place(sub, "--programs-dir", paths.PROGRAMS)
        cli.add_place(sub, "--experiments-dir", paths.EXPERIMENTS)
        sub.add_argument("--json", action="store_true", help="as JSON")
        if function is purge:
            sub.add_argument("--reason", required=True, type=cli.plain_name, metavar="TEXT", help="why; kept for ever")
            everywhere = "also take its body out of every version, archive, run, cache and unused program"
            sub.add_argument("--erase", action="store_true", help=everywhere)
    retired = add_command(commands, "retire-test", retire_test)
    retired.add_argument("--reason", required=True, type=cli.plain_name, metavar="TEXT", help="why, such as who looked")


def _found(args: argparse.Namespace) -> tuple[Target, Held]:
    """The example among the datasets that are asked for; BadInputError when none of them has it."""
    from flywheel.base.errors import BadInputError
    from flywheel.data.erasure import target_of

    missing = f"no dataset in {data_root(args)}"
    for signature in the_signatures(args):
        try:
            return target_of(data_root(args), signature, args.example_id)
        except BadInputError as error:
            missing = str(error)
    raise BadInputError(missing)


def _places(args: argparse.Namespace) -> tuple[Path, Path, Path]:
    places = (
        (paths.RUNS, args.output_dir),
        (paths.PROGRAMS, args.programs_dir),
        (paths.EXPERIMENTS, args.experiments_dir),
    )
    runs, programs, experiments = (place.resolve(flag) for place, flag in places)
    return runs, programs, experiments


def lineage(args: argparse.Namespace) -> int:
    """Tell every version, run and program that holds an example, or was made from a version that does."""
    from dataclasses import asdict

    from flywheel.data.tombstones import tombstones
    from flywheel.ops.datasets.holders import programs_of, run_files, runs_on

    target, where = _found(args)
    runs, programs, experiments = _places(args)
    name = target.signature.name
    every = {*where.versions, *where.erased}
    stone = tombstones(data_root(args), name).get(target.example_id)
    stored = programs_of(target, programs, experiments)
    row = where.row or {"metadata": {}}
    _print(
        args,
        {
            "example_id": target.example_id,
            "signature": name,
            "source": row["metadata"].get("source"),
            "group": row["metadata"].get("group"),
            "split": row.get("split"),
            "tombstone": asdict(stone) if stone is not None else None,
            "versions": list(where.versions),
            "erased_from": list(where.erased),
            "runs": runs_on(runs, name, every),
            "run_files": [str(path) for path, _ in run_files(target, runs)],
            "programs_made_from_it": [_label(p.path, p.serving) for p in stored if p.dataset_version in every],
            "programs_that_show_it": [_label(p.path, p.serving) for p in stored if p.shows],
        },
    )
    return OK


def _label(path: Path, serving: bool) -> str:  # noqa: FBT001 - a fact about the path
    return f"{path}{' (serving)' if serving else ''}"


def purge(args: argparse.Namespace) -> int:
    """Take an example out of the dataset for good; exit code 1 while a program in use still shows an erased one."""
    from flywheel.base.clock import now
    from flywheel.data import erasure

    target, where = _found(args)
    root = data_root(args)
    version = erasure.purge(root, target, args.reason, now(), erase=args.erase)
    done: dict[str, Any] = {"example_id": target.example_id, "signature": target.signature.name, "version": version}
    if args.erase:
        # Its body is what finds its copies: the versions, which have it, come last.
        done |= _erase_elsewhere(args, target, where)
        done["versions"] = erasure.erase_from_versions(root, target)
    done["recompile"] = [str(program) for program in _shown(args, target)]
    _print(args, done)
    if done["recompile"]:
        cli.say("recompile and deploy anew what still shows it, then run this command again")
    return NO if args.erase and done["recompile"] else OK


def _shown(args: argparse.Namespace, target: Target) -> Iterator[Path]:
    from flywheel.ops.datasets.holders import programs_of

    _, programs, experiments = _places(args)
    return (program.path for program in programs_of(target, programs, experiments) if program.shows and program.serving)


def _erase_elsewhere(args: argparse.Namespace, target: Target, where: Held) -> dict[str, list[str]]:
    from flywheel.ops.datasets.holders import caches, programs_of, remove_cache, run_files, take_out

    runs, programs, experiments = _places(args)
    files = [path for path, _ in run_files(target, runs)]
    # Caches go first: which runs they are of is told by the files.
    emptied = list(caches(target, runs, {*where.versions, *where.erased}, files))
    for cache in emptied:
        remove_cache(cache)
    unused = [p.path for p in programs_of(target, programs, experiments) if p.shows and not p.serving]
    for path in [*files, *unused]:
        take_out(target, path)
    return {"files": [str(p) for p in files], "caches": [str(p) for p in emptied], "programs": [str(p) for p in unused]}


def retire_test(args: argparse.Namespace) -> int:
    """Move the test split into train now, because somebody has seen it; groups that come later form the next."""
    from flywheel.base.clock import now
    from flywheel.base.errors import BadInputError
    from flywheel.data.additions import add_examples
    from flywheel.data.publishing import Batch
    from flywheel.data.store import newest
    from flywheel.data.test_uses import reveal

    signature, root = the_signature(args), data_root(args)
    if newest(root, signature.name) is None:
        msg = f"{signature.name}: no versions in {root}"
        raise BadInputError(msg)
    reveal(root, signature.name, args.reason, now())
    batch = Batch("retire-test", f"test retired into train: {args.reason}", now())
    added = add_examples(root, signature, [], batch, onto_latest=True)
    splits = added.metadata.statistics.splits if added.metadata is not None else {}
    cli.say(f"{signature.name}: {', '.join(f'{count} {name}' for name, count in splits.items())}")
    if added.metadata is not None:
        cli.emit(added.metadata.version)
    return OK


def _print(args: argparse.Namespace, facts: Mapping[str, Any]) -> None:
    from flywheel.base.files import to_json

    if args.json:
        cli.emit(to_json(facts).rstrip())
        return
    for name, value in facts.items():
        shown = value if isinstance(value, list) else [value]
        for item in shown or ["none"]:
            cli.emit(visible(f"{name.replace('_', ' '):22}  {'none' if item is None else item}"))
