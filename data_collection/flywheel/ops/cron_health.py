"""What `doctor` looks at in cron: whether the jobs are there, by crontab or systemd, are started, and know a model."""

from __future__ import annotations

import contextlib
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from flywheel.base.errors import BadInputError
from flywheel.ops.crontab import ABSENT, ACTIVE, JOBS, MONTHLY, TURNED_OFF, read_crontab, settings, state_of
from flywheel.ops.diagnosis import FAIL, OK, WARN, Diagnosis, as_root
from flywheel.ops.machine_health import answer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flywheel.ops.crontab import Job

MODEL_VARIABLES = ("ANTHROPIC_API_KEY", "FLYWHEEL_MODEL")
PLACEHOLDER = "sk-ant-..."
STOP_FILE = ".stop_optimization"
PROCESSES, PID_FILES = Path("/proc"), (Path("/run/crond.pid"), Path("/run/cron.pid"))
DAEMONS = frozenset({"cron", "crond", "fcron"})


def check_cron(root: Path) -> Iterator[Diagnosis]:
    """Each job's entry, and the model that cron's environment names."""
    try:
        crontab, trouble = read_crontab(), None
    except BadInputError as error:
        crontab, trouble = "", str(error)
    states = {job: state_of(job, crontab, root) for job in JOBS}
    for job, state in states.items():
        yield _job(job, state, trouble, f"make -C {shlex.quote(str(root))} install-cron YES=1")
    if ACTIVE in states.values() and PROCESSES.is_dir():
        yield _daemon()
    if states[MONTHLY] == ACTIVE:
        yield _model(crontab)
    stop = root / STOP_FILE
    if stop.exists():
        yield Diagnosis(
            "stop file", WARN, f"{stop} keeps the monthly job from starting", f"rm {shlex.quote(str(stop))}"
        )


def _job(job: Job, state: str, trouble: str | None, install: str) -> Diagnosis:
    name = f"cron {job.script.removeprefix('cron_').removesuffix('.sh')}"
    if state == ACTIVE:
        return Diagnosis(name, OK, f"{job.script} is in the crontab")
    if timer_enabled(job):
        return Diagnosis(name, OK, f"{timer(job)} is enabled")
    if state == TURNED_OFF:
        return Diagnosis(name, WARN, f"{job.script} is turned off by a #", "crontab -e, and take the # away")
    if trouble == ABSENT:
        fix = f"{as_root('apt-get install cron')} && {install}"
        return Diagnosis(name, WARN, "no crontab command on this machine", fix)
    return Diagnosis(name, WARN, trouble or f"{job.script} is in no crontab of this user", install)


def _daemon() -> Diagnosis:
    """Entries that nothing starts are the quietest failure there is: containers have a crontab and no daemon."""
    if at_work():
        return Diagnosis("cron daemon", OK, "at work")
    return Diagnosis("cron daemon", FAIL, "no cron is at work: the entries do not start", as_root("service cron start"))


def at_work() -> bool:
    """Whether a cron daemon runs: by its name, or by its pid file where other users' processes are hidden."""
    for path in PROCESSES.glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if path.read_text(encoding="utf-8", errors="replace").strip() in DAEMONS:
                return True
    return any(_alive(path) for path in PID_FILES)


def _alive(pid_file: Path) -> bool:
    """Whether the process that a pid file names exists."""
    try:
        os.kill(int(pid_file.read_text(encoding="ascii")), 0)
    except PermissionError:
        return True
    except (OSError, ValueError, OverflowError):
        return False
    return True


def timer(job: Job) -> str:
    """The systemd timer of deploy/systemd/ that stands for the job."""
    return f"flywheel-{job.script.removeprefix('cron_').removesuffix('.sh').split('_')[0]}.timer"


def timer_enabled(job: Job) -> bool:
    """Whether systemd runs the job, for the system or for this user; False where systemd is not at work."""
    return any(answer("systemctl", *scope, "is-enabled", timer(job)) == "enabled" for scope in ((), ("--user",)))


def _model(crontab: str) -> Diagnosis:
    known = settings(crontab)
    named = [name for name in MODEL_VARIABLES if known.get(name)]
    fix = "crontab -e, and above the entries: ANTHROPIC_API_KEY=... or FLYWHEEL_MODEL=..."
    if not named:
        return Diagnosis("cron model", WARN, "the crontab names no key and no model: the cycle will not start", fix)
    if known[named[0]] == PLACEHOLDER:
        return Diagnosis("cron model", WARN, f"the crontab's {named[0]} is the example's", fix)
    return Diagnosis("cron model", OK, f"the crontab sets {', '.join(named)}")
