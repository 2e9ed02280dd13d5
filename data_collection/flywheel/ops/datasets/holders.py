"""Who else has an example: the files of runs, their caches, programs and what lies beside them; looking, taking out."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flywheel.base.files import locked, sync_folder, to_json, write_atomic
from flywheel.base.programs import FILE_NAME, WAITING
from flywheel.ops.datasets.in_use import modules_in_use
from flywheel.ops.runs import SUMMARY

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from flywheel.data.target import Target

CACHE = "cache"
SERVING, STORED = "serving", "stored"
_JSON, _LINES = ".json", ".jsonl"


@dataclass(frozen=True)
class HeldProgram:
    """A program: serving (deployed, or in a rollout), waiting (for its next test) or stored.

    `shows`: the example stands in it; `demonstrations` are the numbers, from 1, of those that are the example.
    """

    path: Path
    status: str
    dataset_version: str
    shows: bool
    demonstrations: tuple[int, ...]


def changed_text(target: Target, path: Path) -> str | None:
    """What the file would hold without the example; None where it does not hold it, or is no text."""
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError:
        return None
    if path.suffix == _LINES:
        without = "".join(_without(target, line) for line in text.splitlines(keepends=True))
    else:
        without = _without(target, text) if path.suffix == _JSON else target.redacted(text)
    return without if without != text else None


def _without(target: Target, text: str) -> str:
    """JSON without the example, as it is where it does not hold it; text that is no JSON without its texts."""
    try:
        value, count = target.without(json.loads(text))
        return to_json(value, 2 if text.lstrip().startswith(("{\n", "[\n")) else None) if count else text
    except (ValueError, RecursionError):
        return target.redacted(text)


def _files(folder: Path) -> Iterator[Path]:
    """The files below the folder, in order; links are not followed."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())


def run_files(target: Target, runs: Path) -> list[Path]:
    """The files of runs that hold the example; caches are another matter."""
    return [
        path
        for folder in sorted(runs.glob("run_*"))
        for path in _files(folder)
        if CACHE not in path.relative_to(folder).parts and changed_text(target, path) is not None
    ]


def caches(target: Target, runs: Path, versions: Collection[str], hit: Collection[Path]) -> list[Path]:
    """The caches of runs that worked on one of the dataset's `versions`, or have a `hit` among their files.

    What models were asked and answered stands in them in pieces of their own, so that they go as a whole; so do those
    of runs that no longer say what they worked on.
    """
    found = []
    for folder in sorted(runs.glob("run_*")):
        known, version = _dataset_version(folder / SUMMARY, target.signature.name)
        had = not known or version in versions or any(path.is_relative_to(folder) for path in hit)
        if (folder / CACHE).is_dir() and had:
            found.append(folder / CACHE)
    return found


def runs_on(runs: Path, signature: str, versions: Collection[str]) -> list[str]:
    """The runs that worked on one of the dataset's versions."""
    found = sorted(runs.glob("run_*"))
    return [folder.name for folder in found if _dataset_version(folder / SUMMARY, signature)[1] in versions]


def _dataset_version(summary: Path, signature: str) -> tuple[bool, str | None]:
    """Whether the run's summary can be read, and which version of the signature's dataset it worked on, if any."""
    try:
        results = json.loads(summary.read_bytes())["signatures"]
        version = results.get(signature, {}).get("dataset_version")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False, None
    return True, version if isinstance(version, str) else None


def programs_of(target: Target, programs: Path, experiments: Path) -> list[HeldProgram]:
    """Every stored program of the signature, the one that waits, and every one that serves, wherever it is."""
    own = programs / target.signature.name
    serving = modules_in_use(programs, experiments, target.signature.name)
    stored = {path.resolve() for path in own.glob(f"v*/{FILE_NAME}")}
    waiting = (own / WAITING / FILE_NAME).resolve()
    every = stored | {path for path in (*serving, waiting) if path.is_file()}
    return [_held(target, path, _status(path, serving, waiting)) for path in sorted(every)]


def _status(path: Path, serving: Collection[Path], waiting: Path) -> str:
    return SERVING if path in serving else WAITING if path == waiting else STORED


def _held(target: Target, path: Path, status: str) -> HeldProgram:
    envelope = _envelope(path)
    demos = envelope.get("demos")
    numbers = [n for n, demo in enumerate(demos if isinstance(demos, list) else [], 1) if target.is_copy(demo)]
    shows = changed_text(target, path) is not None
    return HeldProgram(path, status, str(envelope.get("dataset_version")), shows, tuple(numbers))


def _envelope(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def files_beside(target: Target, programs: Path) -> list[Path]:
    """What else holds the example among the signature's programs: canaries."""
    own = programs / target.signature.name
    beside = (path for path in _files(own) if path.name != FILE_NAME and not path.is_relative_to(own / WAITING))
    return [path for path in beside if changed_text(target, path) is not None]


def take_out(target: Target, path: Path) -> None:
    """Rewrite the file without the example."""
    text = changed_text(target, path)
    if text is not None:
        write_atomic(path, text)


def remove_cache(cache: Path) -> None:
    """Remove a run's cache; a run that still uses it asks its model again."""
    shutil.rmtree(cache)
    sync_folder(cache.parent)


def drop_waiting(programs: Path, signature: str) -> None:
    """Remove the candidate that waits: its evidence is of a program that shows the example."""
    own = programs / signature
    with locked(own / ".lock"):
        shutil.rmtree(own / WAITING)
        sync_folder(own)
