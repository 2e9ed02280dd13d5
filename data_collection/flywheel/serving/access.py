"""Who may read the routing file and write interaction records: the modes and groups of folders against who serves.

The service is this very user, or any member of FLYWHEEL_GROUP where that is set. Modes alone are judged: access lists
(ACLs) can allow or forbid more than is seen here.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from flywheel.base.errors import BadInputError
from flywheel.base.paths import GROUP_VARIABLE, shared_group
from flywheel.serving.routing import FILE_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

READ, WRITE, ENTER = 4, 2, 1
_VERBS = {READ: "read", WRITE: "write", ENTER: "enter"}
_LETTERS = {READ: "r", WRITE: "w", ENTER: "x"}
_WATCHED_FILES = 50


@dataclass(frozen=True, slots=True)
class Problem:
    """What keeps a service from its work, and the command or the step that mends it."""

    what: str
    fix: str


@dataclass(frozen=True, slots=True)
class Person:
    """A process's rights: its user id (None: unknown, of no file's owner) and groups."""

    uid: int | None
    groups: frozenset[int]
    name: str


def allowed(status: os.stat_result, person: Person, wanted: int) -> bool:
    """Whether the file's mode gives the person all of `wanted` (READ | WRITE | ENTER); root may do everything."""
    if person.uid == 0:
        return True
    if status.st_uid == person.uid:
        bits = status.st_mode >> 6
    elif status.st_gid in person.groups:
        bits = status.st_mode >> 3
    else:
        bits = status.st_mode
    return bits & wanted == wanted


def problems(experiments: Path, telemetry: Path | None) -> list[Problem]:
    """What keeps the service from reading the routing or writing telemetry, and this user from reading that.

    Nothing is made or changed. `telemetry` is None where the evidence comes from elsewhere.
    """
    try:
        gid = shared_group()
    except BadInputError as error:
        fix = f"create the group (groupadd) or set {GROUP_VARIABLE} to one that exists"
        return [Problem(str(error), fix)]
    here = Person(os.geteuid(), frozenset({os.getegid(), *os.getgroups()}), "this user")
    group = os.environ.get(GROUP_VARIABLE, "")
    service = here if gid is None else Person(None, frozenset({gid}), f"group {group}")
    found = list(_routing(experiments, service))
    if telemetry is not None:
        found += _telemetry(telemetry, service, here)
    return found


def _routing(folder: Path, service: Person) -> Iterator[Problem]:
    yield from _way_to(folder, service)
    if not folder.is_dir():
        return
    yield from _may(folder, service, ENTER)
    yield from _foreign(folder)
    file = folder / FILE_NAME
    if file.is_file():
        yield from _may(file, service, READ)


def _telemetry(folder: Path, service: Person, here: Person) -> Iterator[Problem]:
    yield from _way_to(folder, service)
    if not folder.is_dir():
        yield from _creatable(folder, service)
        return
    yield from _may(folder, service, WRITE | ENTER)
    yield from _may(folder, here, READ | ENTER)
    yield from _foreign(folder)
    if service is not here and not folder.stat().st_mode & stat.S_ISGID:
        what = f"{folder}: files that the service makes there will not belong to {service.name}"
        yield Problem(what, f"chmod g+s {folder}")
    for file in _unreadable(folder, here):
        yield Problem(f"{file}: records that this user cannot read", f"chgrp and chmod g+r {file}, once")


def _unreadable(folder: Path, here: Person) -> Iterable[Path]:
    """The first such file of some; one is enough to know."""
    if not os.access(folder, os.R_OK | os.X_OK):
        return ()
    files = islice((path for path in folder.glob("*.jsonl") if path.is_file()), _WATCHED_FILES)
    return islice((path for path in files if not allowed(path.stat(), here, READ)), 1)


def _creatable(folder: Path, service: Person) -> Iterator[Problem]:
    parent = next(path for path in folder.parents if path.is_dir())
    if not allowed(parent.stat(), service, WRITE | ENTER):
        yield Problem(
            f"{folder}: does not exist, and {service.name} cannot make it in {parent}",
            f"mkdir -p {folder}, as the user of the monitor; `start` then opens it to the service",
        )


def _way_to(folder: Path, person: Person) -> Iterator[Problem]:
    """Each folder on the way must be one that the person may pass."""
    for parent in reversed(folder.parents):
        if parent.is_dir():
            yield from _may(parent, person, ENTER)


def _may(path: Path, person: Person, wanted: int) -> Iterator[Problem]:
    status = path.stat()
    missing = [bit for bit in (READ, WRITE, ENTER) if wanted & bit and not allowed(status, person, bit)]
    if not missing:
        return
    verbs = " or ".join(_VERBS[bit] for bit in missing)
    letters = "".join(_LETTERS[bit] for bit in missing)
    what = f"{path}: {person.name} cannot {verbs} it (mode {stat.S_IMODE(status.st_mode):04o}, gid {status.st_gid})"
    if person.uid is not None:
        fix = f"chmod u+{letters} {path}" if status.st_uid == person.uid else f"let its owner open {path} to this user"
    elif status.st_gid in person.groups:
        fix = f"chmod g+{letters} {path}"
    elif missing == [ENTER]:
        fix = f"chmod o+x {path}, which lets others pass but not look"
    else:
        fix = f"chgrp {person.name.removeprefix('group ')} {path} && chmod g+{letters} {path}"
    yield Problem(what, fix)


def _foreign(folder: Path) -> Iterator[Problem]:
    """Who else could forge routes or evidence."""
    if folder.is_symlink():
        yield Problem(f"{folder}: is a link, which is refused", "name the folder itself")
    if folder.stat().st_mode & stat.S_IWOTH:
        yield Problem(f"{folder}: every user of this machine can write there", f"chmod o-w {folder}")
