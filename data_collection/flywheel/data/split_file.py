"""splits.jsonl beside a signature's versions: the split of every group, appended once, never changed."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from flywheel.base.clock import iso
from flywheel.base.errors import DamagedError
from flywheel.base.files import read_text, sync_folder, to_json
from flywheel.data.splits import SPLITS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

SPLITS_FILE = "splits.jsonl"


def read_splits(root: Path, signature: str) -> dict[str, str]:
    """The split of every group assigned so far; a torn last line (a crash while appending) is not one.

    Raises:
        DamagedError: a line that is no assignment, or contradicts an earlier one.
    """
    path = root / signature / SPLITS_FILE
    if not path.is_file():
        return {}
    assigned: dict[str, str] = {}
    for number, line in enumerate(read_text(path).split("\n")[:-1], 1):
        group, split = _assignment(line, f"{path}, line {number}")
        if assigned.setdefault(group, split) != split:
            msg = f"{path}, line {number}: {group} was assigned to {assigned[group]} before; a split never changes"
            raise DamagedError(msg)
    return assigned


def _assignment(line: str, where: str) -> tuple[str, str]:
    try:
        row = json.loads(line)
        group, split = row["group"], row["split"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        msg = f'{where}: expected {{"group", "split"}}'
        raise DamagedError(msg) from error
    if not isinstance(group, str) or split not in SPLITS:
        msg = f"{where}: expected a group's name and one of {', '.join(SPLITS)}"
        raise DamagedError(msg)
    return group, split


def append_splits(root: Path, signature: str, chosen: Mapping[str, str], moment: datetime) -> None:
    """Record new assignments durably; the caller holds the signature's lock."""
    if not chosen:
        return
    path = root / signature / SPLITS_FILE
    lines = [to_json({"group": g, "split": s, "assigned_at": iso(moment)}, None) for g, s in sorted(chosen.items())]
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "r+b") as stream:
        content = stream.read()
        stream.seek(content.rfind(b"\n") + 1)
        stream.truncate()
        stream.write("".join(lines).encode())
        stream.flush()
        os.fsync(stream.fileno())
    if not content:
        sync_folder(path.parent)
