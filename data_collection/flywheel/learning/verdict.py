"""Is the optimized program better? A paired comparison on the test split, with an interval and a p-value.

Both programs are scored on the same examples by the same metric in the same run. Examples of one group (one commit,
one template) are not independent, so groups are what is resampled and what flips sign:
- interval: percentile bootstrap of the mean difference (Efron and Tibshirani 1993, chapter 13), 10,000 resamples;
- p: one-sided sign-flip permutation test of no improvement (Fisher 1935), 10,000 flips, counting the observed one.
The test split decides several times before it retires, so a verdict takes only its share of the error rate (alpha, see
data/test_uses.py): its own interval has 1 - alpha, and p must be at most alpha / 2. The reported interval has 95 %.
Percentages are relative to the baseline's mean as measured; where that is 0, they are points of 100.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

RESAMPLES = 10_000
ALPHA = 0.05
LARGEST_UNDECIDED_P = 0.45
SMALLEST_BASELINE = 1e-6
MIN_COVERAGE = 0.80
MAX_SYNTHETIC_SHARE = 0.5
POWER = 0.80
# Before anything is measured: the spread of a paired difference when programs disagree on 20 % of binary items.
ASSUMED_VARIANCE = 0.20
SMALLEST_POWERED_TEST = 40
DEPLOY, REJECT, INCONCLUSIVE = "deploy", "reject", "inconclusive"


@dataclass(frozen=True)
class Item:
    """One test example's outcome: scores 0-1 (higher is better), None where the program failed to answer."""

    group: str
    source: str
    baseline: float | None
    optimized: float | None


@dataclass(frozen=True)
class Rule:
    """When to deploy. `min_improvement` is in percent of the baseline; `point` ignores interval and p."""

    min_improvement: float = 5.0
    point: bool = False
    allow_synthetic_test: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Comparison:
    """The figures of a comparison. Scores are 0-1; improvement, intervals and detectable effect in percent.

    `improvement_ci` is the 95 % interval; `decision_ci` that of 1 - `alpha`, which the verdict rests on.
    """

    baseline_score: float
    optimized_score: float
    improvement_percent: float
    improvement_ci: tuple[float, float]
    p_value: float
    minimum_detectable_percent: float
    n_test: int
    n_failed: int
    n_groups: int
    n_test_by_source: dict[str, int]
    decision_ci: tuple[float, float]
    alpha: float = ALPHA

    @property
    def coverage(self) -> float:
        """The share of test examples that both programs answered, 0-1."""
        return 1 - self.n_failed / self.n_test

    @property
    def synthetic_share(self) -> float:
        """The share of synthetic examples among those tested, 0-1."""
        return self.n_test_by_source.get("synthetic", 0) / self.n_test


@dataclass(frozen=True)
class Verdict:
    """deploy, reject, inconclusive, or None when too much failed to judge; why; and how many examples would decide."""

    verdict: str | None
    reason: str
    examples_needed: int | None = None


def power_factor(alpha: float) -> float:
    """How many standard errors a true difference must be for a test at `alpha` (two-sided) to find it 4 times of 5."""
    normal = NormalDist()
    return normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(POWER)


def detectable_points(n_test: int, alpha: float = ALPHA) -> float:
    """The smallest true difference, in points of 100, that a test of `n_test` examples finds 4 times of 5."""
    return 100 * power_factor(alpha) * math.sqrt(ASSUMED_VARIANCE / n_test) if n_test else math.inf


def compare(items: Sequence[Item], seed: int = 0, alpha: float = ALPHA) -> Comparison:
    """The paired figures of `items`, for a verdict that may take the two-sided error rate `alpha` (0-1).

    Raises:
        ValueError: no item was answered by both programs.
    """
    pairs = [(i.group, i.baseline, i.optimized) for i in items if i.baseline is not None and i.optimized is not None]
    if not pairs:
        msg = "no test example was answered by both programs"
        raise ValueError(msg)
    baseline = sum(before for _, before, _ in pairs) / len(pairs)
    optimized = sum(after for _, _, after in pairs) / len(pairs)
    sums, counts = _by_group(pairs)
    generator = np.random.default_rng(seed)
    means = bootstrap_means(sums, counts, generator)
    scale = 100 / baseline if baseline > SMALLEST_BASELINE else 100.0
    bounds = np.quantile(means, [ALPHA / 2, 1 - ALPHA / 2, alpha / 2, 1 - alpha / 2]) * scale
    low, high, decision_low, decision_high = (float(bound) for bound in bounds)
    sources: dict[str, int] = defaultdict(int)
    for item in items:
        sources[item.source] += 1
    return Comparison(
        baseline_score=baseline,
        optimized_score=optimized,
        improvement_percent=(optimized - baseline) * scale,
        improvement_ci=(low, high),
        p_value=sign_flip_p(sums, generator),
        minimum_detectable_percent=power_factor(alpha) * float(means.std()) * scale,
        n_test=len(items),
        n_failed=len(items) - len(pairs),
        n_groups=len(sums),
        n_test_by_source=dict(sorted(sources.items())),
        decision_ci=(decision_low, decision_high),
        alpha=alpha,
    )


