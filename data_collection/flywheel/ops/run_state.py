"""How far a run has come: run_state.json in its folder, by which one that was cut short goes on where it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, ConfigDict

from flywheel.base.files import write_json
from flywheel.base.record_file import read_record

if TYPE_CHECKING:
    from pathlib import Path

FILE_NAME = "run_state.json"


class Admitted(BaseModel):
    """What a signature is optimized on: a dataset version, and the program that was deployed when the run began.

    `generation` is that of its test split.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset_version: str
    generation: int
    deployed: str | None


class RunState(BaseModel):
    """The phases that are done. What is not listed here is done again, at no expense: see learning/replay.py.

    `admitted` has each signature whose batch was validated, gated and stored (None: there is nothing to optimize),
    `concluded` those whose verdict stands and has led to what it leads to. `problem` is what collecting and gating
    have to tell. `resumed_at` has a time for each resumption; `finished` runs leave nothing to go on with.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    collected: bool = False
    admitted: dict[str, Admitted | None] = {}
    concluded: tuple[str, ...] = ()
    problem: str | None = None
    resumed_at: tuple[str, ...] = ()
    finished: bool = False

    def write(self, folder: Path) -> None:
        """Write it into the run's folder, atomically."""
        write_json(folder / FILE_NAME, self.model_dump(mode="json"))

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The state in a run's folder; None when there is none: a run of an older version, or killed at once.

        Raises:
            DamagedError: it is not whole.
        """
        path = folder / FILE_NAME
        if not path.is_file():
            return None
        return read_record(cls, path, "a run's state")
