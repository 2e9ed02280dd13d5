"""Stored programs shown to people and scripts: which there are, what one holds, how two differ."""

from __future__ import annotations

import difflib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.base import cli, paths
from flywheel.base.errors import BadInputError, DamagedError
from flywheel.base.files import parse_json, read_text, to_json
from flywheel.base.programs import DEPLOYED, FILE_NAME, LATEST, Program, read_program
from flywheel.base.text import one_line
from flywheel.data.registry import one
from flywheel.ops.program_options import PLAIN

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

    from flywheel.data.signatures.types import Signature

    Plain = Callable[[Signature], Program]
    Render = Callable[[Program, Signature, dict[str, Any] | None], list[dict[str, Any]]]

INPUTS = "an object of inputs by name"


def view(args: argparse.Namespace, table: dict[str, Signature], plain: Plain, render: Render) -> Any:
    """What the asked-for view shows, as JSON; what is for people only goes to stderr."""
    programs = paths.PROGRAMS.resolve(args.programs_dir)
    if args.view == "list":
        return listed(programs, [one(table, args.signature).name] if args.signature else list(table), cli.say)
    signature = one(table, args.signature)
    if args.view == "diff":
        before, after = (find(programs, signature, version, plain) for version in (args.before, args.after))
        lines = difference(before, after)
        for line in lines or ["no difference"]:
            cli.say(line)
        return {"signature": signature.name, "from": args.before, "to": args.after, "diff": lines}
    program = find(programs, signature, args.version, plain)
    if args.view == "show":
        return json.loads(program.to_json())
    return render(program, signature, _inputs(args.input))


def _inputs(source: str | None) -> dict[str, Any] | None:
    if source is None:
        return None
    text = sys.stdin.read() if source == "-" else read_text(Path(source))
    value = parse_json(text, source, INPUTS)
    if not isinstance(value, dict):
        msg = f"{source}: expected {INPUTS}, found {type(value).__name__}"
        raise BadInputError(msg)
    return value


def find(programs: Path, signature: Signature, version: str, plain: Plain) -> Program:
    """The program that `version` names; `plain` makes the one that no optimizer has touched.

    Raises:
        BadInputError: there is none.
        DamagedError: it is not whole.
    """
    if version == PLAIN:
        return plain(signature)
    path = Path(version) if "/" in version else programs / signature.name / version / FILE_NAME
    if not path.is_file():
        msg = f"{path}: no such program; `programs list {signature.name}` shows the versions, {PLAIN} is always there"
        raise BadInputError(msg)
    return read_program(path, signature.name)


def listed(programs: Path, signatures: Sequence[str], tell: Callable[[str], None]) -> list[dict[str, Any]]:
    """Every stored version of the signatures, oldest first; what cannot be read is told and left out."""
    return [row for name in signatures for row in _rows(programs / name, tell)]


def _rows(folder: Path, tell: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    links = {name: (folder / name).resolve().name for name in (LATEST, DEPLOYED) if (folder / name).is_symlink()}
    for path in sorted(folder.glob(f"v*/{FILE_NAME}")):
        try:
            program = read_program(path, folder.name)
        except (BadInputError, DamagedError) as error:
            tell(str(error))
            continue
        version = path.parent.name
        yield {
            "signature": program.signature,
            "version": version,
            **{name: links.get(name) == version for name in (LATEST, DEPLOYED)},
            **_origin(program),
            "path": str(path),
        }


def _origin(program: Program) -> dict[str, Any]:
    scores = program.scores
    return {
        "created": program.created,
        "optimizer": program.optimizer,
        "model": program.model,
        "model_snapshot": program.model_snapshot,
        "dataset_version": program.dataset_version,
        "run_id": program.run_id,
        "demos": len(program.demos),
        "baseline": scores.baseline,
        "optimized": scores.optimized,
        "improvement_percent": scores.improvement_percent,
        "improvement_ci": scores.improvement_ci,
    }


def lines_of(program: Program) -> list[str]:
    """What a program is made of, as lines of text that can be compared."""
    said = [f"{name}: {getattr(program, name)}" for name in ("adapter", "model", "model_snapshot", "model_parameters")]
    fields = [f"{field.role} {field.name}: {field.type} - {field.description}" for field in program.fields]
    demos = [
        line
        for number, demo in enumerate(program.demos, 1)
        for line in (f"demonstration {number}", *to_json(demo).splitlines())
    ]
    return [*said, *fields, "instructions", *program.instructions.splitlines(), *demos]


def difference(before: Program, after: Program) -> list[str]:
    """A unified diff of two programs; empty when they ask alike."""
    old, new = (f"{one_line(p.run_id or PLAIN)} {p.created}".strip() for p in (before, after))
    return list(difflib.unified_diff(lines_of(before), lines_of(after), old, new, lineterm=""))
