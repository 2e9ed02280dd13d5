"""What monitoring looks at: runs, experiments, datasets, canaries and disks, as facts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from flywheel.base.canaries import CanaryScore
    from flywheel.ops.inputs import Change

ORCHESTRATION, AB_TESTS, DATASETS, SYSTEM = "orchestration", "ab_tests", "datasets", "system"
MODELS = "models"
AREAS = (ORCHESTRATION, AB_TESTS, DATASETS, MODELS, SYSTEM)


@dataclass(frozen=True)
class SignatureFacts:
    """One signature's month in a run; cost in US dollars, None when the price is not known; the score is 0-1."""

    verdict: str | None
    deployed: bool
    baseline_score: float | None
    improvement_percent: float | None
    module_path: str | None
    dataset_version: str | None
    lm_calls: int
    cost_usd: float | None


@dataclass(frozen=True)
class RunFacts:
    """A run; `ended` is None while it is under way, and for ever when it was killed."""

    run_id: str
    started: datetime
    ended: datetime | None
    success: bool
    error: str | None
    signatures: Mapping[str, SignatureFacts]
    folder: str
    resumed: datetime | None = None

    @property
    def begun(self) -> datetime:
        """Since when it is under way: since its last resumption, where it was cut short and went on."""
        return self.resumed or self.started


@dataclass(frozen=True)
class ExperimentFacts:
    """An A/B experiment; `share` is the candidate's traffic in percent, the last five are the last look's.

    `reasons` are the codes of what it decided, of every candidate where there are several; `arms` has the figures of
    each of several.
    """

    experiment_id: str
    signature: str
    status: str
    final_status: str | None
    created: datetime
    stage: int
    share: float
    rollback_reason: str | None
    rollback_at: datetime | None
    history: tuple[dict[str, Any], ...]
    figures: Mapping[str, Any]
    decision: str | None
    looked: datetime | None = None
    reasons: frozenset[str] = frozenset()
    arms: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class DatasetFacts:
    """One version of a dataset; quality is the mean score, 0-100, higher is better."""

    signature: str
    version: str
    sequence: int
    created: datetime
    examples: int
    quality: float
    sources: Mapping[str, int]
    folder: str


@dataclass(frozen=True)
class CanaryFacts:
    """The canary of a deployed program, its scores oldest first (none: never scored)."""

    signature: str
    folder: str
    scores: tuple[CanaryScore, ...]


@dataclass(frozen=True)
class DiskFacts:
    """The file system that a place is on."""

    path: str
    used_percent: float
    free_gb: float
    writable: bool


@dataclass(frozen=True)
class UndeliveredFacts:
    """Alerts that wait for a channel which did not take them, the oldest since when."""

    channel: str
    alerts: int
    since: datetime


@dataclass(frozen=True)
class Damage:
    """A state file that cannot be read."""

    area: str
    path: str
    reason: str


@dataclass(frozen=True)
class Observed:
    """Everything the checks look at; runs and versions oldest first.

    `changes` are read for checks alone; `undelivered` stands in the monitoring state, not in the places.
    """

    runs: tuple[RunFacts, ...] = ()
    experiments: tuple[ExperimentFacts, ...] = ()
    datasets: Mapping[str, tuple[DatasetFacts, ...]] | None = None
    canaries: tuple[CanaryFacts, ...] = ()
    changes: tuple[Change, ...] = ()
    disks: tuple[DiskFacts, ...] = ()
    damage: tuple[Damage, ...] = ()
    undelivered: tuple[UndeliveredFacts, ...] = ()

    def versions(self) -> Mapping[str, tuple[DatasetFacts, ...]]:
        """The dataset versions by signature."""
        return self.datasets or {}


@dataclass(frozen=True)
class Places:
    """The folders to look into."""

    runs: Path
    experiments: Path
    datasets: Path
    programs: Path
    telemetry: Path
