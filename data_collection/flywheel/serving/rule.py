"""What a rollout is held to: stages, times, thresholds of harm and error probabilities, fixed before it starts."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

from flywheel.base.errors import BadInputError

ERRORS = "errors"
LATENCY = "latency"
QUALITY = "quality"
METRICS = (ERRORS, LATENCY, QUALITY)
_MINUTES_PER_DAY = 1440


@dataclass(frozen=True, slots=True)
class RolloutConfig:
    """The rule's constants.

    `stages` are candidate shares in percent, each with its own evidence; at 100 there is no baseline to compare with.
    `error_rate_delta` is in fractions of calls (0.05 = 5 percentage points), `latency_delta_ms` in milliseconds of the
    mean, `quality_score` on the 0-1 scale of scores. `alpha` bounds the probability that a candidate no worse than its
    baseline is ever rolled back; `sample_ratio_alpha` the same for a false sample-ratio mismatch. `required` names the
    metrics that must be proved harmless, errors always among them. The deadline of a stage is
    `deadline_factor * stage_minutes` after its `min_calls`-th candidate call, at most `cap_days` after it began.
    `holdback` percent stay on the baseline after the last stage, until an operator promotes; 0 keeps none.
    """

    stages: tuple[float, ...] = (10, 25, 50, 75, 100)
    stage_minutes: float = 60
    min_calls: int = 100
    error_rate_delta: float = 0.05
    latency_delta_ms: float = 500
    quality_score: float = 0.70
    alpha: float = 0.01
    sample_ratio_alpha: float = 0.001
    required: tuple[str, ...] = (ERRORS, LATENCY)
    deadline_factor: float = 6
    cap_days: float = 14
    tick_seconds: float = 60
    holdback: float = 0

    def __post_init__(self) -> None:
        _check_stages(self.stages)
        _check_required(self.required)
        for name in ("stage_minutes", "latency_delta_ms", "cap_days", "tick_seconds"):
            _check_range(name, getattr(self, name), 0, math.inf)
        for name in ("error_rate_delta", "quality_score", "alpha", "sample_ratio_alpha"):
            _check_range(name, getattr(self, name), 0, 1)
        _check_range("holdback", self.holdback, 0, 50, low_allowed=True)
        if self.holdback and 100 - self.holdback not in self.stages:
            msg = f"holdback: {self.holdback!r} needs a stage of {100 - self.holdback:g} %"
            raise BadInputError(msg)
        _check_range("deadline_factor", self.deadline_factor, 1, math.inf, low_allowed=True)
        if type(self.min_calls) is not int or self.min_calls < 1:
            msg = f"min_calls: {self.min_calls!r} is not a whole number >= 1"
            raise BadInputError(msg)

    @property
    def holdback_stage(self) -> float | None:
        """The share in percent at which a holdback stays; None without one."""
        return 100 - self.holdback if self.holdback else None

    @property
    def guarded_stages(self) -> int:
        """How many stages have a concurrent baseline, hence evidence: all but a last one of 100 %."""
        return sum(1 for percent in self.stages if percent < 100)

    @property
    def bound(self) -> float:
        """The e-value at which a test rolls back.

        By Ville's inequality each test crosses it with probability <= 1/bound under its null, and the tests (one a
        required metric, and the emergency) share `alpha` equally by the union bound.
        """
        return (len(self.required) + 1) / self.alpha

    @property
    def cap_minutes(self) -> float:
        """The longest a stage may last, in minutes."""
        return self.cap_days * _MINUTES_PER_DAY

    def share(self, stage: int) -> float:
        """The candidate's share of calls in a stage, as a fraction between 0 and 1."""
        return self.stages[stage] / 100


def held_back(config: RolloutConfig, percent: float) -> RolloutConfig:
    """The config with a holdback of `percent`, and the stage that keeps it.

    Raises:
        BadInputError: it is not above 0, or leaves less than the last stage before 100 % already gives.
    """
    _check_range("holdback", percent, 0, 50)
    share = 100 - percent
    stages = config.stages if share in config.stages else (*config.stages[:-1], share, config.stages[-1])
    return replace(config, stages=stages, holdback=percent)


def _check_range(name: str, value: object, low: float, high: float, *, low_allowed: bool = False) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not (low < value < high or (low_allowed and value == low)):  # type: ignore[operator]
        between = f"a number {'>=' if low_allowed else '>'} {low:g}" + (f" and < {high:g}" if high < math.inf else "")
        msg = f"{name}: {value!r} is not {between}"
        raise BadInputError(msg)


def _check_stages(stages: object) -> None:
    if not isinstance(stages, tuple) or not stages:
        msg = f"stages: {stages!r} is not a list of percentages"
        raise BadInputError(msg)
    for percent in stages:
        if percent != 100:
            _check_range("stages", percent, 0, 100)
    if not all(low < high for low, high in pairwise(stages)):
        msg = f"stages: {list(stages)} do not rise"
        raise BadInputError(msg)
    if stages[0] == 100:
        msg = f"stages: {list(stages)} leave no baseline to compare with"
        raise BadInputError(msg)


def _check_required(required: object) -> None:
    if not isinstance(required, tuple) or len(set(required)) != len(required):
        msg = f"required: {required!r} is not a list of different metrics"
        raise BadInputError(msg)
    for name in required:
        if name not in METRICS:
            msg = f"required: {name!r} is none of {', '.join(METRICS)}"
            raise BadInputError(msg)
    if ERRORS not in required:
        msg = f"required: {list(required)} lacks {ERRORS}"
        raise BadInputError(msg)
