"""What every script's command line shares: the boundary that turns errors into exit codes, types, common flags."""

from __future__ import annotations

import argparse
import errno
import io
import math
import os
import signal
import sys
import traceback
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

from flywheel.base.errors import BUG, INTERRUPTED, USAGE, FlywheelError
from flywheel.base.text import one_line, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    from flywheel.base.paths import Place

ERROR_LIMIT = 600
# train, val, test
SPLITS = 3
# What the machine refuses without naming a file, for example when stdout is a file on a full disk.
MACHINE_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG})


def say(message: str = "") -> None:
    """Print for people, safely for a terminal: progress and logs go to stderr, stdout belongs to results."""
    print(visible(message), file=sys.stderr, flush=True)  # noqa: T201 - the one door for people


def emit(text: str) -> None:
    """Print a result on stdout."""
    print(text, flush=True)  # noqa: T201 - the one door for results


def emit_json(value: Any) -> None:
    """Print a JSON result on stdout, indented."""
    from flywheel.base.files import to_json

    emit(to_json(value).rstrip())


def _report_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> NoReturn:
    traceback.print_exception(kind, error, trace)
    say("This is a bug in the tool, not in your input. Please report it with the lines above.")
    raise SystemExit(BUG)


def run(main: Callable[[], int]) -> int:
    """Call a script's `main` and return its exit code: 2 with one line for the user's errors, 130 when interrupted.

    What the machine refuses (a full disk, a folder without permission) counts as the user's. Any other exception is a
    bug: the traceback is printed and the exit code is 3. Results are UTF-8 whatever the locale.
    """
    sys.excepthook = _report_bug
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    try:
        code = main()
        sys.stdout.flush()
    except FlywheelError as error:
        say(f"error: {one_line(str(error), ERROR_LIMIT)}")
        return USAGE
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) went away; point stdout elsewhere so that the exit stays quiet.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        if error.filename is None and error.errno not in MACHINE_ERRORS:
            raise
        where = error.filename if error.filename is not None else "output"
        say(f"error: {one_line(f'{where}: {error.strerror}', ERROR_LIMIT)}")
        return USAGE
    return code


@cache
def columns() -> int:
    """The width of the terminal: COLUMNS, else what it says itself, else 80."""
    told = os.environ.get("COLUMNS", "")
    if told.isdecimal() and int(told) > 0:
        return int(told)
    try:
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or 80  # type: ignore[union-attr]
    except (AttributeError, ValueError, OSError):  # no stdout, or no terminal
        return 80


class HelpFormatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Keeps the paragraphs of a description and adds defaults to options."""

    def __init__(self, prog: str, **layout: Any) -> None:
        # Left to itself, argparse loads shutil, with four compression libraries, to learn the width.
        super().__init__(prog, **{"width": columns() - 2, **layout})

    def _get_help_string(self, action: argparse.Action) -> str | None:
        untold = action.default is None or action.default is False or action.default in ((), [])
        if untold or action.const is not None:
            return action.help
        return super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """Says what is wrong with a command line in one line; the usage is a --help away."""

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        say(f"error: {one_line(message, ERROR_LIMIT)} (see {self.prog} --help)")
        raise SystemExit(USAGE)


def parser(description: str, **kwargs: object) -> argparse.ArgumentParser:
    """An argument parser in the house style; abbreviations are off, since they change meaning as flags are added."""
    return Parser(
        description=description,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
        **kwargs,  # type: ignore[arg-type]
    )


def positive_int(text: str) -> int:
    """An argparse type: a whole number of at least 1."""
    value = whole_number(text)
    if value < 1:
        msg = f"{text!r}: must be at least 1"
        raise argparse.ArgumentTypeError(msg)
    return value


def whole_number(text: str) -> int:
    """An argparse type: a whole number of at least 0."""
    try:
        value = int(text)
    except ValueError as error:
        msg = f"{text!r}: not a whole number"
        raise argparse.ArgumentTypeError(msg) from error
    if value < 0:
        msg = f"{text!r}: must not be negative"
        raise argparse.ArgumentTypeError(msg)
    return value


def number(text: str) -> float:
    """An argparse type: a finite number of at least 0."""
    try:
        value = float(text)
    except ValueError as error:
        msg = f"{text!r}: not a number"
        raise argparse.ArgumentTypeError(msg) from error
    if not math.isfinite(value) or value < 0:
        msg = f"{text!r}: must be a finite number of at least 0"
        raise argparse.ArgumentTypeError(msg)
    return value


def split_fractions(text: str) -> tuple[float, float, float]:
    """An argparse type: `25/25/50` -> (0.25, 0.25, 0.5): train, val and test shares in percent, which sum to 100."""
    try:
        shares = tuple(float(part) / 100 for part in text.split("/"))
    except ValueError as error:
        msg = f"{text!r}: expected three percentages such as 25/25/50"
        raise argparse.ArgumentTypeError(msg) from error
    # Written so that NaN fails, which is neither above nor below anything.
    if len(shares) != SPLITS or not (abs(sum(shares) - 1) <= 1e-9 and min(shares) > 0):
        msg = f"{text!r}: expected three percentages above 0 that sum to 100, such as 25/25/50"
        raise argparse.ArgumentTypeError(msg)
    return shares[0], shares[1], shares[2]


def plain_text(text: str) -> str:
    """An argparse type: text that any terminal, log or JSON reader can take."""
    if visible(text) != text:
        msg = f"{text!a}: holds control, hidden or undecodable characters"
        raise argparse.ArgumentTypeError(msg)
    return text


def plain_name(text: str) -> str:
    """An argparse type: plain text on one line, not empty."""
    name = one_line(plain_text(text))
    if name != text or not name:
        msg = f"{text!r}: expected a name on one line of at most 200 characters, without blanks around it"
        raise argparse.ArgumentTypeError(msg)
    return name


def positive_number(text: str) -> float:
    """An argparse type: a finite number above 0."""
    value = number(text)
    if not value:
        msg = f"{text!r}: must be above 0"
        raise argparse.ArgumentTypeError(msg)
    return value


def names(values: Sequence[str] | None) -> list[str]:
    """`A B`, `A,B` and `A, B` alike, without repeats, in the order given."""
    parts = [part.strip() for value in values or () for part in value.split(",")]
    return list(dict.fromkeys(part for part in parts if part))


def add_place(target: argparse._ActionsContainer, flag: str, place: Place) -> None:
    """A flag for one of the places; its help names the environment variable and the default."""
    where = f"{place.purpose} (environment: {place.variable}; default: {place.default})"
    target.add_argument(flag, metavar="PATH", help=where)


def add_signatures(target: argparse._ActionsContainer) -> None:
    """`--signatures A B` (or A,B) and `--signature-file`, as every collecting script has them."""
    only = "only these signatures, as A B or A,B (default: all)"
    target.add_argument("--signatures", nargs="+", metavar="NAME", help=only)
    add_signature_file(target)


def add_signature_file(target: argparse._ActionsContainer) -> None:
    """`--signature-file`, for signatures of the user's own."""
    target.add_argument(
        "--signature-file", action="append", metavar="FILE", default=[],
        help="Python file that defines SIGNATURES = [Signature(...)]; it is code, so it must be yours and not writable "
        "by others (environment: FLYWHEEL_SIGNATURES, separated by ':')",
    )  # fmt: skip


def existing_paths(values: Sequence[str]) -> list[Path]:
    """The paths, each of which must exist.

    Raises:
        FlywheelError: one does not.
    """
    from pathlib import Path

    from flywheel.base.errors import BadInputError

    paths = [Path(value) for value in values]
    for path in paths:
        if not path.exists():
            msg = f"{path}: no such file or folder"
            raise BadInputError(msg)
    return paths
