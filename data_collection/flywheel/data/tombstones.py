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
    """A purged example. `erase` means that its body must go from everywhere, not only from later versions.

    `inputs_digest` tells copies of it with other outputs; None where its body was not known.
    """

    example_id: str
    reason: str
    purged_at: str
    inputs_digest: str | None = None
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


@dataclass(frozen=True)
class Purged:
    """What must not be added again: ids of examples, and digests of the inputs of erased ones.

    What was only purged may come back with other outputs, since a wrong label is a reason to purge.
    """

    ids: frozenset[str]
    digests: frozenset[str]


def purged(root: Path, signature: str) -> Purged:
    """Everything of the signature that has a tombstone."""
    stones = tombstones(root, signature)
    digests = {stone.inputs_digest for stone in stones.values() if stone.erase and stone.inputs_digest}
    return Purged(frozenset(stones), frozenset(digests))


def append_tombstone(root: Path, signature: str, stone: Tombstone) -> None:
    """Record a tombstone durably; the caller holds the signature's lock."""
    append_lines(root / signature / PURGED_FILE, to_json(asdict(stone), None))
