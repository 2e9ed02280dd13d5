"""deploy/: units that systemd accepts, rules and a dashboard that name figures which exist."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.scene import populate, write_state

import monitoring
from flywheel.base.clock import now
from flywheel.ops.cron_health import timer
from flywheel.ops.crontab import JOBS

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus" / "flywheel.rules.yml"
DASHBOARD = DEPLOY / "grafana" / "flywheel.json"
UNITS = sorted((DEPLOY / "systemd").iterdir())
METRIC = re.compile(r"\bflywheel_\w+")
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")


def unit(path: Path) -> configparser.ConfigParser:
    found = configparser.ConfigParser(interpolation=None, strict=True)
    found.optionxform = str  # type: ignore[assignment,method-assign]
    found.read_string(path.read_text())
    return found


def test_every_job_has_a_service_and_a_timer_by_the_name_that_doctor_knows() -> None:
    assert {path.name for path in UNITS} == {
        name for job in JOBS for name in (timer(job), timer(job).replace(".timer", ".service"))
    }
    for job in JOBS:
        service = unit(DEPLOY / "systemd" / timer(job).replace(".timer", ".service"))
        assert service["Service"]["ExecStart"].endswith(f"/data_collection/{job.script}")
        assert service["Service"]["Type"] == "oneshot"
        assert "PrivateTmp" not in service["Service"]
        assert unit(DEPLOY / "systemd" / timer(job))["Timer"]["Persistent"] == "true"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    for path in UNITS:
        text = path.read_text().replace("/opt/flywheel", str(ROOT))
        (tmp_path / path.name).write_text(text)
    names = [str(tmp_path / path.name) for path in UNITS]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *names], capture_output=True, text=True, check=False
    )
    ours = [line for line in done.stderr.splitlines() if "flywheel" in line]
    assert (done.returncode, ours) == (0, [])
    for job in JOBS:
        when = unit(DEPLOY / "systemd" / timer(job))["Timer"]["OnCalendar"]
        subprocess.run(["systemd-analyze", "calendar", when], capture_output=True, check=True)


@pytest.fixture
def figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """`monitoring.py metrics` where there is something of everything."""
    populate(tmp_path, now())
    write_state(tmp_path / "state.json", now())
    monkeypatch.setenv("MONITORING_STATE", str(tmp_path / "state.json"))
    monkeypatch.delenv("MONITORING_CONFIG", raising=False)
    flags = {
        "output": "runs",
        "experiments": "experiments",
        "data": "data",
        "programs": "programs",
        "telemetry": "none",
    }
    places = [f"--{flag}-dir={tmp_path / name}" for flag, name in flags.items()]
    assert monitoring.main(["metrics", *places]) == 0
    return capsys.readouterr().out


def names(figures: str) -> set[str]:
    return {match[0] for line in figures.splitlines() if (match := METRIC.match(line))}


@pytest.mark.parametrize("path", [RULES, DASHBOARD], ids=lambda path: path.name)
def test_every_figure_that_is_asked_for_exists(figures: str, path: Path) -> None:
    text = path.read_text()
    if path == DASHBOARD:
        text = "\n".join(target["expr"] for panel in json.loads(text)["panels"] for target in panel["targets"])
    else:
        text = "\n".join(line for line in text.splitlines() if line.strip().startswith("expr:"))
        text = text.replace("flywheel\\\\.prom", "")
    asked = set(METRIC.findall(text))
    assert len(asked) >= 6
    assert asked <= names(figures)


def test_the_dashboards_panels_do_not_overlap_and_have_ids_of_their_own() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in panels}) == len(panels)


@needs_promtool
def test_promtool_accepts_the_figures(figures: str) -> None:
    done = subprocess.run(["promtool", "check", "metrics"], input=figures, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_promtool
@pytest.mark.parametrize("command", [("check", "rules", RULES.name), ("test", "rules", "flywheel.rules.test.yml")])
def test_promtool_accepts_the_rules_and_their_tests(command: tuple[str, ...]) -> None:
    done = subprocess.run(["promtool", *command], cwd=RULES.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout
