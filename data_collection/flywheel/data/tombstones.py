"""Examples that must never come back: purged.jsonl beside a signature's versions, ids and reasons only."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from flywheel.base.errors import DamagedError
from flywheel.base.files import to_json
from flywheel.base.lines import append_lines, read_lines

if TYPE_CHECKING:
    from pathlib import Path

PURGED_FILE = "purged.jsonl"


@dataclass(frozen=True)
class Tombstone:
    """A purged example. `erase` means that its body must go from everywhere, not only from later versions."""

    example_id: str
    reason: str
    purged_at: str
    erase: bool = False


def tombstones(root: Path, signature: str) -> dict[str, Tombstone]:
    """Every purged example of the signature by id, the latest word on each.

    Raises:
        DamagedError: a line that is no tombstone.
    """
    path = root / signature / PURGED_FILE
    found: dict[str, Tombstone] = {}
    for number, line in enumerate(read_lines(path), 1):
        try:
            stone = Tombstone(**json.loads(line))
        except (ValueError, TypeError, RecursionError) as error:
            msg = f"{path}, line {number}: expected a tombstone"
            raise DamagedError(msg) from error
        found[stone.example_id] = stone
    return found


def purged_ids(root: Path, signature: str) -> frozenset[str]:
    """The ids that must not be added again."""
    return frozenset(tombstones(root, signature))


def append_tombstone(root: Path, signature: str, stone: Tombstone) -> None:
    """Record a tombstone durably; the caller holds the signature's lock."""
    append_lines(root / signature / PURGED_FILE, to_json(asdict(stone), None))
