"""A run as MLflow users look at it: settings as parameters, each signature's figures, trials as steps, files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flywheel.base import cli
from flywheel.base.errors import BadInputError, DamagedError
from flywheel.base.evaluations import FILE_NAME, Evaluation
from flywheel.base.programs import FILE_NAME as PROGRAM_FILE
from flywheel.ops.report import REPORT
from flywheel.ops.runs import RESULTS, SUMMARY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from flywheel.ops.runs import RunSummary, SignatureResult

FIGURES = (
    "baseline_score", "optimized_score", "validation_score", "improvement_percent", "p_value", "e_value",
    "minimum_detectable_percent", "floor_score", "n_test", "n_failed", "examples_needed", "dataset_examples",
    "lm_calls", "cached_calls", "cost_usd", "cost_ratio", "token_ratio", "latency_delta_ms", "seconds",
)  # fmt: skip
LONGEST = 500


def track(uri: str, summary: RunSummary, folder: Path, log: Callable[[str, dict[str, Any]], str]) -> None:
    """Log the run; that the store does not take it is told, since the run itself is done."""
    try:
        cli.say(f"mlflow:  run {log(uri, tracked(summary, folder))}")
    except BadInputError as problem:
        cli.say(f"warning: not logged: {problem}")


def tracked(summary: RunSummary, folder: Path) -> dict[str, Any]:
    """The fields of `learning.tracking.Tracked`."""
    results = summary.signatures.items()
    return {
        "run_id": summary.run_id,
        "success": summary.success,
        "params": {name: str(value)[:LONGEST] for name, value in summary.config.items()},
        "tags": {
            f"{name}.{fact}": str(value)[:LONGEST]
            for name, result in results
            for fact in ("verdict", "verdict_reason", "deployed", "dataset_version", "model_snapshot")
            if (value := getattr(result, fact)) is not None
        },
        "metrics": [metric for name, result in results for metric in _metrics(name, result, folder)],
        "artifacts": list(_artifacts(summary, folder)),
    }


def _metrics(name: str, result: SignatureResult, folder: Path) -> Iterator[tuple[str, float, int]]:
    for figure in FIGURES:
        value = getattr(result, figure)
        if value is not None:
            yield f"{name}/{figure}", float(value), 0
    if result.improvement_ci is not None:
        for end, value in zip(("low", "high"), result.improvement_ci, strict=True):
            yield f"{name}/improvement_ci_{end}", value, 0
    yield f"{name}/tokens", float(result.tokens.total_tokens), 0
    try:
        evaluation = Evaluation.read(folder / RESULTS / name / FILE_NAME)
    except (BadInputError, DamagedError):
        return
    if evaluation.judged is not None:
        yield f"{name}/judge_difference_points", evaluation.judged.difference_points, 0
    for trial in evaluation.trials:
        yield f"{name}/{'full' if trial.full else 'minibatch'}_trial_score", trial.score, trial.number
        yield f"{name}/best_trial_score", trial.best, trial.number


def _artifacts(summary: RunSummary, folder: Path) -> Iterator[tuple[Path, str | None]]:
    yield folder / SUMMARY, None
    yield folder / REPORT, None
    for name in summary.signatures:
        for file in (PROGRAM_FILE, FILE_NAME):
            path = folder / RESULTS / name / file
            if path.is_file():
                yield path, name
