"""What calls took in earlier runs with the same model, to plan the next one by."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING

from flywheel.base.errors import BadInputError, DamagedError
from flywheel.base.plans import FILE_NAME as PLAN
from flywheel.base.plans import RunPlan
from flywheel.learning.calls import read_calls
from flywheel.learning.ledger import FILE_NAME as CALLS
from flywheel.learning.stages import BASELINE_TEST, PREFLIGHT, planned_stage

if TYPE_CHECKING:
    from pathlib import Path

    from flywheel.learning.calls import Call

LATEST_RUNS = 5
# Tokens are rarely longer or shorter than this many characters on average; anything else is no text.
SHORTEST_TOKEN, LONGEST_TOKEN = 1.0, 8.0


@dataclass(frozen=True)
class PastCalls:
    """Figures of answered calls by (signature, stage of the plan); `runs` is how many runs they come from.

    `characters_per_token` is by signature: the length of its baseline's prompts by the tokens that the model counted.
    """

    runs: int = 0
    output_tokens: dict[tuple[str, str], float] = field(default_factory=dict)
    latency_ms: float | None = None
    characters_per_token: dict[str, float] = field(default_factory=dict)


def past_calls(run: Path, model: str) -> PastCalls:
    """The figures of the latest runs beside this one whose calls went to the model; damaged ones are left out."""
    outputs: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    latencies: list[float] = []
    ratios: defaultdict[str, list[float]] = defaultdict(list)
    runs = 0
    for path in sorted(run.parent.glob(f"run_*/{CALLS}"), reverse=True):
        if path.parent == run:
            continue
        try:
            calls = [call for call in read_calls(path) if _tells(call, model)]
        except DamagedError:
            continue
        if not calls:
            continue
        runs += 1
        for call in calls:
            outputs[call.signature, planned_stage(call.stage)].append(call.output_tokens)
            latencies.extend([call.latency_ms] if call.latency_ms is not None else [])
        for name, ratio in _ratios(path.with_name(PLAN), calls).items():
            ratios[name].append(ratio)
        if runs == LATEST_RUNS:
            break
    return PastCalls(
        runs,
        {key: fmean(tokens) for key, tokens in outputs.items()},
        fmean(latencies) if latencies else None,
        {name: fmean(found) for name, found in ratios.items()},
    )


def _tells(call: Call, model: str) -> bool:
    """Whether the call says what a call to the model takes."""
    answered = call.model == model and not call.cached and call.error is None
    return answered and call.input_tokens > 0 and call.stage != PREFLIGHT


def _ratios(path: Path, calls: list[Call]) -> dict[str, float]:
    """Characters a token, by signature, where the run had measured its baseline's prompts and sent them."""
    try:
        plans = RunPlan.read(path).signatures if path.is_file() else {}
    except (BadInputError, DamagedError):
        return {}
    found = {}
    for name, plan in plans.items():
        tokens = [call.input_tokens for call in calls if (call.signature, call.stage) == (name, BASELINE_TEST)]
        ratio = plan.prompt_characters / fmean(tokens) if tokens else 0.0
        if SHORTEST_TOKEN <= ratio <= LONGEST_TOKEN:
            found[name] = ratio
    return found
