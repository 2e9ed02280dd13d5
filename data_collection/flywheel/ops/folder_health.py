"""What `doctor` looks at in the folders: whose they are, who may write, and a backup that was copied into itself."""

from __future__ import annotations

import os
import shlex
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flywheel.base.paths import PRIVATE_FOLDER, SHARED_FOLDER
from flywheel.ops.diagnosis import FAIL, OK, WARN, Diagnosis, as_root

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PRIVATE_BITS = 0o077
TEMPORARY = Path("/tmp")  # noqa: S108 - whose folder is looked at, nothing is made there
SHARED_BITS = 0o007


@dataclass(frozen=True)
class Folder:
    """A place to look at: `owned` must be this user's and no link, `closed` is for its owner alone.

    A shared one is opened to FLYWHEEL_GROUP, where that is set.
    """

    name: str
    path: Path
    owned: bool = True
    closed: bool = True
    shared: bool = False


def check_folder(folder: Folder, gid: int | None) -> Diagnosis:
    """Whether the folder is there or can be made, is ours, can be written, and is closed to others."""
    name, path = f"folder {folder.name}", folder.path
    shown = shlex.quote(str(path))
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return _absent(name, path)
    except OSError as error:
        return Diagnosis(name, FAIL, f"{path}: {error.strerror}", f"ls -ld {shown}")
    if not stat.S_ISDIR(status.st_mode) and not (path.is_symlink() and path.is_dir() and not folder.owned):
        kind = "is a link" if path.is_symlink() else "is no folder"
        return Diagnosis(name, FAIL, f"{path} {kind}", f"mv {shown} {shlex.quote(f'{path}.aside')}")
    trusted = gid if folder.shared else None
    if folder.owned and status.st_uid != os.geteuid() and (trusted is None or status.st_gid != trusted):
        text = f"{path} belongs to another user (uid {status.st_uid}) and is refused"
        return Diagnosis(name, FAIL, text, f"{as_root(f'chown -R {os.geteuid()} {shown}')}, or name another folder")
    if not os.access(path, os.W_OK | os.X_OK):
        return Diagnosis(name, FAIL, f"{path} cannot be written by this user", f"chmod u+rwx {shown}")
    return _openness(folder, status, trusted) or Diagnosis(name, OK, str(path))


def _absent(name: str, path: Path) -> Diagnosis:
    parent = next(parent for parent in path.parents if parent.exists())
    if parent.is_dir() and os.access(parent, os.W_OK | os.X_OK):
        return Diagnosis(name, OK, f"{path} (made when it is first needed)")
    owner = shlex.quote(str(path))
    return Diagnosis(
        name, FAIL, f"{path} does not exist and cannot be made in {parent}",
        as_root(f"install -d -m 700 -o {os.geteuid()} {owner}"),
    )  # fmt: skip


def _openness(folder: Folder, status: os.stat_result, gid: int | None) -> Diagnosis | None:
    """A warning when others have more than they need; None when not."""
    if not folder.closed:
        return None
    path, mode = shlex.quote(str(folder.path)), stat.S_IMODE(status.st_mode)
    text = f"{folder.path} has mode {mode:04o}"
    if gid is None:
        if not mode & PRIVATE_BITS:
            return None
        return Diagnosis(f"folder {folder.name}", WARN, f"{text}: open to others", f"chmod {PRIVATE_FOLDER:o} {path}")
    if mode == SHARED_FOLDER and status.st_gid == gid:
        return None
    what = f"{text} and group {status.st_gid}: FLYWHEEL_GROUP needs {SHARED_FOLDER:o} and group {gid}"
    level = WARN if not mode & SHARED_BITS else FAIL
    return Diagnosis(f"folder {folder.name}", level, what, f"chgrp {gid} {path} && chmod {SHARED_FOLDER:o} {path}")


def check_files(files: Iterable[Path]) -> Iterator[Diagnosis]:
    """A warning for each state or configuration file that others may read or write; one line when none is."""
    looked = 0
    for path in files:
        if not path.is_file():
            continue
        looked += 1
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & PRIVATE_BITS:
            text = f"{path} has mode {mode:04o}: others may read it"
            yield Diagnosis("private files", WARN, text, f"chmod 600 {shlex.quote(str(path))}")
    yield Diagnosis("private files", OK, f"{looked} state and configuration files looked at")


def check_history(runs: Path) -> Diagnosis:
    """Whether the runs outlive the machine's next start: trends, spend and the missed-cycle alarm are read off them."""
    if not runs.is_relative_to(TEMPORARY):
        return Diagnosis("history", OK, f"{runs} outlives a restart")
    text = f"{runs} is in {TEMPORARY}, which most systems empty when they start: trends and spend would begin anew"
    return Diagnosis(
        "history", WARN, text, "export OUTPUT_DIR=$HOME/optimization_runs, and the same above cron's entries"
    )


def check_backup(experiments: Path) -> Diagnosis:
    """Whether a copy of the experiments was copied *into* a folder that existed, where nothing reads it."""
    backup = experiments.with_name(f"{experiments.name}.backup")
    inside, shown = shlex.quote(f"{backup}/."), shlex.quote(f"{experiments}/")
    for nested, holder in ((experiments / backup.name, experiments), (backup / experiments.name, backup)):
        if nested.is_dir():
            text = f"{nested} is a copy inside {holder.name}: `cp -r` put it there because the folder existed"
            return Diagnosis(
                "backup", WARN, text,
                f"to restore it: cp -a {shlex.quote(f'{nested}/.')} {shown}; "
                f"then: mv {shlex.quote(str(nested))} {shlex.quote(f'{backup}.old')}",
            )  # fmt: skip
    if backup.is_dir() and experiments.is_dir():
        return Diagnosis("backup", OK, f"{backup}; restore it with `cp -a {inside} {shown}`, not with `cp -r` alone")
    return Diagnosis("backup", OK, "no copy of the experiments was copied into itself")
