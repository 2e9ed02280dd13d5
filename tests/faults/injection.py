"""Death and failure at a command's system calls, by strace: its calls are listed once, then it is struck at each.

    for point in deaths(tmp_path / "state", [sys.executable, script, "promote"]):
        ...  # what the command left in tmp_path / "state" when it was killed right before `point`

The state of the folder is the same before every death. Only changes are points: an fsync or a lock leaves on disk what
was there, so death before one is death before the change that follows it. Each strike is checked to have fired at the
very call that was meant.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.faults.image import image

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

STRACE = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
MUTATING = (
    *("write", "writev", "pwrite64", "pwritev", "pwritev2", "copy_file_range", "sendfile", "truncate", "ftruncate"),
    *("fallocate", "open", "openat", "creat", "rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir"),
    *("mkdir", "mkdirat", "link", "linkat", "symlink", "symlinkat", "mknod", "mknodat", "chmod", "fchmod", "fchmodat"),
    *("chown", "fchown", "lchown", "fchownat", "utimensat"),
)
_OPENING = frozenset({"open", "openat"})
_CREATING = re.compile(r"O_CREAT|O_TRUNC")
_LINE = re.compile(r"(?:\d+ +)?(\w+)\((.*)")
_PATH = re.compile(r'"([^"]*)"|\d+<([^>]*)>')
# Names drawn at random or from the clock; everything else of a path is the same in each run.
_CHANCE = re.compile(r"[0-9a-f]{8,}|\d+")
_FULL = ("-y", "-s", "4096")
_KILLED = "+++ killed by SIGKILL +++"


@dataclass(frozen=True)
class Point:
    """One change on disk: the `number`-th call of that `name` by the command, counted from 1, and its paths.

    Of the paths what is left to chance stands as `#`.
    """

    name: str
    number: int
    paths: tuple[str, ...]


def points(
    command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None, *, code: int = 0
) -> list[Point]:
    """Every change within `folder` that the command makes, in order; it must end with `code`."""
    ended, lines = _traced(["-f", *_trace(MUTATING)], command, environment)
    assert ended == code, f"{command} ended with {ended}"
    first = lines[0].split()[0]
    found = []
    counts: Counter[str] = Counter()
    # Threads and children count for themselves, and only the main thread is struck.
    for line in (line for line in lines if line.startswith(first)):
        if (match := _LINE.match(line)) is None:
            continue
        name, rest = match.groups()
        counts[name] += 1
        if _changes(name, rest, folder):
            found.append(Point(name, counts[name], _masked(name, rest)))
    return found


def family_changes(
    command: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> list[tuple[str, tuple[str, ...]]]:
    """Every change within `folder` by a command of any kind and by all that it starts, as (call, paths), in order."""
    with tempfile.NamedTemporaryFile() as log:
        line = ["strace", "-f", "-qq", *_FULL, *_trace(MUTATING), "-o", log.name, *command]
        done = subprocess.run(line, env=dict(environment), capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        lines = log.read().decode(errors="replace").splitlines()
    matches = [match for line in lines if (match := _LINE.match(line))]
    return [(name, _masked(name, rest)) for name, rest in (m.groups() for m in matches) if _changes(name, rest, folder)]


def deaths(
    folder: Path, command: Sequence[str], environment: Mapping[str, str] | None = None, *, code: int = 0
) -> Iterator[Point]:
    """Yields with `folder` as the command leaves it when killed right before each of its changes there, in order.

    At the end `folder` is as after the whole command, which must end with `code`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        template = Path(scratch) / "state"
        shutil.copytree(folder, template, symlinks=True)
        found = points(command, folder, environment, code=code)
        assert found, f"{command} changes nothing in {folder}"
        whole = Path(scratch) / "whole"
        shutil.copytree(folder, whole, symlinks=True)
        for point in found:
            _restore(folder, template)
            kill_at(point, command, environment)
            yield point
        _restore(folder, whole)


def kill_at(point: Point, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
    """Run the command and kill it right before `point`."""
    injection = f"inject={point.name}:signal=KILL:when={point.number}"
    code, lines = _traced([*_trace([point.name]), "-e", injection], command, environment)
    assert lines, f"strace showed no {point.name}"
    assert lines[-1] == _KILLED, f"{point} did not strike; {command} ended with {code}"
    match = _LINE.match(lines[-2])
    assert match, lines[-2]
    assert (match[1], _masked(match[1], match[2])) == (point.name, point.paths), f"struck {lines[-2]}, not {point}"


def fail_at(injection: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> tuple[int, bool]:
    """Run the command with strace's `injection` (`fsync:error=ENOSPC:when=1`): its exit code, and whether it struck."""
    code, lines = _traced(
        [*_trace([injection.split(":", maxsplit=1)[0]]), "-e", f"inject={injection}"], command, environment
    )
    return code, any("INJECTED" in line for line in lines)


def _trace(names: Sequence[str]) -> list[str]:
    # The question mark: not every machine has every call.
    return ["-e", "trace=" + ",".join(f"?{name}" for name in names)]


def _traced(
    flags: Sequence[str], command: Sequence[str], environment: Mapping[str, str] | None
) -> tuple[int, list[str]]:
    interpreter, *arguments = command
    assert interpreter == sys.executable, f"{command} is no script of ours"
    variables = {**os.environ, **(environment or {}), "PYTHONDONTWRITEBYTECODE": "1"}
    return image().traced([*_FULL, *flags], arguments, variables)


def _paths(name: str, rest: str) -> list[str]:
    """The call's paths: of what works on a descriptor, the descriptor's."""
    found = [text or descriptor for text, descriptor in _PATH.findall(rest.rpartition(" = ")[0])]
    return found if name in _BY_NAME else found[:1]


_BY_NAME = frozenset(MUTATING) - {"write", "writev", "pwrite64", "pwritev", "pwritev2", "ftruncate", "fchmod", "fchown"}


def _changes(name: str, rest: str, folder: Path) -> bool:
    succeeds = " = -1 " not in rest and (name not in _OPENING or _CREATING.search(rest) is not None)
    return succeeds and any(_within(path, folder) for path in _paths(name, rest))


def _masked(name: str, rest: str) -> tuple[str, ...]:
    return tuple(_CHANCE.sub("#", path) for path in _paths(name, rest))


def _within(path: str, folder: Path) -> bool:
    return path == str(folder) or path.startswith(f"{folder}{os.sep}")


def _restore(folder: Path, template: Path) -> None:
    """Make `folder` what `template` is; what has not changed is not touched, so that it keeps its inode."""
    wanted = {path.relative_to(template) for path in template.rglob("*")}
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.relative_to(folder) not in wanted or not _same(path, template / path.relative_to(folder)):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    for name in sorted(wanted):
        source, target = template / name, folder / name
        if target.is_symlink() or target.exists():
            continue
        if source.is_dir() and not source.is_symlink():
            target.mkdir()
            shutil.copystat(source, target)
        else:
            shutil.copy2(source, target, follow_symlinks=False)


def _same(one: Path, other: Path) -> bool:
    if one.lstat().st_mode != other.lstat().st_mode:
        return False
    if one.is_symlink():
        return one.readlink() == other.readlink()
    return one.is_dir() or one.read_bytes() == other.read_bytes()
