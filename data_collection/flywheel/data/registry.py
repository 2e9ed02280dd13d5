"""Which signatures there are: the built-in table plus the user's own files."""

from __future__ import annotations

import os
import stat
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from flywheel.base.cli import names
from flywheel.base.errors import BadInputError, FlywheelError
from flywheel.base.paths import SIGNATURE_FILES
from flywheel.data.signatures import BUILT_IN
from flywheel.data.signatures.types import Signature

if TYPE_CHECKING:
    from collections.abc import Sequence

# What a signature file may raise: it is the user's own code, so none of it is a bug of the tool.
BROKEN = (
    ArithmeticError, AssertionError, AttributeError, EOFError, FlywheelError, ImportError, LookupError, NameError,
    OSError, RuntimeError, SyntaxError, SystemExit, TypeError, ValueError,
)  # fmt: skip


def _refuse_unsafe(path: Path) -> None:
    """A signature file is code: run it only when nobody else can have written it."""
    try:
        status = path.stat()
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror}"
        raise BadInputError(msg) from error
    if not stat.S_ISREG(status.st_mode):
        msg = f"{path}: not a file"
        raise BadInputError(msg)
    if status.st_uid not in {os.geteuid(), 0}:
        msg = f"{path}: belongs to another user (uid {status.st_uid}); it is code, so only your own is run"
        raise BadInputError(msg)
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        msg = f"{path}: writable by others; it is code, so run `chmod go-w {path}` first"
        raise BadInputError(msg)


def _from_file(path: Path) -> list[Signature]:
    _refuse_unsafe(path)
    import runpy

    try:
        defined = runpy.run_path(str(path)).get("SIGNATURES")
    except BROKEN as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        where = f", line {lines[-1]}" if lines else ""
        msg = f"{path}{where}: cannot be run: {type(error).__name__}: {error}"
        raise BadInputError(msg) from error
    if not isinstance(defined, list | tuple) or not all(isinstance(item, Signature) for item in defined):
        msg = f"{path}: must define SIGNATURES = [Signature(...), ...]"
        raise BadInputError(msg)
    return list(defined)


def signature_files(files: Sequence[str] = ()) -> list[Path]:
    """The signature files of FLYWHEEL_SIGNATURES and those of `files`, each once."""
    listed = [part for part in os.environ.get(SIGNATURE_FILES, "").split(os.pathsep) if part]
    return list(dict.fromkeys(Path(item).absolute() for item in (*listed, *files)))


def all_signatures(files: Sequence[str] = ()) -> dict[str, Signature]:
    """Every known signature by name: built-in, from FLYWHEEL_SIGNATURES, and from `files`.

    Raises:
        BadInputError: a file that is unsafe, broken, or names a signature again.
    """
    table = {signature.name: signature for signature in BUILT_IN}
    for path in signature_files(files):
        for signature in _from_file(path):
            if signature.name in table:
                msg = f"{path}: signature {signature.name} exists already; give yours another name"
                raise BadInputError(msg)
            table[signature.name] = signature
    return table


def chosen(table: dict[str, Signature], requested: Sequence[str] | None) -> list[Signature]:
    """The signatures named by `--signatures` (all when none is), in the order given.

    Raises:
        BadInputError: an unknown name; the message lists the known ones.
    """
    wanted = names(requested) if requested else list(table)
    if not wanted:
        msg = f"no signature named; known: {', '.join(table)}"
        raise BadInputError(msg)
    unknown = [name for name in wanted if name not in table]
    if unknown:
        msg = f"unknown signature {', '.join(unknown)}; known: {', '.join(table)}"
        raise BadInputError(msg)
    return [table[name] for name in wanted]


def one(table: dict[str, Signature], name: str) -> Signature:
    """The signature called `name`; BadInputError lists the known ones."""
    return chosen(table, [name])[0]
