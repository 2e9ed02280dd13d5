"""Runs of the optimization cycle: their folders and orchestration_summary.json, written and read by one type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict

from flywheel.base.files import write_json
from flywheel.base.plans import StagePlan  # noqa: TC001 - pydantic reads it
from flywheel.base.prices import Price  # noqa: TC001 - pydantic reads it
from flywheel.base.record_file import read_record

if TYPE_CHECKING:
    from pathlib import Path

SUMMARY = "orchestration_summary.json"
COLLECTED, VALIDATED, GATE_REPORTS, RESULTS = (
    "collected_data",
    "validated_data",
    "quality_reports",
    "optimization_results",
)
FOLDERS = (COLLECTED, VALIDATED, GATE_REPORTS, RESULTS)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GateOutcome(_Record):
    """What the quality gates said, and what they would have said in strict mode."""

    verdict: Literal["accept", "warn", "reject"]
    reasons: list[str]
    strict_verdict: Literal["accept", "warn", "reject"]


class Tokens(_Record):
    """Tokens of calls that reached the model."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0


class StageSpend(_Record):
    """What one stage of a signature's work spent; `cost_usd` is None where a price is not known.

    `prompt_cache_read` and `prompt_cache_write` are the parts of `input_tokens` that the provider's prompt cache gave
    and took.
    """

    calls: int = 0
    cached_calls: int = 0
    errors: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None
    prompt_cache_read: int = 0
    prompt_cache_write: int = 0


class SignatureResult(_Record):
    """One signature's month. Scores are 0-1, improvement and interval in percent of the baseline; None: not known."""

    collected: int = 0
    collected_by_source: dict[str, int] = {}
    target: int = 0
    shortfall: str | None = None
    validated: int = 0
    rejected: dict[str, int] = {}
    duplicates: int = 0
    quality_gates: GateOutcome | None = None
    dataset_version: str | None = None
    dataset_examples: int = 0
    new_examples: int = 0
    model: str | None = None
    model_snapshot: str | None = None
    optimizer: str | None = None
    trials: int = 0
    trials_used: int = 0
    trials_saved: int = 0
    search_ended: str | None = None
    stopped: str | None = None
    partial: bool = False
    baseline: str | None = None
    baseline_score: float | None = None
    optimized_score: float | None = None
    validation_score: float | None = None
    improvement_percent: float | None = None
    improvement_ci: tuple[float, float] | None = None
    floor_score: float | None = None
    floor_ci: tuple[float, float] | None = None
    beats_floor: bool | None = None
    p_value: float | None = None
    minimum_detectable_percent: float | None = None
    n_test: int = 0
    n_failed: int = 0
    n_test_by_source: dict[str, int] = {}
    verdict: Literal["deploy", "reject", "inconclusive"] | None = None
    verdict_reason: str | None = None
    examples_needed: int | None = None
    e_value: float | None = None
    tests: int = 0
    deployed: bool = False
    experiment_id: str | None = None
    module_path: str | None = None
    lm_calls: int = 0
    cached_calls: int = 0
    tokens: Tokens = Tokens()
    cost_usd: float | None = None
    stages: dict[str, StageSpend] = {}
    planned: dict[str, StagePlan] = {}
    cost_delta: float | None = None
    cost_ratio: float | None = None
    token_ratio: float | None = None
    latency_delta_ms: float | None = None
    seconds: float = 0.0


class RunSpend(_Record):
    """What the run's calls came to, all signatures and the preflight together, beside what was planned; by stage."""

    price_source: str
    price: Price | None
    max_calls: int | None
    max_cost_usd: float | None
    planned: dict[str, StagePlan]
    spent: dict[str, StageSpend]

    @property
    def stages(self) -> list[str]:
        """What was spent on, and what was only planned."""
        return list(dict.fromkeys([*self.spent, *self.planned]))


class RunSummary(_Record):
    """orchestration_summary.json. `success`: at least one signature was evaluated and nothing crashed.

    `resumed_at` has a time for each time that the run was cut short and went on.
    """

    run_id: str
    start_time: str
    end_time: str | None
    success: bool
    error: str | None
    resumed_at: tuple[str, ...] = ()
    config: dict[str, Any]
    signatures: dict[str, SignatureResult]
    spend: RunSpend | None = None

    def write(self, folder: Path) -> None:
        """Write it into the run's folder, atomically."""
        write_json(folder / SUMMARY, self.model_dump(mode="json"))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The summary in a run's folder.

        Raises:
            BadInputError: there is none.
            DamagedError: it is not whole.
        """
        return read_record(cls, folder / SUMMARY, "a run summary")
