"""dataset_manager.py's commands lineage, purge and retire-test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

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
    from flywheel.ops.datasets.holders import HeldProgram

_LABEL = 22
_ERASED_FIRST = "what still shows it serves: compile and deploy it anew, then run this command again"
_SERVING_SHOWS = "a program that serves shows it; its successor, made from the new version, will not"


@dataclass(frozen=True)
class Places:
    """Where copies of an example may be, besides its dataset."""

    runs: Path
    programs: Path
    experiments: Path
    telemetry: Path

    @classmethod
    def of(cls, args: argparse.Namespace) -> Self:
        """Those that the command line, the environment or the defaults name."""
        return cls(
            paths.RUNS.resolve(args.output_dir),
            paths.PROGRAMS.resolve(args.programs_dir),
            paths.EXPERIMENTS.resolve(args.experiments_dir),
            paths.TELEMETRY.resolve(args.telemetry_dir),
        )


def add_commands(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add them to the command line."""
    for name, function in (("lineage", lineage), ("purge", purge)):
        sub = add_command(commands, name, function, every_signature=True)
        sub.add_argument("--example-id", required=True, type=cli.plain_name, metavar="ID", help="the example")
        cli.add_place(sub, "--output-dir", paths.RUNS)
        cli.add_place(sub, "--programs-dir", paths.PROGRAMS)
        cli.add_place(sub, "--experiments-dir", paths.EXPERIMENTS)
        cli.add_place(sub, "--telemetry-dir", paths.TELEMETRY)
        sub.add_argument("--json", action="store_true", help="as JSON")
        if function is purge:
            sub.add_argument("--reason", required=True, type=cli.plain_name, metavar="TEXT", help="why; kept for ever")
            everywhere = "also take its body out of every version, archive, run, cache, record and unused program"
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


def lineage(args: argparse.Namespace) -> int:
    """Tell every version, run, program, demonstration and recorded call that holds an example."""
    from dataclasses import asdict

    from flywheel.data.tombstones import tombstones
    from flywheel.ops.datasets import holders
    from flywheel.ops.datasets.recordings import records_of

    target, where = _found(args)
    places = Places.of(args)
    name, every = target.signature.name, {*where.versions, *where.erased}
    stone = tombstones(data_root(args), name).get(target.example_id)
    held = [
        program
        for program in holders.programs_of(target, places.programs, places.experiments)
        if program.shows or program.dataset_version in every
    ]
    row = where.row or {"metadata": {}}
    facts = {
        "example_id": target.example_id,
        "signature": name,
        "source": row["metadata"].get("source"),
        "group": row["metadata"].get("group"),
        "tombstone": asdict(stone) if stone is not None else None,
        "versions": where.splits,
        "erased_from": list(where.erased),
        "runs": holders.runs_on(places.runs, name, every),
        "files": list(map(str, _copies(target, places))),
        "records": {str(path): count for path, count in records_of(target, places.telemetry).items()},
        "programs": [{**asdict(program), "path": str(program.path)} for program in held],
    }
    if args.json:
        cli.emit_json(facts)
    else:
        _tell({**facts, "tombstone": stone and f"{stone.reason} ({stone.purged_at[:10]})", **_in_words(facts, held)})
    return OK


def _in_words(facts: Mapping[str, Any], held: list[HeldProgram]) -> dict[str, list[str]]:
    return {
        "versions": [f"{version} ({split})" for version, split in facts["versions"].items()],
        "records": [f"{path}: {count} of its calls" for path, count in facts["records"].items()],
        "programs": [f"{program.path} ({program.status}), {_use(program)}" for program in held],
    }


def _use(program: HeldProgram) -> str:
    if program.demonstrations:
        return f"shows it as demonstration {', '.join(map(str, program.demonstrations))}"
    return "shows part of it" if program.shows else f"was made from {program.dataset_version}, shows nothing of it"


def _copies(target: Target, places: Places) -> list[Path]:
    from flywheel.ops.datasets.holders import files_beside, run_files

    return [*run_files(target, places.runs), *files_beside(target, places.programs)]


def purge(args: argparse.Namespace) -> int:
    """Take an example out of the dataset for good; exit code 1 while a program in use still shows an erased one."""
    from flywheel.base.clock import now
    from flywheel.data import erasure

    target, where = _found(args)
    root, places = data_root(args), Places.of(args)
    version = erasure.purge(root, target, args.reason, now(), erase=args.erase)
    done: dict[str, Any] = {"example_id": target.example_id, "signature": target.signature.name, "new_version": version}
    if args.erase:
        # Its body is what finds its copies: the versions, which have it, come last.
        done |= _erase_elsewhere(target, where, places)
        done["erased_from"] = erasure.erase_from_versions(root, target)
    done["recompile"] = [str(program) for program in _shown(target, places)]
    if args.json:
        cli.emit_json(done)
    else:
        _tell(done)
    if done["recompile"]:
        cli.say(_ERASED_FIRST if args.erase else _SERVING_SHOWS)
    return NO if args.erase and done["recompile"] else OK


def _shown(target: Target, places: Places) -> Iterator[Path]:
    from flywheel.ops.datasets.holders import SERVING, programs_of

    every = programs_of(target, places.programs, places.experiments)
    return (program.path for program in every if program.shows and program.status == SERVING)


def _erase_elsewhere(target: Target, where: Held, places: Places) -> dict[str, list[str]]:
    from flywheel.base.programs import WAITING
    from flywheel.ops.datasets import holders
    from flywheel.ops.datasets.recordings import erase_records, records_of

    files, records = _copies(target, places), records_of(target, places.telemetry)
    # Caches go first: which runs they are of is told by the files.
    emptied = holders.caches(target, places.runs, {*where.versions, *where.erased}, files)
    for cache in emptied:
        holders.remove_cache(cache)
    shown = [p for p in holders.programs_of(target, places.programs, places.experiments) if p.shows]
    if any(program.status == WAITING for program in shown):
        holders.drop_waiting(places.programs, target.signature.name)
    unused = [program.path for program in shown if program.status == holders.STORED]
    for path in [*files, *unused]:
        holders.take_out(target, path)
    for path in records:
        erase_records(target, path)
    told = {"files": files, "records": [*records], "caches": emptied, "programs": unused}
    told["given_up"] = [program.path for program in shown if program.status == WAITING]
    return {name: list(map(str, found)) for name, found in told.items()}


def retire_test(args: argparse.Namespace) -> int:
    """Move the test split into train now, because somebody has seen it; groups that come later form the next."""
    from flywheel.base.clock import now
    from flywheel.data.additions import retire_test as retire

    signature = the_signature(args)
    metadata = retire(data_root(args), signature, args.reason, now()).metadata
    if metadata is not None:
        splits = ", ".join(f"{count} {name}" for name, count in metadata.statistics.splits.items())
        cli.say(f"{signature.name}: {splits}")
        cli.emit(metadata.version)
    return OK


def _tell(facts: Mapping[str, Any]) -> None:
    """One line a fact, further values of it below the first."""
    for name, value in facts.items():
        label = name.replace("_", " ")
        for item in (value or ["none"]) if isinstance(value, list) else [value]:
            cli.emit(visible(f"{label:{_LABEL}}{'none' if item is None else item}"))
            label = ""
