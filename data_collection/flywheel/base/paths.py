"""Where things are. Every place has a flag, an environment variable and a default, in that order.

Defaults hang off the project root, so that commands run from the root and from data_collection/ see the same
data; only `--repo-path` is relative to where one stands.
"""

from __future__ import annotations

import contextlib
import grp
import os
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flywheel.base.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT_ROOT = Path(__file__).resolve().parents[3]
PRIVATE_FOLDER = 0o700
SHARED_FOLDER = 0o2770
GROUP_VARIABLE = "FLYWHEEL_GROUP"


@dataclass(frozen=True)
class Place:
    """A location with its environment variable and default (relative ones hang off the project root)."""

    variable: str
    default: str
    purpose: str

    def resolve(self, flag: str | None = None) -> Path:
        """The flag's value, else the environment's, else the default, as an absolute path.

        Raises:
            BadInputError: an empty flag (an unset variable of the caller's, most likely) or an unknown ~user.
        """
        chosen = flag if flag is not None else os.environ.get(self.variable) or None
        if chosen is None:
            return PROJECT_ROOT / self.default
        try:
            path = Path(chosen).expanduser()
        except RuntimeError as error:
            msg = f"{chosen}: no such user"
            raise BadInputError(msg) from error
        if not chosen:
            msg = f"empty path given for the {self.purpose}; leave the flag out for {self.variable} or the default"
            raise BadInputError(msg)
        return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links


RUNS = Place("OUTPUT_DIR", "/tmp/optimization_runs", "folder of optimization runs")  # noqa: S108 - the spec's default
DATASETS = Place("TRAINING_DATA_DIR", "training_data", "folder of versioned datasets")
EXPERIMENTS = Place("AB_EXPERIMENTS_DIR", ".ab_experiments", "folder of A/B experiments and routing_config.json")
PROGRAMS = Place("OPTIMIZED_MODULES_DIR", "optimized_modules", "folder of optimized programs")
MONITORING_STATE = Place("MONITORING_STATE", ".monitoring_state.json", "file of the monitoring state")
MONITORING_CONFIG = Place("MONITORING_CONFIG", "data_collection/monitoring_config.json", "monitoring configuration")
ALERTS = Place("ALERT_DIR", "/tmp/dspy_alerts", "folder of alert files")  # noqa: S108 - the spec's default
TELEMETRY = Place("TELEMETRY_DIR", "/tmp/dspy_telemetry", "folder of interaction records")  # noqa: S108
LOGS = Place("LOG_DIR", "/var/log", "folder of log files")
SIGNATURE_FILES = "FLYWHEEL_SIGNATURES"


def shared_group() -> int | None:
    """The gid that FLYWHEEL_GROUP names: the group of a serving process that runs as another user.

    Raises:
        BadInputError: no such group.
    """
    name = os.environ.get(GROUP_VARIABLE)
    if not name:
        return None
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError as error:
        msg = f"{GROUP_VARIABLE}={name}: no such group on this machine"
        raise BadInputError(msg) from error


def _refuse_foreign(folder: Path, gid: int | None) -> None:
    status = folder.lstat()
    if stat.S_ISLNK(status.st_mode):
        msg = f"{folder}: is a link; name the folder itself"
        raise BadInputError(msg)
    if not stat.S_ISDIR(status.st_mode):
        msg = f"{folder}: exists and is no folder"
        raise BadInputError(msg)
    if status.st_uid != os.geteuid() and (gid is None or status.st_gid != gid):
        msg = f"{folder}: belongs to another user (uid {status.st_uid}); choose another folder or remove it"
        raise BadInputError(msg)


def private_folder(folder: Path, *, shared: bool = False) -> Path:
    """Make `folder` (0700, or 2770 for FLYWHEEL_GROUP where `shared`) and its parents; an existing one must be ours.

    One that is ours is opened to FLYWHEEL_GROUP even if it was made before the variable was set.

    Raises:
        BadInputError: it is a link, no folder, somebody else's, or cannot be written.
    """
    gid = shared_group() if shared else None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir(mode=PRIVATE_FOLDER)
        except FileExistsError:
            _refuse_foreign(folder, gid)
        if gid is not None and folder.stat().st_uid == os.geteuid():
            os.chown(folder, -1, gid)
            folder.chmod(SHARED_FOLDER)
    except OSError as error:
        msg = f"{folder}: cannot be created: {error.strerror}"
        raise BadInputError(msg) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        msg = f"{folder}: not writable by this user; mend its permissions or choose another folder"
        raise BadInputError(msg)
    return folder


@contextlib.contextmanager
def scratch_copy(folder: Path) -> Iterator[Path]:
    """A copy of the folder, or an empty one where it is none, to try something on; it is gone afterwards."""
    with tempfile.TemporaryDirectory() as scratch:
        copied = Path(scratch) / folder.name
        if folder.is_dir():
            shutil.copytree(folder, copied, symlinks=True)
        else:
            copied.mkdir()
        yield copied
