"""The newest recorded inputs of a signature, to be run again: by a shadow, before a candidate meets any user."""

from __future__ import annotations

import json
import os
from pathlib import PurePath
from typing import TYPE_CHECKING

from flywheel.base.errors import BadInputError
from flywheel.base.recorded import Recorded
from flywheel.serving.records import BASELINE_VERSION, Interaction, parse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flywheel.serving.experiments import Experiment

# Of each file the end: what is newest, in bounded memory.
MOST_BYTES = 32 << 20


def newest_calls(folder: Path, experiment: Experiment, count: int) -> list[Recorded]:
    """Up to `count` calls of the signature with different inputs, the newest first; an input must have been kept.

    Raises:
        BadInputError: the folder cannot be read.
    """
    modules = (experiment.baseline_module, *(item.module for item in experiment.candidates))
    own = {BASELINE_VERSION, *map(version_of, modules)}
    found: dict[str, Recorded] = {}
    for record in _backwards(folder):
        if record.signature != experiment.signature or not record.input:
            continue
        good = record.success and (record.quality_score or 0.0) >= experiment.config.quality_score
        call = Recorded(record.input, record.output if record.success else {}, good and _version(record) not in own)
        found.setdefault(json.dumps(record.input, sort_keys=True), call)
        if len(found) == count:
            break
    return list(found.values())


def version_of(module: str) -> str:
    """The version that records give a module: our envelopes' folder, else the file's name."""
    path = PurePath(module)
    return path.parent.name if path.name == "program.json" else path.stem


def _version(record: Interaction) -> str:
    version = record.module_version
    return BASELINE_VERSION if isinstance(version, str) else next(iter(version.values()), BASELINE_VERSION)


def _backwards(folder: Path) -> Iterator[Interaction]:
    try:
        files = sorted(folder.glob("*.jsonl"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for path in files:
            for line in reversed(_end(path)):
                record = parse(line)
                if isinstance(record, Interaction):
                    yield record
    except OSError as error:
        msg = f"{error.filename or folder}: cannot be read: {error.strerror}"
        raise BadInputError(msg) from error


def _end(path: Path) -> list[bytes]:
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - MOST_BYTES))
        return stream.read().split(b"\n")
