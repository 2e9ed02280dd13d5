"""What a dataset refused, and why: refused.jsonl beside its versions, ids only."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from flywheel.base.clock import iso
from flywheel.base.files import to_json
from flywheel.base.lines import append_lines, read_lines

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from pathlib import Path

REFUSED_FILE = "refused.jsonl"
DUPLICATE, BRIDGES, TOO_MANY, PURGED = "duplicate", "bridges_splits", "group_over_share", "purged"


@dataclass(frozen=True)
class Refusal:
    """One refused example: a countable reason, and which it repeats or which group it is of, where there is one."""

    example_id: str
    reason: str
    of: str | None = None
    ratio: float | None = None


def append_refusals(root: Path, signature: str, refusals: Iterable[Refusal], source: str, moment: datetime) -> None:
    """Keep the refusals; the caller holds the signature's lock.

    An example that is stored itself was not refused, and what was refused for the same reason before stands there.
    """
    path = root / signature / REFUSED_FILE
    kept = {(row["example_id"], row["reason"]) for row in map(json.loads, read_lines(path))}
    rows = [r for r in refusals if r.of != r.example_id and (r.example_id, r.reason) not in kept]
    lines = [
        to_json({"refused_at": iso(moment), "source": source, **asdict(r)}, None)
        for r in sorted(rows, key=lambda r: (r.example_id, r.reason))
    ]
    append_lines(path, "".join(lines))