def _by_group(pairs: Sequence[tuple[str, float, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Sum of differences and number of examples, by group in order of name."""
    sums: dict[str, float] = defaultdict(float)
    counts: dict[str, int] = defaultdict(int)
    for group, before, after in pairs:
        sums[group] += after - before
        counts[group] += 1
    order = sorted(sums)
    return np.array([sums[g] for g in order]), np.array([counts[g] for g in order], dtype=float)


def bootstrap_means(sums: np.ndarray, counts: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Mean differences of resamples of whole groups; `sums` and `counts` (of differences) hold one number a group."""
    chosen = generator.integers(0, len(sums), size=(RESAMPLES, len(sums)))
    means: np.ndarray = sums[chosen].sum(axis=1) / counts[chosen].sum(axis=1)
    return means


def sign_flip_p(sums: np.ndarray, generator: np.random.Generator) -> float:
    """The one-sided p of no improvement: the share of sign flips that give at least the observed total, which counts.

    `sums` holds each independent group's sum of differences, the better program's first.
    """
    signs = generator.integers(0, 2, size=(RESAMPLES - 1, len(sums))) * 2 - 1
    tolerance = 1e-12
    reached = int(((signs * sums).sum(axis=1) >= sums.sum() - tolerance).sum())
    return (reached + 1) / RESAMPLES


def judge(found: Comparison, rule: Rule) -> Verdict:
    """The verdict on a comparison: see the module's docstring and the fields of Rule."""
    if found.coverage < MIN_COVERAGE:
        answered = found.n_test - found.n_failed
        return Verdict(
            None, f"only {answered} of {found.n_test} test examples were answered ({MIN_COVERAGE:.0%} needed)"
        )
    improvement, (low, high) = found.improvement_percent, found.decision_ci
    if rule.point:
        better = improvement >= rule.min_improvement
        return Verdict(
            DEPLOY if better else REJECT, f"{improvement:+.1f} % against {rule.min_improvement:g} % (point rule)"
        )
    sure = f", {1 - found.alpha:.2%} sure" if found.alpha != ALPHA else ""
    interval = f"{improvement:+.1f} % ({low:+.1f} to {high:+.1f}{sure})"
    if improvement <= 0:
        return Verdict(REJECT, f"not better than the baseline: {interval}")
    if high < rule.min_improvement:
        return Verdict(REJECT, f"better by less than {rule.min_improvement:g} %: {interval}")
    if improvement >= rule.min_improvement and low > 0 and found.p_value <= found.alpha / 2:
        return _deploy(found, rule, interval)
    needed = _examples_needed(found, rule)
    why = f"{interval}, p = {found.p_value:.3f}: too few test examples to tell; about {needed} would decide"
    return Verdict(INCONCLUSIVE, why, needed)


def _deploy(found: Comparison, rule: Rule, interval: str) -> Verdict:
    share = found.synthetic_share
    if share > MAX_SYNTHETIC_SHARE and not rule.allow_synthetic_test:
        why = f"{interval}, but {share:.0%} of the test examples are synthetic; collect real ones, or accept it by "
        return Verdict(INCONCLUSIVE, why + "--allow-synthetic-test")
    note = f"; {share:.0%} of the test examples are synthetic" if share > MAX_SYNTHETIC_SHARE else ""
    return Verdict(DEPLOY, f"{interval}, p = {found.p_value:.4f}{note}")


def _examples_needed(found: Comparison, rule: Rule) -> int:
    """How many test examples would decide, were the improvement as measured: errors shrink with the root of n.

    An improvement of the wanted size needs its interval's low end above 0 and its p small enough; a smaller one, its
    interval's high end below the wanted size.
    """
    improvement, (low, high) = found.improvement_percent, found.decision_ci
    if improvement >= rule.min_improvement:
        z, wanted = (NormalDist().inv_cdf(1 - p) for p in (min(found.p_value, LARGEST_UNDECIDED_P), found.alpha / 2))
        ratio = max((improvement - low) / improvement, wanted / z)
    else:
        ratio = (high - improvement) / (rule.min_improvement - improvement)
    return max(found.n_test + 1, math.ceil(found.n_test * ratio**2))
