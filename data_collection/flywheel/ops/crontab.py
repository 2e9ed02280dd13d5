"""The user's crontab: which of this project's jobs it has, and what to add for the others."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flywheel.base.errors import BadInputError
from flywheel.base.paths import LOGS
from flywheel.base.text import one_line, visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ACTIVE, TURNED_OFF, MISSING = "active", "turned off", "missing"
ABSENT = (
    "no crontab command on this machine: `apt-get install cron` where packages are Debian's, or take the timers in "
    "deploy/systemd/ instead"
)
SECONDS = 30
_SETTING = re.compile(r"""\s*["']?([A-Za-z_]\w*)["']?\s*=""")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# What cron must be told because it passes nothing on: the folders and choices of the shell that installs.
# Keys and passwords are not among them: they would be copied into another file unasked.
CARRIED = (
    "OUTPUT_DIR", "TRAINING_DATA_DIR", "AB_EXPERIMENTS_DIR", "OPTIMIZED_MODULES_DIR", "TELEMETRY_DIR", "ALERT_DIR",
    "MONITORING_STATE", "MONITORING_CONFIG", "METRICS_FILE", "LOG_DIR", "REPO_PATH", "GIT_MINING_TARGET",
    "SYNTHETIC_TARGET", "MIPRO_TRIALS", "FLYWHEEL_MODEL", "FLYWHEEL_API_BASE", "FLYWHEEL_GROUP", "FLYWHEEL_SIGNATURES",
    "UV_PROJECT_ENVIRONMENT", "XDG_STATE_HOME", "CANARY_ON_DRIFT",
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One of the cron wrappers with its schedule in cron's five fields."""

    script: str
    schedule: str
    log: str
    purpose: str


MONTHLY = Job("cron_monthly_optimization.sh", "0 2 1 * *", "dspy_optimization.log", "Monthly optimization")
JOBS = (
    MONTHLY,
    Job("cron_resume.sh", "30 2 * * *", MONTHLY.log, "Daily: go on with an optimization that was cut short"),
    Job("cron_monitoring.sh", "0 * * * *", "dspy_monitoring.log", "Hourly monitoring"),
    Job("cron_cleanup.sh", "0 3 * * 0", "dspy_cleanup.log", "Weekly cleanup"),
    Job("cron_canary.sh", "0 4 * * 1", "dspy_canary.log", "Weekly canary of the deployed programs"),
)


def read_crontab() -> str:
    """The user's crontab; empty when there is none.

    Raises:
        BadInputError: this machine has no crontab command, or it refuses.
    """
    done = _crontab("-l")
    if done.returncode == 0:
        return done.stdout
    if "no crontab for" in done.stderr:
        return ""
    msg = f"crontab -l failed: {one_line(done.stderr) or f'exit code {done.returncode}'}"
    raise BadInputError(msg)


def write_crontab(text: str) -> None:
    """Install `text` as the user's crontab, and read it back.

    Raises:
        BadInputError: it was refused, or is not what was written.
    """
    done = _crontab("-", text=text)
    if done.returncode:
        msg = f"crontab refused the new entries: {one_line(done.stderr)}"
        raise BadInputError(msg)
    if read_crontab().splitlines() != text.splitlines():
        msg = "crontab took the entries but does not show them; look with `crontab -l`"
        raise BadInputError(msg)


def _crontab(argument: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["crontab", argument], input=text, capture_output=True, text=True, errors="surrogateescape",
            check=False, timeout=SECONDS, env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except FileNotFoundError as error:
        raise BadInputError(ABSENT) from error
    except subprocess.TimeoutExpired as error:
        msg = f"crontab {argument} did not answer within {SECONDS} s"
        raise BadInputError(msg) from error


def state_of(job: Job, crontab: str, root: Path) -> str:
    """Whether the crontab runs this project's job, has its line behind a #, or neither."""
    path = str(root / "data_collection" / job.script)
    names = {path, shlex.quote(path), _escaped(shlex.quote(path))}
    lines = [line.strip() for line in crontab.splitlines() if any(name in line for name in names)]
    if any(not line.startswith("#") for line in lines):
        return ACTIVE
    return TURNED_OFF if lines else MISSING


def settings(crontab: str) -> dict[str, str]:
    """The environment that the crontab sets, names to values without their quotes."""
    found = {}
    for line in crontab.splitlines():
        match = _SETTING.match(line)
        if match:
            found[match[1]] = line[match.end() :].strip().strip("\"'")
    return found


def log_folder(environment: Mapping[str, str]) -> Path:
    """Where the jobs' logs go: LOG_DIR (/var/log) where it can be written, else the user's own state folder.

    The same rule as cron_environment.sh's.
    """
    wanted = Path(environment.get(LOGS.variable) or LOGS.default)
    if wanted.is_dir() and os.access(wanted, os.W_OK):
        return wanted
    state = environment.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "dspy_flywheel"


def additions(crontab: str, root: Path, environment: Mapping[str, str]) -> list[str]:
    """The lines to append so that every job runs; none when nothing is missing.

    A job that is there stays as it is, one behind a # stays off. A setting that the crontab has anywhere is kept.

    Raises:
        BadInputError: a path or setting holds characters that a crontab cannot carry.
    """
    missing = [job for job in JOBS if state_of(job, crontab, root) == MISSING]
    if not missing:
        return []
    logs = log_folder(environment)
    known = settings(crontab)
    carried = {name: environment[name] for name in CARRIED if environment.get(name) and name not in known}
    for text in (str(root), str(logs), *carried.values()):
        if _CONTROL.search(text) or visible(text) != text:
            msg = f"{one_line(text)!r}: holds characters that a crontab cannot carry"
            raise BadInputError(msg)
    lines = [f"# DSPy flywheel in {root}", *(f'{name}="{value}"' for name, value in carried.items())]
    for job in missing:
        path, log = (shlex.quote(str(item)) for item in (root / "data_collection" / job.script, logs / job.log))
        lines += [f"# {job.purpose}", f"{job.schedule} {_escaped(f'{path} >> {log} 2>&1')}"]
    return lines


def extended(crontab: str, lines: Sequence[str]) -> str:
    """The crontab with the lines after everything else, so that their settings reach no other entry."""
    before = crontab if not crontab or crontab.endswith("\n") else f"{crontab}\n"
    gap = "\n" if before and lines else ""
    return before + gap + "".join(f"{line}\n" for line in lines)


def _escaped(command: str) -> str:
    """To cron an unescaped % ends the command."""
    return command.replace("%", "\\%")
