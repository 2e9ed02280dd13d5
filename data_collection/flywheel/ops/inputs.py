"""The inputs that drift is looked for in: a dataset version's new examples, and production's last days.

Reading is bounded: at most MOST inputs a side, and of telemetry the newest TELEMETRY_BYTES.
"""

from __future__ import annotations

import json
import os
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from flywheel.base.errors import BadInputError, DamagedError
from flywheel.base.files import parse_json, read_text
from flywheel.ops.drift import input_of
from flywheel.ops.observed import DATASETS, Damage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from flywheel.ops.drift import Input
    from flywheel.ops.observed import DatasetFacts

MOST = 300
TELEMETRY_BYTES = 8 << 20
DATASET = "dataset.json"
LATEST_MS = 32_503_680_000_000  # the year 3000
_T = TypeVar("_T")


@dataclass(frozen=True)
class Change:
    """Two samples of a signature's inputs, and since when the newer one is.

    `production` against the newest version, or what that version added against the version before.
    """

    signature: str
    production: bool
    version: str
    since: datetime
    reference: Sequence[Input]
    current: Sequence[Input]


def read_changes(
    versions: Mapping[str, Sequence[DatasetFacts]], telemetry: Path, window: timedelta, now: datetime
) -> tuple[list[Change], list[Damage]]:
    """The samples to compare of every signature, and the datasets that cannot be read."""
    changes: list[Change] = []
    damage: list[Damage] = []
    calls = _recent_calls(telemetry, versions.keys(), now - window)
    for name, known in versions.items():
        try:
            changes += _changes(name, known, calls.get(name, []))
        except (BadInputError, DamagedError) as error:
            damage.append(Damage(DATASETS, f"{known[-1].folder}/{DATASET}", str(error)))
    return changes, damage


def _changes(name: str, known: Sequence[DatasetFacts], calls: Sequence[tuple[datetime, Input]]) -> Iterator[Change]:
    latest = known[-1]
    if len(known) < 2 and not calls:
        return
    rows = _rows(latest)
    if len(known) > 1:
        earlier = _rows(known[-2])
        before = {row["id"] for row in earlier}
        news = [row for row in rows if row["id"] not in before]
        yield Change(name, False, latest.version, latest.created, _sample(earlier), _sample(news))
    if calls:
        inputs = [found for _, found in calls]
        yield Change(name, True, latest.version, min(at for at, _ in calls), _sample(rows, categories=False), inputs)


def _rows(version: DatasetFacts) -> list[dict[str, Any]]:
    path = Path(version.folder) / DATASET
    if not path.exists():  # archived
        return []
    rows = parse_json(read_text(path), str(path), "a dataset")
    sound = isinstance(rows, list) and all(
        isinstance(row, dict)
        and isinstance(row.get("id"), str)
        and isinstance(row.get("inputs"), dict)
        and isinstance(row.get("metadata", {}), dict)
        for row in rows
    )
    if not sound:
        msg = f"{path}: not a dataset's rows with id and inputs"
        raise DamagedError(msg)
    found: list[dict[str, Any]] = rows
    return found


def _sample(rows: Sequence[dict[str, Any]], *, categories: bool = True) -> list[Input]:
    found = []
    for row in _some(rows):
        metadata = row.get("metadata", {})
        category = str(metadata.get("category") or "unknown") if categories else None
        found.append(input_of(str(metadata.get("group") or row["id"]), row["inputs"], category))
    return found


def _recent_calls(folder: Path, signatures: Iterable[str], since: datetime) -> dict[str, list[tuple[datetime, Input]]]:
    """A sample of each signature's recent recorded calls that kept their input; what is no record is passed over."""
    wanted = set(signatures)
    found: dict[str, list[tuple[int, str, dict[str, Any]]]] = {}
    for number, row in enumerate(_newest_rows(folder)):
        name, at, inputs = row.get("signature"), row.get("timestamp_ms"), row.get("input")
        if name not in wanted or not isinstance(inputs, dict) or not inputs or not isinstance(at, int):
            continue
        if since.timestamp() * 1000 <= at <= LATEST_MS:
            found.setdefault(str(name), []).append((at, str(row.get("unit_id") or number), inputs))
    return {
        name: [(datetime.fromtimestamp(at / 1000, UTC), input_of(unit, inputs)) for at, unit, inputs in _some(calls)]
        for name, calls in found.items()
    }


def _some(items: Sequence[_T]) -> Sequence[_T]:
    """At most MOST of the items, chosen by chance but always alike."""
    return random.Random(0).sample(items, MOST) if len(items) > MOST else items  # noqa: S311 - no secret


def _newest_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """The objects in the telemetry's newest bytes, newest first."""
    files = [path for path in folder.glob("*.jsonl") if path.is_file() and not path.is_symlink()]
    left = TELEMETRY_BYTES
    for path in sorted(files, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        lines = _last_lines(path, left)
        left -= sum(map(len, lines))
        for line in reversed(lines):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict):
                yield row
        if left <= 0:
            return


def _last_lines(path: Path, most: int) -> list[bytes]:
    """The whole lines among the file's last bytes; none of a file that has gone or cannot be read."""
    try:
        with path.open("rb") as stream:
            start = max(0, stream.seek(0, os.SEEK_END) - most)
            stream.seek(start)
            lines = stream.read(most).splitlines()
    except OSError:
        return []
    return lines[1:] if start else lines
