"""What an earlier run found of one signature, as far as it bears on the next one."""

from __future__ import annotations

from dataclasses import dataclass

SMALLEST_BASELINE = 1e-6


@dataclass(frozen=True)
class Past:
    """One signature's test in an earlier run. Scores are 0-1, `improvement_ci` is in percent of the baseline.

    `differences` are optimized less baseline by example id, of the examples that both answered; `search`: the candidate
    was newly found, and not one that had waited for a retest.
    """

    run_id: str
    model: str
    baseline_score: float
    optimized_score: float
    improvement_ci: tuple[float, float]
    deployed: bool
    search: bool
    differences: tuple[tuple[str, float], ...] = ()

    @property
    def points(self) -> float:
        """The measured improvement in points of 100."""
        return 100 * (self.optimized_score - self.baseline_score)

    @property
    def standard_error(self) -> float:
        """Its standard error in points of 100, from the width of its 95 % interval."""
        low, high = self.improvement_ci
        whole = self.baseline_score if self.baseline_score > SMALLEST_BASELINE else 1.0
        return (high - low) * whole / (2 * 1.96)

    @property
    def next_baseline(self) -> float:
        """What the next run's baseline scored here, 0-1: the candidate where it was deployed."""
        return self.optimized_score if self.deployed else self.baseline_score
