"""A candidate with the verdict deploy is not deployed but rolled out: by stages, and back on evidence of harm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flywheel.serving import rollout, transitions
from flywheel.serving.experiment_store import ExperimentStore
from flywheel.serving.experiments import PENDING
from flywheel.serving.rule import RolloutConfig
from flywheel.serving.stage_clock import Moment

if TYPE_CHECKING:
    from pathlib import Path

RULE = "evidence"
# With a version it makes an id of at most 64 characters.
LONGEST_NAME = 46


def begin_rollout(experiments: Path, programs: Path, signature: str, baseline: Path, candidate: Path) -> str:
    """Start the candidate's rollout at its first stage; the experiment's id. Its end moves `deployed`.

    One that was begun before, by a run that was killed then, goes on as it is.

    Raises:
        BadInputError: another experiment is live on the signature, or the folder cannot be used.
        DamagedError: the routing file cannot be read.
    """
    now = Moment.now()
    name = f"{signature[:LONGEST_NAME]}_{candidate.parent.name}"
    before, after = str(baseline.resolve()), str(candidate.resolve())
    experiment = transitions.pending(name, signature, before, [after], RolloutConfig(), RULE, now)
    store = ExperimentStore(experiments)
    if store.path(name).exists():
        begun = store.read(name)
        if begun.status != PENDING and (begun.signature, begun.candidate_module) == (signature, after):
            return begun.id
    return rollout.start(store, experiment, programs, now).id
