"""Runs, experiments and dataset versions as files, written by the types that own the formats."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flywheel.base.canaries import CanaryScore
from flywheel.base.clock import iso, stamp
from flywheel.base.programs import Program, ProgramField, ProgramScores
from flywheel.data.metadata import DatasetMetadata, QualityScores, Statistics
from flywheel.ops.runs import RunSummary, SignatureResult

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NOW = datetime(2025, 11, 4, 12, tzinfo=UTC)
ONE = "extract_requirements"


def write_run(
    root: Path,
    started: datetime,
    *,
    success: bool = True,
    error: str | None = None,
    ended: bool = True,
    resumed: tuple[datetime, ...] = (),
    **result: Any,
) -> Path:
    """A run's folder with its summary."""
    folder = root / f"run_{stamp(started)}"
    folder.mkdir(parents=True)
    RunSummary(
        run_id=folder.name,
        start_time=iso(started),
        end_time=iso(started) if ended else None,
        success=success,
        error=error,
        resumed_at=tuple(map(iso, resumed)),
        config={"min_improvement": 5.0},
        signatures={ONE: SignatureResult.model_validate(result)},
    ).write(folder)
    return folder


def experiment(name: str = "extract_reqs_v2", **changes: Any) -> dict[str, Any]:
    """An experiment's record by the contract's keys, and one that monitoring does not know."""
    return {
        "id": name,
        "experiment_id": name,
        "signature": ONE,
        "status": "running",
        "final_status": None,
        "created_at": iso(NOW),
        "stage": 1,
        "candidate_traffic_percent": 10,
        "rollback_reason": None,
        "rollback_at": None,
        "config": {},
        "history": [],
        "something_new": 1,
        **changes,
    }


def rolled_back(at: datetime, reason: str, by: str = "rule", **changes: Any) -> dict[str, Any]:
    """The record of an experiment that was rolled back at 25 %."""
    lines = [("started", 10), ("promoted", 25), ("rolled_back", 0)]
    history = [
        {"at": iso(at), "event": event, "by": by, "reason": reason, "stage": 2, "candidate_traffic_percent": share}
        for event, share in lines
    ]
    return experiment(
        status="rolled_back", final_status="rolled_back", candidate_traffic_percent=0, stage=2, rollback_reason=reason,
        rollback_at=iso(at), history=history, **changes,
    )  # fmt: skip


def write_experiment(root: Path, record: dict[str, Any]) -> Path:
    """The record as its file."""
    root.mkdir(parents=True, exist_ok=True)
    path = root / f"experiment_{record['experiment_id']}.json"
    path.write_text(json.dumps(record))
    return path


def write_dataset(
    root: Path, created: datetime, quality: float, *, examples: int = 95, signature: str = ONE, sequence: int = 1
) -> Path:
    """A dataset version's metadata.json."""
    folder = root / signature / f"v{stamp(created)}"
    folder.mkdir(parents=True)
    scores = QualityScores(mean=quality, median=quality, min=quality, max=quality, count=examples)
    sources = {"synthetic": examples // 2, "git": examples - examples // 2}
    metadata = DatasetMetadata(
        version=folder.name,
        sequence=sequence,
        signature=signature,
        created=iso(created),
        parent_version=None,
        source="git",
        notes="",
        example_count=examples,
        salt="s",
        content_hash="h",
        files={},
        statistics=Statistics(sources=sources, difficulty={}, categories={}, quality_scores=scores, splits={}),
    )
    (folder / "metadata.json").write_text(metadata.model_dump_json())
    return folder


def envelope(signature: str = ONE) -> Program:
    """A program that nobody can run, but everybody can read."""
    return Program(
        signature=signature,
        fields=(ProgramField("user_intent", "input", "str", "An intent"),),
        instructions="Do it.",
        demos=(),
        adapter="ChatAdapter",
        model="openai/gpt",
        model_snapshot=None,
        model_parameters={},
        optimizer="mipro",
        seed=0,
        dataset_version="v20250101_000000",
        dataset_hash="h",
        run_id="run_20250101_000000",
        created=iso(NOW),
        scores=ProgramScores(0.4, 0.5, 25.0, (1.0, 40.0), 50),
        state={},
    )


def canary(at: datetime, scores: Sequence[float | None], snapshot: str | None = "m-1", groups: int = 0) -> CanaryScore:
    """A scoring of as many examples; each is a group of its own, or they share `groups` groups."""
    by_id = {f"e{number}": score for number, score in enumerate(scores)}
    shared = {f"e{number}": f"g{number % groups if groups else number}" for number in range(len(scores))}
    return CanaryScore(iso(at), "v20251001_000000", "openai/m", snapshot, by_id, shared, len(scores), 0.5)
