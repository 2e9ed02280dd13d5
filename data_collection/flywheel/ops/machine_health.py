"""What `doctor` looks at on the machine: interpreter, tools, environment, clock."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flywheel.base.clock import iso
from flywheel.base.text import one_line
from flywheel.ops.diagnosis import FAIL, OK, WARN, Diagnosis, as_root

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

# As pyproject.toml's requires-python; a test holds the two together.
OLDEST, BEYOND = (3, 11), (3, 14)
# A file written through a network share may bear a clock that is a little ahead.
CLOCK_SLACK_SECONDS = 120.0
SECONDS = 10
SYNCHRONISE = as_root("timedatectl set-ntp true")
# What the jobs need first; one that is missing tells that the rest may be, too.
PACKAGES = ("dspy", "pydantic", "git", "rapidfuzz", "requests", "optuna", "jinja2")

_MISSING = "import sys; from importlib.util import find_spec as f; print(*(n for n in sys.argv[1:] if f(n) is None))"


def check_machine(root: Path, environment: Mapping[str, str]) -> Iterator[Diagnosis]:
    """Interpreter, uv, git and the environment that the cron jobs use."""
    yield python(sys.version_info[:3], sys.executable)
    yield uv(root)
    yield git()
    yield jobs_environment(root, environment)


def python(version: tuple[int, ...], executable: str) -> Diagnosis:
    """Whether this Python is one that the project supports."""
    found = ".".join(map(str, version))
    if OLDEST <= version[:2] < BEYOND:
        return Diagnosis("python", OK, f"{found} ({executable})")
    wanted = f"at least {OLDEST[0]}.{OLDEST[1]} and below {BEYOND[0]}.{BEYOND[1]}"
    return Diagnosis("python", FAIL, f"{found}, but {wanted} is needed", "uv sync --python 3.13 --extra embedded")


def uv(root: Path) -> Diagnosis:
    """Whether uv is on the PATH or in .tools/; the jobs go on without it."""
    own = root / ".tools" / "bin" / "uv"
    found = shutil.which("uv") or (str(own) if os.access(own, os.X_OK) else None)
    version = answer(found, "--version") if found is not None else None
    if version is None:
        text = "not on the PATH; the jobs run without it, `make` and updates do not"
        return Diagnosis("uv", WARN, text, f"make -C {shlex.quote(str(root))} setup")
    return Diagnosis("uv", OK, version)


def git() -> Diagnosis:
    """Whether git answers."""
    version = answer("git", "--version")
    if version is None:
        return Diagnosis("git", FAIL, "not on the PATH; nothing can be mined", as_root("apt-get install git"))
    return Diagnosis("git", OK, version)


def jobs_environment(root: Path, environment: Mapping[str, str]) -> Diagnosis:
    """Whether the environment that the cron jobs use has a Python (they install nothing)."""
    path = root / (environment.get("UV_PROJECT_ENVIRONMENT") or ".venv") / "bin" / "python"
    fix = f"make -C {shlex.quote(str(root))} setup"
    if not os.access(path, os.X_OK):
        return Diagnosis("environment", FAIL, f"no Python at {path}; the cron jobs would not start", fix)
    missing = answer(str(path), "-I", "-c", _MISSING, *PACKAGES)
    if missing is None:
        return Diagnosis("environment", FAIL, f"{path} does not start; neither would the cron jobs", fix)
    if missing:
        return Diagnosis("environment", FAIL, f"{path} lacks {missing}; the cron jobs would fail", fix)
    return Diagnosis("environment", OK, str(path))


def check_clock(now: datetime, witnesses: Iterable[Path]) -> Diagnosis:
    """Whether the clock is behind a state file that is already written, or known to run free."""
    stamps = {path: path.stat().st_mtime for path in witnesses if path.is_file()}
    newest = max(stamps, key=lambda path: stamps[path], default=None)
    if newest is not None and stamps[newest] > now.timestamp() + CLOCK_SLACK_SECONDS:
        written = iso(datetime.fromtimestamp(stamps[newest], UTC))
        text = f"it is {iso(now)} here, but {newest} was written at {written}"
        fix = f"{SYNCHRONISE}; if the clock is right: touch {shlex.quote(str(newest))}"
        return Diagnosis("clock", FAIL, text, fix)
    synchronised = answer("timedatectl", "show", "--property=NTPSynchronized", "--value")
    if synchronised == "no":
        return Diagnosis("clock", WARN, f"{iso(now)}, not synchronised", SYNCHRONISE)
    known = "synchronised" if synchronised == "yes" else "whether it is synchronised cannot be told here"
    return Diagnosis("clock", OK, f"{iso(now)}, {known}")


def answer(*command: str) -> str | None:
    """What a tool prints, on one line; None when it is missing, fails or does not answer."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return one_line(done.stdout) if done.returncode == 0 else None
