"""The door to MLflow: a run's settings, figures and files in somebody's tracking server or store (extra `mlflow`)."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flywheel.base.errors import BadInputError
from flywheel.base.text import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

EXPERIMENT = "dspy-flywheel"
RUN_TAG = "flywheel.run_id"
SQLITE = "sqlite:///"
MOST_METRICS, MOST_OTHERS = 1000, 100


@dataclass(frozen=True)
class Tracked:
    """What is logged of a run: texts by name, (name, value, step) of figures, and files with their folders."""

    run_id: str
    success: bool
    params: dict[str, str]
    tags: dict[str, str]
    metrics: Sequence[tuple[str, float, int]]
    artifacts: Sequence[tuple[Path, str | None]]


def check_tracking(uri: str | None) -> None:
    """See, before anything is spent, that the store answers; an empty URI is MLflow's own default, None is no store.

    Raises:
        BadInputError: MLflow is not installed, or the store does not answer.
    """
    if uri is None:
        return
    if urlsplit(uri).password is not None:
        msg = "--mlflow: the password in it would be written into the run's files; set MLFLOW_TRACKING_URI, give no URI"
        raise BadInputError(msg)
    client = _client(uri)
    _asked(uri, lambda: _experiment(client, uri))


def log_run(uri: str, fields: dict[str, Any]) -> str:
    """Log the run with the fields of `Tracked`, and give MLflow's id of it; one that was logged before is completed.

    Raises:
        BadInputError: MLflow is not installed, or the store does not take it.
    """
    client, tracked = _client(uri), Tracked(**fields)
    return str(_asked(uri, lambda: _log(client, tracked, uri)))


def _client(uri: str) -> Any:
    if importlib.util.find_spec("mlflow") is None:
        msg = "--mlflow needs MLflow: `uv sync --extra mlflow` brings it"
        raise BadInputError(msg)
    # Its own usage statistics go over the network.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient

    return _asked(uri, lambda: MlflowClient(tracking_uri=uri or None))


def _asked(uri: str, ask: Any) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        return ask()
    except (MlflowException, OSError) as error:
        where = uri or "its default store"
        msg = f"MLflow at {where}: {one_line(str(error), 200)}; check --mlflow or MLFLOW_TRACKING_URI"
        raise BadInputError(msg) from error


def _experiment(client: Any, uri: str) -> str:
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return str(found.experiment_id)
    return str(client.create_experiment(EXPERIMENT, artifact_location=_beside(uri)))


def _beside(uri: str) -> str | None:
    """Where the files of a database of one's own go: beside it, as MLflow would put them where one stands by chance."""
    if not uri.startswith(SQLITE):
        return None
    return (Path(uri.removeprefix(SQLITE)).resolve().parent / "mlartifacts").as_uri()


def _log(client: Any, tracked: Tracked, uri: str) -> str:
    from mlflow.entities import Metric, Param, RunTag

    experiment = _experiment(client, uri)
    before = client.search_runs([experiment], f"tags.`{RUN_TAG}` = '{tracked.run_id}'", max_results=1)
    run = before[0] if before else client.create_run(experiment, run_name=tracked.run_id)
    run_id, at = run.info.run_id, run.info.start_time
    params = [Param(name, value) for name, value in tracked.params.items() if name not in run.data.params]
    tags = [RunTag(name, value) for name, value in {RUN_TAG: tracked.run_id, **tracked.tags}.items()]
    metrics = [Metric(name, value, at, step) for name, value, step in tracked.metrics]
    for start in range(0, max(len(params), len(tags)), MOST_OTHERS):
        client.log_batch(run_id, params=params[start : start + MOST_OTHERS], tags=tags[start : start + MOST_OTHERS])
    for start in range(0, len(metrics), MOST_METRICS):
        client.log_batch(run_id, metrics=metrics[start : start + MOST_METRICS])
    for path, folder in tracked.artifacts:
        client.log_artifact(run_id, str(path), folder)
    client.set_terminated(run_id, "FINISHED" if tracked.success else "FAILED")
    return str(run_id)
