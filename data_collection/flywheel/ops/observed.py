"""What monitoring looks at: runs, experiments, datasets and disks, read as plain JSON so that a look starts fast.

A file that cannot be read hides nothing else: it becomes a Damage, and the rest is read.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from flywheel.base.errors import BadInputError, DamagedError
from flywheel.base.files import read_json_object
from flywheel.ops.fields import Fields

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime
    from pathlib import Path

ORCHESTRATION, AB_TESTS, DATASETS, SYSTEM = "orchestration", "ab_tests", "datasets", "system"
AREAS = (ORCHESTRATION, AB_TESTS, DATASETS, SYSTEM)
_T = TypeVar("_T")
SUMMARY = "orchestration_summary.json"


@dataclass(frozen=True)
class SignatureFacts:
    """One signature's month in a run; cost in US dollars, None when the price is not known."""

    verdict: str | None
    deployed: bool
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


@dataclass(frozen=True)
class ExperimentFacts:
    """An A/B experiment; `share` is the candidate's traffic in percent."""

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
class DiskFacts:
    """The file system that a place is on."""

    path: str
    used_percent: float
    free_gb: float
    writable: bool


@dataclass(frozen=True)
class Damage:
    """A state file that cannot be read."""

    area: str
    path: str
    reason: str


@dataclass(frozen=True)
class Observed:
    """Everything the checks look at; runs and versions oldest first."""

    runs: tuple[RunFacts, ...] = ()
    experiments: tuple[ExperimentFacts, ...] = ()
    datasets: Mapping[str, tuple[DatasetFacts, ...]] | None = None
    disks: tuple[DiskFacts, ...] = ()
    damage: tuple[Damage, ...] = ()

    def versions(self) -> Mapping[str, tuple[DatasetFacts, ...]]:
        """The dataset versions by signature."""
        return self.datasets or {}


@dataclass(frozen=True)
class Places:
    """The folders to look into."""

    runs: Path
    experiments: Path
    datasets: Path


def observe(places: Places) -> Observed:
    """Read everything there is; folders that do not exist yet hold nothing."""
    damage: list[Damage] = []
    runs = _read_all(sorted(places.runs.glob(f"run_*/{SUMMARY}")), ORCHESTRATION, read_run, damage)
    experiments = _read_all(sorted(places.experiments.glob("experiment_*.json")), AB_TESTS, read_experiment, damage)
    found = _read_all(sorted(places.datasets.glob("*/v*_*/metadata.json")), DATASETS, read_dataset, damage)
    datasets: dict[str, list[DatasetFacts]] = {}
    for facts in sorted(found, key=lambda facts: (facts.signature, facts.sequence)):
        datasets.setdefault(facts.signature, []).append(facts)
    return Observed(
        tuple(sorted(runs, key=lambda run: (run.started, run.run_id))),
        tuple(sorted(experiments, key=lambda experiment: (experiment.created, experiment.experiment_id))),
        {name: tuple(versions) for name, versions in datasets.items()},
        _disks((places.runs, places.experiments, places.datasets)),
        tuple(damage),
    )


def _read_all(paths: Iterable[Path], area: str, read: Callable[[Path], _T], damage: list[Damage]) -> list[_T]:
    found: list[_T] = []
    for path in paths:
        try:
            found.append(read(path))
        except (BadInputError, DamagedError) as error:
            damage.append(Damage(area, str(path), str(error)))
    return found


def read_run(path: Path) -> RunFacts:
    """The run of a summary; DamagedError when keys are missing or of another type."""
    fields = Fields(read_json_object(path, "a run summary"), str(path))
    return RunFacts(
        fields.text("run_id"),
        fields.moment("start_time"),
        fields.maybe_moment("end_time"),
        fields.flag("success"),
        fields.maybe_text("error"),
        {name: _signature(result) for name, result in fields.inner("signatures").entries()},
        str(path.parent),
    )


def _signature(fields: Fields) -> SignatureFacts:
    return SignatureFacts(
        fields.maybe_text("verdict"),
        fields.flag("deployed"),
        fields.maybe_number("improvement_percent"),
        fields.maybe_text("module_path"),
        fields.maybe_text("dataset_version"),
        fields.count("lm_calls"),
        fields.maybe_number("cost_usd"),
    )


def read_experiment(path: Path) -> ExperimentFacts:
    """An experiment by the contract's keys, whatever others there are."""
    fields = Fields(read_json_object(path, "an experiment"), str(path))
    history = fields.rows("history")
    if history:
        Fields(history[-1], f"{path}: history").moment("at")
    return ExperimentFacts(
        fields.text("experiment_id"),
        fields.text("signature"),
        fields.text("status"),
        fields.maybe_text("final_status"),
        fields.moment("created_at"),
        fields.count("stage"),
        fields.number("candidate_traffic_percent"),
        fields.maybe_text("rollback_reason"),
        fields.maybe_moment("rollback_at"),
        history,
    )


def read_dataset(path: Path) -> DatasetFacts:
    """A dataset version by its metadata.json."""
    fields = Fields(read_json_object(path, "dataset metadata"), str(path))
    statistics = fields.inner("statistics")
    sources = statistics.inner("sources")
    return DatasetFacts(
        fields.text("signature"),
        fields.text("version"),
        fields.count("sequence"),
        fields.moment("created"),
        fields.count("example_count"),
        statistics.inner("quality_scores").number("mean"),
        {name: sources.count(name) for name in sources.names()},
        str(path.parent),
    )


def _disks(folders: Iterable[Path]) -> tuple[DiskFacts, ...]:
    """One entry for each file system that the folders, or their nearest existing parents, are on."""
    found: dict[int, DiskFacts] = {}
    for folder in folders:
        place = next(path for path in (folder, *folder.parents) if path.is_dir())
        usage = shutil.disk_usage(place)
        facts = DiskFacts(
            str(place),
            round(100 * usage.used / (usage.used + usage.free), 1),
            round(usage.free / 1e9, 1),
            place != folder or os.access(place, os.W_OK | os.X_OK),
        )
        device = place.stat().st_dev
        if device not in found or not facts.writable:
            found[device] = facts
    return tuple(found.values())
