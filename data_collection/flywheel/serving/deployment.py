"""A candidate that is one of our stored programs: the end of its rollout moves `deployed`, a restore moves it back."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from flywheel.base.errors import BadInputError, DamagedError
from flywheel.base.programs import deploy, deployed_program, envelope_signature, undeploy

if TYPE_CHECKING:
    from flywheel.serving.experiments import Experiment


def deployed_version(programs: Path, signature: str) -> str | None:
    """The stored version that `deployed` names; None when nothing is deployed."""
    path = deployed_program(programs, signature)
    return None if path is None else path.parent.name


def deploy_candidate(experiment: Experiment, programs: Path) -> Experiment:
    """Deploy the candidate where it is a stored program; the experiment remembers what was deployed before.

    Raises:
        BadInputError: `deployed` cannot be moved.
    """
    version = _own_version(experiment, programs)
    if version is None:
        return experiment
    before = deployed_version(programs, experiment.signature)
    try:
        deploy(programs, experiment.signature, version)
    except OSError as error:
        msg = f"{programs / experiment.signature}: cannot deploy {version}: {error.strerror}"
        raise BadInputError(msg) from error
    return experiment if before == version else replace(experiment, previous_version=before)


def restore_deployed(experiment: Experiment, programs: Path) -> None:
    """Deploy what was deployed before the experiment completed, unless another program has been deployed since."""
    version = _own_version(experiment, programs)
    if version is None or deployed_version(programs, experiment.signature) != version:
        return
    if experiment.previous_version is None:
        undeploy(programs, experiment.signature)
    else:
        deploy(programs, experiment.signature, experiment.previous_version)


def _own_version(experiment: Experiment, programs: Path) -> str | None:
    """The candidate's version if it is one of the stored programs of the signature."""
    path = Path(experiment.candidate_module).resolve()
    with contextlib.suppress(BadInputError, DamagedError):
        own = path.parent.parent == (programs / experiment.signature).resolve()
        if own and envelope_signature(path) == experiment.signature:
            return path.parent.name
    return None
