"""What the runs of a folder found of each signature, for the forecast of the next one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flywheel.base.errors import BadInputError, DamagedError
from flywheel.base.evaluations import FILE_NAME, Evaluation
from flywheel.base.past import Past
from flywheel.ops.runs import RESULTS, SUMMARY, RunSummary

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from flywheel.ops.runs import SignatureResult


def past_results(output: Path, tell: Callable[[str], None], *, without: str = "") -> dict[str, list[Past]]:
    """Each signature's tests in the runs of the folder, oldest first, but of the run `without`.

    What cannot be read is told and left out.
    """
    found: dict[str, list[Past]] = {}
    for folder in sorted(path.parent for path in output.glob(f"run_*/{SUMMARY}") if path.parent.name != without):
        try:
            summary = RunSummary.read(folder)
            for name, result in summary.signatures.items():
                past = _past(summary.run_id, result, folder / RESULTS / name / FILE_NAME)
                if past is not None:
                    found.setdefault(name, []).append(past)
        except (BadInputError, DamagedError) as problem:
            tell(f"left out of the forecast: {problem}")
    return found


def _past(run_id: str, result: SignatureResult, evaluation: Path) -> Past | None:
    if result.baseline_score is None or result.optimized_score is None or result.improvement_ci is None:
        return None
    rows = Evaluation.read(evaluation).test if evaluation.is_file() else []
    differences = tuple(
        (row.id, row.optimized - row.baseline) for row in rows if row.baseline is not None and row.optimized is not None
    )
    return Past(
        run_id=run_id,
        model=result.model or "unknown",
        baseline_score=result.baseline_score,
        optimized_score=result.optimized_score,
        improvement_ci=result.improvement_ci,
        deployed=result.deployed,
        search=result.tests <= 1,
        differences=differences,
    )
