"""Going on with a run that was cut short: which one, on whose settings, and never in two processes at once."""

from __future__ import annotations

import contextlib
import os
from dataclasses import asdict, fields
from datetime import datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.base import cli
from flywheel.base.errors import BadInputError, DamagedError, LockedError
from flywheel.base.files import locked
from flywheel.base.lines import mend_tail
from flywheel.base.run_settings import Options
from flywheel.ops.journal import RunJournal
from flywheel.ops.run_options import API_BASE_VARIABLE, MOST_RESUMPTIONS, OLDEST_DAYS, TERMINATED, options_of
from flywheel.ops.run_state import RunState
from flywheel.ops.runs import RunSummary

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

LATEST, UNFINISHED = "latest", "unfinished"
LOCK, CACHE = ".lock", "cache"
GROWING = ("calls.jsonl", "decisions.jsonl")
PREFIX = "run_"
# Where a flag and the setting that it makes have different names.
_SETTINGS = {"timeout": "timeout_hours"}
# What may be given anew: where things are asked and found, not what is asked.
_FREE = frozenset({"api_base", "output_dir", "resume", "retry_failed", "require_model", "signature_file", "command"})


def find(output: Path, wanted: str, now: datetime) -> Path | None:
    """The folder of the run that is meant: its id, its path, `latest` or `unfinished` (None: there is no such run).

    `unfinished` is the newest that was killed or told to end (as a machine that restarts tells all processes), began
    less than OLDEST_DAYS ago, was not resumed MOST_RESUMPTIONS times yet, and is not under way.

    Raises:
        BadInputError: no such run.
    """
    if wanted == UNFINISHED:
        return next((folder for folder in _runs(output) if _to_go_on(folder, now)), None)
    if wanted == LATEST:
        found = next(iter(_runs(output)), None)
        if found is None:
            msg = f"{output}: no runs there; --output-dir names another folder"
            raise BadInputError(msg)
        return found
    folder = Path(wanted).absolute() if "/" in wanted else output / wanted
    if not folder.is_dir():
        msg = f"{folder}: no such run; `ls {output}` shows those there are"
        raise BadInputError(msg)
    return folder


def _runs(output: Path) -> list[Path]:
    """The folders of runs, newest first."""
    return sorted((path for path in output.glob(f"{PREFIX}*") if path.is_dir()), reverse=True)


def _to_go_on(folder: Path, now: datetime) -> bool:
    """What ended by an error, or cannot be read, is not for a job at night to judge; its name can be given by hand."""
    try:
        state, summary = RunState.read(folder), RunSummary.read(folder)
    except (BadInputError, DamagedError):
        return False
    young = now - datetime.fromisoformat(summary.start_time) < timedelta(days=OLDEST_DAYS)
    cut_short = summary.end_time is None or summary.error == TERMINATED
    if state is None or state.finished or not cut_short or not young or len(state.resumed_at) >= MOST_RESUMPTIONS:
        return False
    try:
        with held(folder):
            return True
    except LockedError:
        return False


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the run: it is under way in this process, and in no other. The kernel frees it when the process dies.

    The first time, the lock's file is told with which version of DSPy the run began.

    Raises:
        LockedError: another process has it.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(folder / LOCK, wait=False))
        except LockedError:
            msg = f"{folder.name} is under way in another process; wait for its end, or end it by kill -TERM first"
            raise LockedError(msg) from None
        if not (folder / LOCK).stat().st_size:
            (folder / LOCK).write_text(f"{version('dspy')}\n")
        yield


def require_whole(folder: Path) -> None:
    """Mend what a kill has torn, and see that what was paid for is still there; the caller holds the run.

    Raises:
        BadInputError: the run would ask everything anew; begin a new one.
    """
    for name in GROWING:
        mend_tail(folder / name)
    calls = folder / GROWING[0]
    # Calls without a key, such as the one that tries the model, are not cached.
    answered = calls.is_file() and '"key": "' in calls.read_text(encoding="utf-8")
    if answered and not (folder / CACHE).is_dir():
        msg = f"{folder.name}: its answers were cleaned up since, so every call would be paid again; begin a new run"
        raise BadInputError(msg)
    before, present = (folder / LOCK).read_text().strip(), version("dspy")
    if before != present:
        msg = (
            f"{folder.name} began with DSPy {before}, now it is {present}, whose cache has other keys: every call "
            "would be paid again; put the version back or begin a new run"
        )
        raise BadInputError(msg)


def reopened(folder: Path, args: argparse.Namespace, given: set[str]) -> tuple[RunJournal, Options]:
    """The journal of a run that is to go on, and its settings; the caller holds the run.

    `args` is the command line beside --resume, of which `given` are the names that do not have their defaults.

    Raises:
        BadInputError: there is nothing to go on with, or it would be paid again, or the command line contradicts.
        DamagedError: its files are not whole.
    """
    state = RunState.read(folder)
    if state is None:
        msg = f"{folder.name} cannot be resumed: it has no state, so it was killed before it began; begin a new run"
        raise BadInputError(msg)
    if state.finished:
        msg = f"{folder.name} came to its end, there is nothing to resume; begin a new run"
        raise BadInputError(msg)
    require_whole(folder)
    journal = RunJournal.reopen(folder, state)
    options = recorded(journal.config, folder.name)
    refuse_contradictions(given, options_of(args, args.model or options.model), options)
    refuse_others(args.signatures, list(journal.facts))
    return journal, options


def api_base(args: argparse.Namespace, options: Options) -> str | None:
    """Where the model is asked: the flag, else the environment (None leaves it to that), else where it was."""
    return args.api_base or (None if os.environ.get(API_BASE_VARIABLE) else options.api_base)


def recorded(config: Mapping[str, Any], run_id: str) -> Options:
    """The settings of a run, from its summary's config.

    Raises:
        BadInputError: another version of this system wrote them.
    """
    known = {field.name for field in fields(Options)}
    if config.keys() != known:
        different = ", ".join(sorted(config.keys() ^ known))
        msg = f"{run_id}: another version of this system began it (settings: {different}); begin a new run"
        raise BadInputError(msg)
    settings: dict[str, Any] = {k: tuple(value) if isinstance(value, list) else value for k, value in config.items()}
    return Options(**settings)


def refuse_contradictions(given: set[str], asked: Options, options: Options) -> None:
    """Refuse flags beside --resume that say otherwise than the run's own settings.

    `asked` are the settings that the whole command line comes to, `options` those that the run began with.

    Raises:
        BadInputError: one does; the message names it with both values.
    """
    told, own = asdict(asked), asdict(options)
    for flag in sorted(given - _FREE):
        name = _SETTINGS.get(flag, flag)
        same = told.get(name) == own.get(name) or (name == "model" and own[name].endswith(f"/{told[name]}"))
        if name in own and not same:
            msg = (
                f"--{flag.replace('_', '-')}: asks for {told[name]}, the run has {own[name]}; leave the flag out, or "
                "begin a new run"
            )
            raise BadInputError(msg)


def refuse_others(flag: Sequence[str] | None, run: Sequence[str]) -> None:
    """Refuse other signatures than those of the run, where the flag is given.

    Raises:
        BadInputError: they differ.
    """
    requested = cli.names(flag)
    if requested and sorted(requested) != sorted(run):
        msg = f"--signatures {','.join(requested)}: the run has {','.join(run)}; leave the flag out, or begin a new run"
        raise BadInputError(msg)
