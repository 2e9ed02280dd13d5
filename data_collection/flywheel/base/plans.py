"""plan.json: what a run expects to ask of its model, written before anything is asked."""

from __future__ import annotations

from math import fsum
from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, ConfigDict

from flywheel.base.files import write_json
from flywheel.base.prices import Price  # noqa: TC001 - pydantic reads it
from flywheel.base.record_file import read_record

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

FILE_NAME = "plan.json"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StagePlan(_Record):
    """What a stage is expected to take at most; `cost_usd` is None where the price is not known."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = 0.0

    @classmethod
    def total(cls, stages: Iterable[StagePlan]) -> Self:
        """The sum; a price that is unknown of one is unknown of all."""
        parts = list(stages)
        costs = [part.cost_usd for part in parts if part.cost_usd is not None]
        return cls(
            calls=sum(part.calls for part in parts),
            input_tokens=sum(part.input_tokens for part in parts),
            output_tokens=sum(part.output_tokens for part in parts),
            cost_usd=fsum(costs) if len(costs) == len(parts) else None,
        )


class SignaturePlan(_Record):
    """One signature's part: the sizes of its splits, and its stages in the order in which they are spent.

    `prompt_characters` is how long the baseline's prompts are on average, rendered as they will be sent.
    """

    train: int
    val: int
    test: int
    searched: bool
    prompt_characters: float
    stages: dict[str, StagePlan]

    @property
    def total(self) -> StagePlan:
        """All its stages."""
        return StagePlan.total(self.stages.values())


class RunPlan(_Record):
    """The whole run's. `basis` says in sentences what the figures rest on; `seconds` is a rough estimate."""

    schema_version: Literal[1] = 1
    model: str
    price: Price | None
    price_source: str
    basis: list[str]
    seconds: float
    max_calls: int | None
    max_cost_usd: float | None
    signatures: dict[str, SignaturePlan]

    @property
    def total(self) -> StagePlan:
        """All signatures."""
        return StagePlan.total(plan.total for plan in self.signatures.values())

    def stage(self, name: str) -> StagePlan:
        """One stage of all signatures."""
        return StagePlan.total(one.stages[name] for one in self.signatures.values() if name in one.stages)

    def write(self, folder: Path) -> None:
        """Write it into the run's folder, atomically."""
        write_json(folder / FILE_NAME, self.model_dump(mode="json"))

    @classmethod
    def read(cls, path: Path) -> Self:
        """The plan in `path`.

        Raises:
            BadInputError: it cannot be read.
            DamagedError: it is not whole.
        """
        return read_record(cls, path, "a run's plan")
