"""evaluation.json: how two programs fared on the same examples, written and read by one type.

The test split shows as scores alone. Examples are shown with their texts from the validation split, which the search
has seen anyway, unless an operator reveals the test.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict

from flywheel.base.files import write_json
from flywheel.base.record_file import read_record

if TYPE_CHECKING:
    from pathlib import Path

FILE_NAME = "evaluation.json"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TrialScore(_Record):
    """One trial of the search: its score on the validation split and the best full score so far, 0-100."""

    number: int
    score: float
    full: bool
    best: float


class TestScore(_Record):
    """One test example's scores, 0-1; None: the program did not answer."""

    __test__ = False  # pytest takes the name for a test's

    id: str
    baseline: float | None
    optimized: float | None


class Slice(_Record):
    """A part of the test: mean scores 0-1 of the examples that both programs answered; None when there are none."""

    n: int
    n_failed: int
    baseline: float | None
    optimized: float | None


class Change(_Record):
    """One example on which the programs differ: what it asks and expects, and both answers with their scores 0-1."""

    id: str
    inputs: dict[str, Any]
    labels: dict[str, Any]
    baseline_score: float
    optimized_score: float
    baseline_answer: dict[str, Any]
    optimized_answer: dict[str, Any]

    @property
    def difference(self) -> float:
        """By how much the optimized program is better, -1 to 1."""
        return self.optimized_score - self.baseline_score


class Usage(_Record):
    """What one test example takes of a program, on average; answers from the cache count with what they once took.

    `cost_usd` is None where the price is not known, `latency_ms` where nothing was measured.
    """

    calls: float
    input_tokens: float
    output_tokens: float
    cost_usd: float | None
    latency_ms: float | None


class Shown(_Record):
    """A program as it asks: its instructions, its demonstrations, and the messages of one call."""

    instructions: str
    demos: list[dict[str, Any]]
    messages: list[dict[str, Any]]


class Judged(_Record):
    """What a model said as a judge of both programs' answers to the test, beside the deterministic metric.

    Means are 0-1, points of 100; `difference_ci` has 95 %. Of the answered examples `n` were judged, `n_failed` not in
    the form asked for, and `n_suspicious` left out because task or answer gives orders to its reader. `spearman` is
    judge against metric over all answers, -1 to 1, None where one of them never varies. Both favoured a program in
    `n_sides` examples, the same one in the share `same_side`. `first_place_points`: what it gave more to what it read
    first.
    """

    model: str
    snapshot: str | None
    n: int
    n_failed: int
    n_suspicious: int
    baseline: float
    optimized: float
    difference_points: float
    difference_ci: tuple[float, float]
    first_place_points: float
    spearman: float | None
    n_sides: int
    same_side: float | None
    same_side_ci: tuple[float, float] | None


class Retested(_Record):
    """The evidence after one month's test: examples of that test, e-value and gain over all tests so far."""

    run_id: str
    n: int
    e_value: float
    improvement_percent: float


class Evaluation(_Record):
    """Everything that a verdict rests on, and what helps to understand it."""

    schema_version: Literal[1] = 1
    trials: list[TrialScore]
    test: list[TestScore]
    slices: dict[str, dict[str, Slice]]
    shown_split: Literal["val", "test"]
    regressions: list[Change]
    gains: list[Change]
    baseline_usage: Usage | None
    optimized_usage: Usage | None
    before: Shown
    after: Shown
    judged: Judged | None = None
    tests: list[Retested] = []

    def write(self, folder: Path) -> None:
        """Write it into the signature's result folder, atomically."""
        write_json(folder / FILE_NAME, self.model_dump(mode="json"))

    @classmethod
    def read(cls, path: Path) -> Self:
        """The evaluation in `path`.

        Raises:
            BadInputError: it cannot be read.
            DamagedError: it is not whole.
        """
        return read_record(cls, path, "an evaluation")
