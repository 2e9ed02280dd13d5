"""splits.jsonl beside a signature's versions: the split of every group, appended once.

A line says {group, split, assigned_at}; `of` names the group that this one became part of, and `retired` the test
generation that moved into train, the only move there is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flywheel.base.clock import iso
from flywheel.base.errors import DamagedError
from flywheel.base.files import to_json
from flywheel.base.lines import append_lines, read_lines
from flywheel.data.splits import SPLITS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

SPLITS_FILE = "splits.jsonl"


@dataclass(frozen=True)
class Recorded:
    """What splits.jsonl says: the split of each group, of which group it is part where it is of another, what retired.

    `retired` has the test generation of each group that moved into train.
    """

    splits: dict[str, str] = field(default_factory=dict)
    parts: dict[str, str] = field(default_factory=dict)
    retired: dict[str, int] = field(default_factory=dict)

    def held(self, group: str) -> set[str]:
        """Every split that the group was ever in; none for an unknown one."""
        now = {self.splits[group]} if group in self.splits else set()
        return now | ({"test"} if group in self.retired else set())


def read_record(root: Path, signature: str) -> Recorded:
    """Everything recorded so far; a torn last line (a crash while appending) is not.

    Raises:
        DamagedError: a line that is no assignment, or contradicts an earlier one.
    """
    path = root / signature / SPLITS_FILE
    found = Recorded()
    for number, line in enumerate(read_lines(path), 1):
        row = _assignment(line, f"{path}, line {number}")
        group, split = row["group"], row["split"]
        before = found.splits.get(group, split)
        if before == "test" and split == "train" and "retired" in row:
            found.retired[group] = row["retired"]
        elif before != split:
            msg = f"{path}, line {number}: {group} was assigned to {before} before; a split never changes"
            raise DamagedError(msg)
        found.splits[group] = split
        if row.get("of", group) != group:
            found.parts[group] = row["of"]
    return found


def read_splits(root: Path, signature: str) -> dict[str, str]:
    """The split of every group assigned so far; errors as `read_record`."""
    return read_record(root, signature).splits


def _assignment(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
        group, split, whole = row["group"], row["split"], row.get("of", "")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        msg = f'{where}: expected {{"group", "split"}}'
        raise DamagedError(msg) from error
    if not isinstance(group, str) or not isinstance(whole, str) or split not in SPLITS:
        msg = f"{where}: expected a group's name and one of {', '.join(SPLITS)}"
        raise DamagedError(msg)
    return dict(row)


def append_splits(
    root: Path,
    signature: str,
    chosen: Mapping[str, str],
    moment: datetime,
    *,
    parts: Mapping[str, str] | None = None,
    retired: int | None = None,
) -> None:
    """Record assignments durably; the caller holds the signature's lock.

    `parts` has, for groups that are part of another one, its name; `retired` is the test generation that moves.
    """
    if not chosen:
        return
    whole = parts or {}
    lines = [
        to_json(
            {
                "group": group,
                "split": split,
                "assigned_at": iso(moment),
                **({"of": whole[group]} if whole.get(group, group) != group else {}),
                **({"retired": retired} if retired is not None else {}),
            },
            None,
        )
        for group, split in sorted(chosen.items())
    ]
    append_lines(root / signature / SPLITS_FILE, "".join(lines))
