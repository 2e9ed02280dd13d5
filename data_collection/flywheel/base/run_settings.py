"""A run's settings, as its summary records them: what an operator asked for, flags and defaults together."""

from __future__ import annotations

from dataclasses import dataclass

ALL = "all"


@dataclass(frozen=True)
class Options:
    """A run's settings, as the summary's config records them."""

    model: str
    api_base: str | None
    signature_file: tuple[str, ...]
    git_target: int
    synthetic_target: int
    since_days: int
    repo_path: str
    trials: int
    candidates: int
    demos: int
    optimizer: tuple[str, ...]
    plateau_trials: int
    reflection_model: str | None
    threads: int
    workers: int | None
    max_concurrency: int
    executor: str
    ray_address: str | None
    seed: int
    strict: bool
    min_improvement: float
    max_cost_growth: float
    max_latency_growth: float
    decision: str
    allow_synthetic_test: bool
    require_power: bool
    quick: str | None
    split: tuple[float, float, float] | None
    temporal_holdout: bool
    timeout_hours: float
    max_calls: int | None
    max_cost_usd: float | None
    prices: str | None
    data_dir: str
    programs_dir: str
    retest: bool
    floor: bool
    start_ab: bool
    experiments_dir: str
    judge: str | None
    judge_api_base: str | None
    force_judge: bool
    reveal_test: bool
    mlflow: str | None
