"""How often a signature's test split has decided something: test_uses.jsonl beside its versions.

Every look at the same test examples raises the chance that a worse program passes by luck. So a test generation (the
groups that are in test between two retirements) decides MOST_USES times, each at FAMILY_ALPHA / MOST_USES (Bonferroni
1936), which keeps the chance of any false verdict of the generation at FAMILY_ALPHA. Then it retires into train, which
is the only move there is, and groups that come afterwards form the next. Who looks at test examples spends it too.

A use is recorded before its verdict is known; a run that is repeated after a crash uses it no second time.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flywheel.base.clock import iso
from flywheel.base.errors import BadInputError, DamagedError
from flywheel.base.files import to_json
from flywheel.base.lines import append_lines, read_lines
from flywheel.data.publishing import writer_lock
from flywheel.data.split_file import append_splits, read_splits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

USES_FILE = "test_uses.jsonl"
MOST_USES = 4
FAMILY_ALPHA = 0.05
USE, REVEAL, RETIRE = "use", "reveal", "retire"
_EVENTS = frozenset({USE, REVEAL, RETIRE})


@dataclass(frozen=True)
class Generation:
    """The present test generation: its number (from 1), the runs that used it, and why it was revealed, if it was."""

    number: int
    runs: tuple[str, ...]
    revealed: str | None

    @property
    def spent(self) -> bool:
        """Whether it may decide no more."""
        return self.revealed is not None or len(self.runs) >= MOST_USES

    @property
    def reason(self) -> str:
        """Why it retires, in words."""
        return f"revealed: {self.revealed}" if self.revealed is not None else f"decided {len(self.runs)} times"


def generation(root: Path, signature: str) -> Generation:
    """The present generation.

    Raises:
        DamagedError: a line that is none of ours.
    """
    number, revealed = 1, None
    runs: list[str] = []
    for row in _rows(root, signature):
        if row["event"] == RETIRE:
            number, runs, revealed = row["generation"] + 1, [], None
        elif row["event"] == USE:
            runs.append(row["run_id"])
        else:
            revealed = row["reason"]
    return Generation(number, tuple(runs), revealed)


def used(root: Path, signature: str, run_id: str) -> bool:
    """Whether the run has used any generation.

    Raises:
        DamagedError: a line that is none of ours.
    """
    return any(row["event"] == USE and row["run_id"] == run_id for row in _rows(root, signature))


def _rows(root: Path, signature: str) -> Iterator[dict[str, Any]]:
    path = root / signature / USES_FILE
    for number, line in enumerate(read_lines(path), 1):
        yield _row(line, f"{path}, line {number}")


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
        known = row["event"] in _EVENTS and isinstance(row["generation"], int)
        known = known and isinstance(row["run_id" if row["event"] == USE else "reason"], str)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        msg = f"{where}: expected an event of the test split's use"
        raise DamagedError(msg) from error
    if not known:
        msg = f"{where}: expected one of {', '.join(sorted(_EVENTS))} with its generation and run_id or reason"
        raise DamagedError(msg)
    return dict(row)


def _append(root: Path, signature: str, **row: object) -> None:
    append_lines(root / signature / USES_FILE, to_json(row, None))


def alpha_for(root: Path, signature: str, run_id: str | None = None) -> float:
    """The two-sided error rate (0-1) that the next verdict on the signature's test split may take, or `run_id`'s own.

    Raises:
        BadInputError: the generation is spent and no new one was begun.
    """
    present = generation(root, signature)
    if present.spent and not (run_id and used(root, signature, run_id)):
        msg = (
            f"{signature}: the test split has decided {MOST_USES} times or was revealed; `dataset_manager.py add` "
            "retires it into train and fills the next one with new groups"
        )
        raise BadInputError(msg)
    return FAMILY_ALPHA / MOST_USES


def record_use(root: Path, signature: str, run_id: str, version: str, moment: datetime) -> float:
    """Record, durably, that a verdict is about to be made on the test split; the error rate that it may take.

    Asked again for the same run it records nothing and gives the same rate.

    Raises:
        BadInputError: as `alpha_for`.
    """
    with writer_lock(root, signature):
        present = generation(root, signature)
        alpha = alpha_for(root, signature, run_id)
        if not used(root, signature, run_id):
            _append(
                root, signature, event=USE, generation=present.number, use=len(present.runs) + 1, run_id=run_id,
                dataset_version=version, alpha=alpha, at=iso(moment),
            )  # fmt: skip
    return alpha


def reveal(root: Path, signature: str, reason: str, moment: datetime) -> None:
    """Record that somebody is about to look at test examples: the generation retires with the next version."""
    with writer_lock(root, signature):
        present = generation(root, signature)
        if present.revealed is None:
            _append(root, signature, event=REVEAL, generation=present.number, reason=reason, at=iso(moment))


def settle(root: Path, signature: str, moment: datetime) -> int:
    """Retire a spent generation into train; how many group names moved. The caller holds the signature's lock.

    The moves are recorded before the generation's end: whoever is killed in between is completed by the next one.
    """
    present = generation(root, signature)
    if not present.spent:
        return 0
    moved = {name: "train" for name, split in read_splits(root, signature).items() if split == "test"}
    append_splits(root, signature, moved, moment, retired=present.number)
    _append(
        root, signature, event=RETIRE, generation=present.number, reason=present.reason, groups=len(moved),
        at=iso(moment),
    )  # fmt: skip
    return len(moved)
