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
    version = _own_version(experiment.candidate_module, experiment.signature, programs)
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
    """Deploy what was deployed before the experiment moved `deployed`, unless another program has been deployed since.

    Raises:
        BadInputError: what was deployed before is gone.
    """
    own = {_own_version(item.module, experiment.signature, programs) for item in experiment.candidates}
    version = deployed_version(programs, experiment.signature)
    if version is None or version not in own or version == experiment.previous_version:
        return
    if experiment.previous_version is None:
        undeploy(programs, experiment.signature)
    else:
        deploy(programs, experiment.signature, experiment.previous_version)


def _own_version(module: str, signature: str, programs: Path) -> str | None:
    """The module's version if it is one of the stored programs of the signature."""
    path = Path(module).resolve()
    with contextlib.suppress(BadInputError, DamagedError):
        own = path.parent.parent == (programs / signature).resolve()
        if own and envelope_signature(path) == signature:
            return path.parent.name
    return None
