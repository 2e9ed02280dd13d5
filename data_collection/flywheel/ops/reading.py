"""Reading what monitoring looks at, as plain JSON so that a look starts fast.

A file that cannot be read hides nothing else: it becomes a Damage, and the rest is read.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any, TypeVar

from flywheel.base.canaries import read_scores
from flywheel.base.clock import now
from flywheel.base.errors import BadInputError, DamagedError
from flywheel.base.files import read_json_object
from flywheel.base.programs import DEPLOYED, FILE_NAME
from flywheel.ops.fields import Fields
from flywheel.ops.inputs import read_changes
from flywheel.ops.observed import (
    AB_TESTS,
    DATASETS,
    MODELS,
    ORCHESTRATION,
    CanaryFacts,
    Damage,
    DatasetFacts,
    DiskFacts,
    ExperimentFacts,
    Observed,
    Places,
    RunFacts,
    SignatureFacts,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime, timedelta
    from pathlib import Path

_T = TypeVar("_T")
SUMMARY = "orchestration_summary.json"


def observe(places: Places, window: timedelta | None = None) -> Observed:
    """Read everything there is; folders that do not exist yet hold nothing.

    With a `window` also the inputs of the last days and of the newest dataset versions, which drift is looked for in.
    """
    damage: list[Damage] = []
    runs = _read_all(sorted(places.runs.glob(f"run_*/{SUMMARY}")), ORCHESTRATION, read_run, damage)
    experiments = _read_all(sorted(places.experiments.glob("experiment_*.json")), AB_TESTS, read_experiment, damage)
    found = _read_all(sorted(places.datasets.glob("*/v*_*/metadata.json")), DATASETS, read_dataset, damage)
    canaries = _read_all(sorted(places.programs.glob(f"*/{DEPLOYED}/{FILE_NAME}")), MODELS, read_canary, damage)
    datasets: dict[str, list[DatasetFacts]] = {}
    for facts in sorted(found, key=lambda facts: (facts.signature, facts.sequence)):
        datasets.setdefault(facts.signature, []).append(facts)
    changes, unread = read_changes(datasets, places.telemetry, window, now()) if window is not None else ([], [])
    return Observed(
        tuple(sorted(runs, key=lambda run: (run.started, run.run_id))),
        tuple(sorted(experiments, key=lambda experiment: (experiment.created, experiment.experiment_id))),
        {name: tuple(versions) for name, versions in datasets.items()},
        tuple(canaries),
        tuple(changes),
        _disks((places.runs, places.experiments, places.datasets, places.programs)),
        (*damage, *unread),
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
        fields.last_moment("resumed_at"),
    )


def _signature(fields: Fields) -> SignatureFacts:
    return SignatureFacts(
        fields.maybe_text("verdict"),
        fields.flag("deployed"),
        fields.maybe_number("baseline_score"),
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
        *_last_look(fields, history),
    )


def _last_look(
    fields: Fields, history: tuple[dict[str, Any], ...]
) -> tuple[Mapping[str, Any], str | None, datetime | None, frozenset[str], Mapping[str, Mapping[str, Any]]]:
    """The last look: its figures (else the last change's, none before the first look), what it decided, when and why.

    The last are the figures of each candidate where there are several.
    """
    found = _object(fields.raw("decision") if "decision" in fields.names() else None)
    text, arms = found.get("text"), _object(found.get("arms"))
    looked = Fields(found, "decision").moment("at") if found.get("at") is not None else None
    reasons = [_object(line).get("reasons") for line in (found, *arms.values())]
    codes = frozenset(str(code) for listed in reasons if isinstance(listed, list) for code in listed)
    figures = next((known for line in (found, *reversed(history)) if (known := _object(line.get("figures")))), {})
    each = {name: _object(_object(arm).get("figures")) for name, arm in arms.items()}
    return figures, str(text) if text else None, looked, codes, {name: known for name, known in each.items() if known}


def _object(value: Any) -> dict[str, Any]:
    """The value if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def read_canary(path: Path) -> CanaryFacts:
    """The canary beside a deployed program's file."""
    folder = path.parent.resolve()
    return CanaryFacts(folder.parent.name, str(folder), read_scores(folder))


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
