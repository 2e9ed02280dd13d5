"""The canary of a deployed program: a few frozen examples, and the scores that it had on them week by week.

Both stand beside the program, so that a new program has a canary of its own: `canary.json` (the examples, chosen once,
never of the test split) and `canary.jsonl` (one line a score). This module knows no DSPy: monitoring reads it.
"""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from flywheel.base.errors import BadInputError, DamagedError
from flywheel.base.files import PRIVATE_FILE, parse_json, read_json_object, read_text, sync_folder, to_json, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SCHEMA_VERSION = 1
YEARS = range(1971, 3000)
EXAMPLES, SCORES, TRIGGERED = "canary.json", "canary.jsonl", "canary.triggered"


@dataclass(frozen=True)
class CanaryItem:
    """A frozen example; `group` is what is not independent of others (a commit, a template)."""

    id: str
    group: str
    inputs: dict[str, Any]
    outputs: dict[str, Any]


@dataclass(frozen=True)
class CanarySet:
    """The frozen examples of one program."""

    signature: str
    dataset_version: str
    chosen_at: str
    items: tuple[CanaryItem, ...]

    def write(self, folder: Path) -> None:
        """Write it beside the program; OSError when that cannot be."""
        write_json(folder / EXAMPLES, {"schema_version": SCHEMA_VERSION, **asdict(self)})

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The set beside a program; None when none was chosen yet.

        Raises:
            DamagedError: it is not whole.
        """
        path = folder / EXAMPLES
        if not path.exists():
            return None
        value = read_json_object(path, "a canary's examples")
        try:
            if value.pop("schema_version") != SCHEMA_VERSION:
                msg = f"{path}: not of schema {SCHEMA_VERSION}"
                raise DamagedError(msg)
            items = tuple(CanaryItem(**item) for item in value.pop("items"))
            return cls(**value, items=items)
        except (TypeError, KeyError) as error:
            msg = f"{path}: no canary's examples ({error}); delete it to have others chosen"
            raise DamagedError(msg) from error


@dataclass(frozen=True)
class CanaryScore:
    """One scoring. `scores` are 0-1 by example id, None where the program gave no answer; cost None: price unknown.

    `model_snapshot` is what the provider says that it answered with; None where it says nothing.
    """

    at: str
    program: str
    model: str
    model_snapshot: str | None
    scores: Mapping[str, float | None]
    groups: Mapping[str, str]
    lm_calls: int
    cost_usd: float | None

    @property
    def answered(self) -> dict[str, float]:
        """The scores of the examples that were answered."""
        return {name: score for name, score in self.scores.items() if score is not None}

    @property
    def mean(self) -> float | None:
        """The mean of what was answered, 0-1; None when nothing was."""
        return math.fsum(self.answered.values()) / len(self.answered) if self.answered else None

    def told(self) -> dict[str, Any]:
        """The score for people and programs: the mean, how many were answered, by what model, for what price."""
        return {
            "program": self.program,
            "score": None if self.mean is None else round(self.mean, 4),
            "answered": len(self.answered),
            "asked": len(self.scores),
            "model": self.model,
            "model_snapshot": self.model_snapshot,
            "lm_calls": self.lm_calls,
            "cost_usd": self.cost_usd,
        }

    def append(self, folder: Path) -> None:
        """Add it to the program's log, durably, in one write; OSError when that cannot be."""
        path = folder / SCORES
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, PRIVATE_FILE)
        try:
            os.write(descriptor, to_json(asdict(self), indent=None).encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_folder(folder)

    @classmethod
    def from_object(cls, value: Any, source: str) -> Self:
        """The score in a decoded line; DamagedError when it is none."""
        try:
            score = cls(**value)
            sound = (
                all(isinstance(text, str) for text in (score.program, score.model))
                and YEARS.start <= datetime.fromisoformat(score.at).astimezone(UTC).year < YEARS.stop
                and isinstance(score.model_snapshot, str | None)
                and score.scores.keys() == score.groups.keys()
                and all(x is None or (type(x) in {int, float} and 0 <= x <= 1) for x in score.scores.values())
                and all(isinstance(group, str) for group in score.groups.values())
                and type(score.lm_calls) is int
                and (score.cost_usd is None or type(score.cost_usd) in {int, float})
            )
        except (TypeError, AttributeError, ValueError, OverflowError):
            sound = False
        if not sound:
            msg = f"{source}: no canary score"
            raise DamagedError(msg)
        return score


def read_scores(folder: Path) -> tuple[CanaryScore, ...]:
    """The program's scores, oldest first; a torn last line (a process died while it wrote) is left out.

    Raises:
        DamagedError: another line is no score.
    """
    path = folder / SCORES
    if not path.exists():
        return ()
    try:
        whole = read_text(path).rpartition("\n")[0]
        rows = [
            (number, parse_json(line, str(path), "a canary score", number))
            for number, line in enumerate(whole.splitlines(), 1)
        ]
    except BadInputError as error:
        raise DamagedError(str(error)) from error
    return tuple(CanaryScore.from_object(row, f"{path}, line {number}") for number, row in rows)


def triggered(folder: Path) -> bool:
    """Whether this program's canary has already started a cycle: one is enough, whatever it brought."""
    return (folder / TRIGGERED).exists()


def mark_triggered(folder: Path, at: str) -> None:
    """Note that it has."""
    write_json(folder / TRIGGERED, {"at": at})
