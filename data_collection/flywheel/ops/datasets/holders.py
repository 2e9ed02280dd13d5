"""Who else has an example: the files of runs, their caches, and programs; looking, and taking it out."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flywheel.base.files import sync_folder, to_json, write_atomic
from flywheel.base.programs import FILE_NAME, deployed_program
from flywheel.ops.datasets.archiving import tested_modules
from flywheel.ops.runs import SUMMARY

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from flywheel.data.target import Target

CACHE = "cache"
_LINES = ".jsonl"
_JSON = frozenset({".json", _LINES})


@dataclass(frozen=True)
class HeldProgram:
    """A stored program: whether it shows the example, and whether something serves it (deployed, or in a rollout)."""

    path: Path
    dataset_version: str
    shows: bool
    serving: bool


def changed_text(target: Target, path: Path) -> str | None:
    """What the file would hold without the example; None where it does not hold it, or is no text."""
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError:
        return None
    without = text
    if path.suffix == _LINES:
        without = "".join(_without(target, line) for line in text.splitlines(keepends=True))
    elif path.suffix in _JSON:
        without = _without(target, text)
    without = target.redacted(without)
    return without if without != text else None


def _without(target: Target, text: str) -> str:
    """JSON text without the example; as it is where it is none, or does not hold it."""
    try:
        value, count = target.without(json.loads(text))
    except (ValueError, RecursionError):
        return text
    return to_json(value, 2 if text.lstrip().startswith(("{\n", "[\n")) else None) if count else text


def run_files(target: Target, runs: Path) -> Iterator[tuple[Path, str]]:
    """The files of runs that hold the example, with what they would be without it; caches are another matter."""
    for folder in sorted(runs.glob("run_*")):
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink() and CACHE not in path.relative_to(folder).parts:
                text = changed_text(target, path)
                if text is not None:
                    yield path, text


def caches(target: Target, runs: Path, versions: Collection[str], hit: Collection[Path]) -> Iterator[Path]:
    """The caches of runs that worked on one of the dataset's `versions` or have a `hit` among their files.

    What models were asked stands in them in pieces of their own, so that they go as a whole.
    """
    for folder in sorted(runs.glob("run_*")):
        worked = _dataset_version(folder / SUMMARY, target.signature.name) in versions
        if (folder / CACHE).is_dir() and (worked or any(path.is_relative_to(folder) for path in hit)):
            yield folder / CACHE


def runs_on(runs: Path, signature: str, versions: Collection[str]) -> list[str]:
    """The runs that worked on one of the dataset's versions."""
    found = sorted(runs.glob("run_*"))
    return [folder.name for folder in found if _dataset_version(folder / SUMMARY, signature) in versions]


def _dataset_version(summary: Path, signature: str) -> str | None:
    try:
        version = json.loads(summary.read_bytes())["signatures"][signature]["dataset_version"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # a run without a whole summary worked on nothing that is known
    return version if isinstance(version, str) else None


def programs_of(target: Target, programs: Path, experiments: Path) -> list[HeldProgram]:
    """Every stored program of the signature, and every one in a live rollout of it."""
    name = target.signature.name
    deployed = deployed_program(programs, name)
    serving = {path.resolve() for path in (deployed, *tested_modules(experiments, name)) if path is not None}
    stored = {path.resolve() for path in (programs / name).glob(f"v*/{FILE_NAME}")}
    return [
        HeldProgram(
            path, str(_envelope(path).get("dataset_version")), changed_text(target, path) is not None, path in serving
        )
        for path in sorted(stored | {path for path in serving if path.is_file()})
    ]


def _envelope(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def take_out(target: Target, path: Path) -> None:
    """Rewrite the file without the example."""
    text = changed_text(target, path)
    if text is not None:
        write_atomic(path, text)


def remove_cache(cache: Path) -> None:
    """Remove a run's cache; a run that still uses it asks its model again."""
    shutil.rmtree(cache, ignore_errors=False)
    sync_folder(cache.parent)
