"""The watch over an experiment: one look, or look after look until it ends."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flywheel.base import cli
from flywheel.base.errors import BadInputError, DamagedError
from flywheel.serving.rollout import look

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from flywheel.serving.experiment_store import ExperimentStore
    from flywheel.serving.experiments import Experiment
    from flywheel.serving.stage_clock import Moment

RETRY_SECONDS = 60


@dataclass(frozen=True)
class Setting:
    """Where a command works, and its clock."""

    store: ExperimentStore
    telemetry: Path
    programs: Path
    now: Callable[[], Moment]


def look_once(experiment_id: str, setting: Setting) -> Experiment:
    """One look; what it decided is said."""
    after, seen = look(setting.store, experiment_id, setting.telemetry, setting.programs, setting.now())
    if seen is None:
        cli.say(f"{experiment_id}: {after.status}, {after.candidate_traffic_percent:g} %")
    else:
        cli.say(f"{experiment_id}: {after.candidate_traffic_percent:g} %: {seen.line['action']}: {seen.line['text']}")
    return after


def keep_watch(experiment_id: str, setting: Setting, interval: float | None) -> Experiment:
    """Look until the experiment ends; trouble with state or disk is said and holds."""
    while True:
        seconds = interval
        try:
            experiment = look_once(experiment_id, setting)
            if not experiment.live:
                return experiment
            seconds = experiment.config.tick_seconds if interval is None else interval
        except (BadInputError, DamagedError) as error:
            if not setting.store.path(experiment_id).exists():
                raise
            cli.say(f"{experiment_id}: hold: {error}")
        time.sleep(RETRY_SECONDS if seconds is None else seconds)
