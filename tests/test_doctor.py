"""`monitoring.py doctor` on folders, crontabs and models that are well, and on ones that are not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from tests.crontabs import Crontab
from tests.monitored import write_run

import monitoring
from flywheel.base.clock import now
from flywheel.base.errors import ModelError
from flywheel.ops import cron_health, machine_health
from flywheel.ops.diagnosis import FAIL, OK, WARN, Diagnosis, table
from flywheel.ops.doctor import Model, Subject, examine
from flywheel.ops.folder_health import Folder, check_backup, check_folder, check_history
from flywheel.ops.observed import Places

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[1]
VARIABLES = {
    "OUTPUT_DIR": "runs", "TRAINING_DATA_DIR": "data", "AB_EXPERIMENTS_DIR": ".ab_experiments",
    "OPTIMIZED_MODULES_DIR": "programs", "MONITORING_STATE": "state.json", "ALERT_DIR": "alerts",
    "TELEMETRY_DIR": "telemetry",
}  # fmt: skip


class Ward:
    """Places of its own, a crontab, and the doctor."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root = root
        self.capsys = capsys
        self.code = 0

    def look(self, *flags: str) -> dict[str, list[dict[str, Any]]]:
        self.code = monitoring.main(["doctor", "--skip-model", "--json", *flags])
        told = json.loads(self.capsys.readouterr().out)
        assert told["ok"] == (self.code == 0)
        found: dict[str, list[dict[str, Any]]] = {}
        for row in told["checks"]:
            assert row["level"] == OK or row["fix"], row
            found.setdefault(row["check"], []).append(row)
        return found

    def one(self, check: str, *flags: str) -> dict[str, Any]:
        return self.look(*flags)[check][0]


@pytest.fixture
def ward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ward:
    for name, place in VARIABLES.items():
        monkeypatch.setenv(name, str(tmp_path / place))
    for name in ("ANTHROPIC_API_KEY", "FLYWHEEL_MODEL", "FLYWHEEL_GROUP", "FLYWHEEL_API_BASE", "MONITORING_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("UV_PROJECT_ENVIRONMENT", sys.prefix)
    (tmp_path / "cron").mkdir()
    Crontab(tmp_path / "cron", monkeypatch)
    return Ward(tmp_path, capsys)


def tree(folder: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.lstat().st_mode, path.lstat().st_mtime_ns) for path in folder.rglob("*")}


def test_nothing_is_broken_on_a_fresh_checkout_and_nothing_is_changed(ward: Ward) -> None:
    before = tree(ward.root)
    found = ward.look()
    assert ward.code == 0
    assert {"python", "git", "environment", "clock", "model", "folder runs", "disk", "backup"} <= found.keys()
    assert tree(ward.root) == before


def test_the_table_is_for_people_and_stdout_stays_empty(ward: Ward) -> None:
    assert monitoring.main(["doctor", "--skip-model"]) == 0
    told = ward.capsys.readouterr()
    assert told.out == ""
    assert f"-> make -C {ROOT} install-cron YES=1" in told.err
    assert told.err.splitlines()[-1].endswith("0 broken")


def test_versions_are_those_of_the_project() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    oldest, beyond = (".".join(map(str, pair)) for pair in (machine_health.OLDEST, machine_health.BEYOND))
    assert wanted == f">={oldest},<{beyond}"
    levels = [
        machine_health.python(version, "python").level for version in ((3, 10, 9), (3, 11, 0), (3, 13, 7), (3, 14))
    ]
    assert levels == [FAIL, OK, OK, FAIL]


def test_missing_tools_and_a_missing_environment_are_told(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(ward.root))
    monkeypatch.setenv("UV_PROJECT_ENVIRONMENT", str(ward.root / "none"))
    found = ward.look()
    assert ward.code == 1
    assert found["git"][0]["fix"].removeprefix("sudo ") == "apt-get install git"
    assert found["environment"][0]["fix"].endswith("setup")
    assert "apt-get install cron" in found["cron monitoring"][0]["fix"]


def test_a_tool_that_hangs_or_fails_has_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_health, "SECONDS", 0.2)
    assert machine_health.answer("sleep", "60") is None
    assert machine_health.answer("false") is None
    assert machine_health.answer("echo", "a\x1b[31mb") == "a[31mb"


def test_a_clock_behind_the_newest_state_is_broken(ward: Ward) -> None:
    path = write_run(ward.root / "runs", now() - timedelta(days=1)) / "orchestration_summary.json"
    assert ward.one("clock")["level"] == OK
    ahead = now().timestamp() + 3600
    os.utime(path, (ahead, ahead))
    told = ward.one("clock")
    assert (told["level"], ward.code) == (FAIL, 1)
    assert str(path) in told["what"]


