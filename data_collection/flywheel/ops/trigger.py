"""A canary that found another model behind a program may start an optimization cycle: once a program."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from flywheel.base.canaries import mark_triggered, triggered
from flywheel.base.clock import iso, now
from flywheel.base.errors import BadInputError
from flywheel.ops.model_checks import DROP, SNAPSHOT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flywheel.ops.findings import Finding
    from flywheel.ops.observed import CanaryFacts

STDERR = 2


def start_cycle(command: Sequence[str], findings: Sequence[Finding], canaries: Sequence[CanaryFacts]) -> int | None:
    """Run `command` when a program drifted that has started no cycle yet; its exit code, None when it was not run.

    Only a command that ended with 0 counts as started: another one is tried again next time. Its output goes to stderr.

    Raises:
        BadInputError: the command cannot be run.
    """
    drifted = {finding.subject for finding in findings if finding.check in {DROP, SNAPSHOT}}
    due = [Path(canary.folder) for canary in canaries if canary.signature in drifted]
    due = [folder for folder in due if not triggered(folder)]
    if not due:
        return None
    try:
        code = subprocess.run(list(command), check=False, stdin=subprocess.DEVNULL, stdout=STDERR).returncode
    except OSError as error:
        msg = f"--on-drift {command[0]}: cannot be run: {error.strerror}"
        raise BadInputError(msg) from error
    if code == 0:
        for folder in due:
            mark_triggered(folder, iso(now()))
    return code