@pytest.mark.parametrize(("answer", "level"), [("yes", OK), ("no", WARN), ("", OK)])
def test_a_clock_that_runs_free_is_told_where_that_is_known(
    ward: Ward, answer: str, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = ward.root / "bin" / "timedatectl"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho {answer}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    assert ward.one("clock")["level"] == level


class Case(NamedTuple):
    """A folder as it may be found, and what is said of it."""

    kind: str
    level: str
    words: str


@pytest.mark.parametrize(
    "case",
    [
        Case("closed", OK, "experiments"),
        Case("open", WARN, "open to others"),
        Case("file", FAIL, "is no folder"),
        Case("link", FAIL, "is a link"),
        Case("dangling", FAIL, "is a link"),
        Case("below a file", FAIL, "cannot be made"),
    ],
)
def test_folders(ward: Ward, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    place = ward.root / ".ab_experiments"
    (ward.root / "real").mkdir(mode=0o700)
    if case.kind in {"closed", "open"}:
        place.mkdir()
        place.chmod(0o700 if case.kind == "closed" else 0o755)
    elif case.kind == "file":
        place.touch()
    elif case.kind == "below a file":
        (ward.root / "plain").touch()
        monkeypatch.setenv("AB_EXPERIMENTS_DIR", str(ward.root / "plain" / "experiments"))
    else:
        place.symlink_to(ward.root / ("real" if case.kind == "link" else "none"))
    told = ward.one("folder experiments")
    assert told["level"] == case.level
    assert case.words in told["what"]


def test_the_fix_of_an_open_folder_mends_it(ward: Ward) -> None:
    (ward.root / "runs").mkdir()
    (ward.root / "runs").chmod(0o777)
    fix = ward.one("folder runs")["fix"]
    subprocess.run(["/bin/sh", "-c", fix], check=True)
    assert ward.one("folder runs")["level"] == OK


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder away")
def test_somebody_elses_folder_is_broken_unless_the_group_is_trusted(tmp_path: Path) -> None:
    folder = tmp_path / "telemetry"
    folder.mkdir()
    os.chown(folder, 1234, 4321)
    folder.chmod(0o2770)
    assert "belongs to another user (uid 1234)" in check_folder(Folder("telemetry", folder, shared=True), None).what
    assert check_folder(Folder("telemetry", folder, shared=True), 4321).level == OK
    assert check_folder(Folder("runs", folder), 4321).level == FAIL
    folder.chmod(0o2777)
    assert check_folder(Folder("telemetry", folder, shared=True), 4321).level == FAIL


def test_an_unknown_group_is_told(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYWHEEL_GROUP", "no_such_group")
    assert "no such group" in ward.one("group")["what"]
    assert ward.code == 1


def test_readable_secrets_are_told_and_a_broken_configuration_is_no_crash(ward: Ward) -> None:
    path = ward.root / "config.json"
    path.write_text('{"nonsense": 1}')
    path.chmod(0o644)
    found = ward.look("--config", str(path))
    assert ward.code == 1
    assert "unknown key(s): nonsense" in found["configuration"][0]["what"]
    assert found["private files"][0]["fix"] == f"chmod 600 {path}"


def test_a_backup_copied_into_an_existing_folder_is_told_and_its_fix_restores_it(tmp_path: Path) -> None:
    place, backup = tmp_path / ".ab_experiments", tmp_path / ".ab_experiments.backup"
    for folder in (place, backup):
        folder.mkdir()
    (backup / "experiment_a.json").write_text("{}")
    assert check_backup(place).level == OK
    # As the system's manual has it, with the folder still there.
    subprocess.run(["cp", "-r", str(backup), str(place)], check=True)
    told = check_backup(place)
    assert told.level == WARN
    assert told.fix is not None
    for command in told.fix.removeprefix("to restore it: ").replace("then: ", "").split("; "):
        subprocess.run(["/bin/sh", "-c", command], check=True)
    assert (place / "experiment_a.json").read_text() == "{}"
    assert check_backup(place).level == OK
    subprocess.run(["cp", "-r", str(place), str(backup)], check=True)
    assert check_backup(place).level == WARN


@pytest.mark.parametrize(("place", "level"), [("/tmp/optimization_runs", WARN), ("/srv/runs", OK), ("/tmpfoo", OK)])  # noqa: S108
def test_runs_that_the_next_start_would_lose_are_told(place: str, level: str) -> None:
    assert check_history(Path(place)).level == level


def test_a_stop_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "data_collection").mkdir()
    assert "stop file" not in levels(list(cron_health.check_cron(tmp_path)))
    (tmp_path / ".stop_optimization").touch()
    told = levels(list(cron_health.check_cron(tmp_path)))
    assert told["stop file"] == WARN


def test_cron_entries_and_the_model_that_cron_knows(ward: Ward) -> None:
    table_file = ward.root / "cron" / "table"
    found = ward.look()
    assert [found[f"cron {name}"][0]["level"] for name in ("monthly_optimization", "monitoring", "cleanup")] == [
        WARN
    ] * 3
    jobs = "".join(
        f"0 * * * * {ROOT}/data_collection/cron_{name}.sh\n"
        for name in ("monthly_optimization", "monitoring", "cleanup")
    )
    table_file.write_text(jobs)
    found = ward.look()
    assert found["cron cleanup"][0]["level"] == OK
    assert "names no key and no model" in found["cron model"][0]["what"]
    table_file.write_text("ANTHROPIC_API_KEY=sk-ant-...\n" + jobs)
    assert "is the example's" in ward.one("cron model")["what"]
    table_file.write_text("FLYWHEEL_MODEL=openai/gpt-5\n" + jobs)
    assert ward.one("cron model")["level"] == OK
    table_file.write_text("".join(f"#{line}\n" for line in jobs.splitlines()))
    assert "turned off" in ward.one("cron monitoring")["what"]


def test_entries_that_no_daemon_starts_are_broken(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    (ward.root / "cron" / "table").write_text(f"0 * * * * {ROOT}/data_collection/cron_monitoring.sh\n")
    processes, pid_file = ward.root / "proc", ward.root / "crond.pid"
    (processes / "1").mkdir(parents=True)
    (processes / "1" / "comm").write_text("init\n")
    monkeypatch.setattr(cron_health, "PROCESSES", processes)
    monkeypatch.setattr(cron_health, "PID_FILES", (pid_file,))
    told = ward.one("cron daemon")
    assert (told["level"], ward.code) == (FAIL, 1)
    assert told["fix"].removeprefix("sudo ") == "service cron start"
    for content, level in ((f"{os.getpid()}\n", OK), ("0x", FAIL), (f"{2**62}", FAIL)):
        pid_file.write_text(content)
        assert ward.one("cron daemon")["level"] == level
    (processes / "7").mkdir()
    (processes / "7" / "comm").write_text("cron\n")
    assert ward.one("cron daemon")["level"] == OK
    (ward.root / "cron" / "table").unlink()
    assert "cron daemon" not in ward.look()


@pytest.mark.parametrize(
    ("program", "words"),
    [("#!/bin/sh\necho optuna\n", "lacks optuna"), ("#!/bin/sh\nexit 1\n", "does not start")],
)
def test_an_environment_without_its_packages_is_broken(
    ward: Ward, program: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = ward.root / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(program)
    python.chmod(0o755)
    monkeypatch.setenv("UV_PROJECT_ENVIRONMENT", str(ward.root / "venv"))
    told = ward.one("environment")
    assert (told["level"], ward.code) == (FAIL, 1)
    assert words in told["what"]
    assert told["fix"] == f"make -C {ROOT} setup"


def test_enabled_timers_stand_for_cron(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    program = ward.root / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\n[ "$*" = "--user is-enabled flywheel-monitoring.timer" ] && echo enabled\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    found = ward.look()
    assert found["cron monitoring"][0]["level"] == OK
    assert found["cron cleanup"][0]["level"] == WARN


class Chosen(NamedTuple):
    """A choice, as learning.choice has it."""

    embedded: bool

    def describe(self) -> str:
        return "model: some/model"


def subject(root: Path, model: Model) -> Subject:
    names = ("runs", "experiments", "data", "programs", "telemetry")
    return Subject(Places(*(root / name for name in names)), root / "state.json", None, model)


def levels(found: Sequence[Diagnosis]) -> dict[str, str]:
    return {item.check: item.level for item in found}


@pytest.mark.usefixtures("ward")
def test_a_model_is_asked_once_and_its_failure_is_told_without_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-very-secret")
    asked = []

    def refuse() -> None:
        asked.append(1)
        msg = "some/model: the provider refuses the key sk-ant-very-secret"
        raise ModelError(msg)

    found = examine(subject(tmp_path, Model(lambda: Chosen(embedded=False), refuse)), now())
    assert levels(found)["model"] == OK
    assert levels(found)["model answers"] == FAIL
    assert asked == [1]
    assert "very-secret" not in "\n".join(table(found))
    well = examine(subject(tmp_path, Model(lambda: Chosen(embedded=True), lambda: None)), now())
    assert levels(well)["model"] == WARN
    assert levels(well)["model answers"] == OK


def test_what_the_service_cannot_do_is_told(ward: Ward) -> None:
    assert ward.one("service access")["level"] == OK
    telemetry = ward.root / "telemetry"
    telemetry.mkdir()
    telemetry.chmod(0o777)
    told = ward.one("service access")
    assert (told["level"], ward.code) == (FAIL, 1)
    assert told["fix"] == f"chmod o-w {telemetry}"


def test_a_choice_that_cannot_be_made_is_told(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYWHEEL_MODEL", "nonsense")
    assert "expected <provider>/<name>" in ward.one("model")["what"]
    assert ward.code == 1


@pytest.mark.slow
def test_the_embedded_model_answers(ward: Ward) -> None:
    assert monitoring.main(["doctor", "--json"]) == 0
    rows = {row["check"]: row for row in json.loads(ward.capsys.readouterr().out)["checks"]}
    assert rows["model answers"]["level"] == OK
