"""monitoring.py from the command line, on real files."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from tests.mailroom import Answer, http_server
from tests.monitored import ONE, experiment, rolled_back, write_dataset, write_experiment, write_run

from ab_testing_framework import main as rollout
from flywheel.base.clock import now
from flywheel.base.errors import BadInputError, LockedError
from flywheel.serving import transitions
from flywheel.serving.experiment_store import ExperimentStore
from flywheel.serving.stage_clock import Moment
from monitoring import main

SCRIPT = Path(__file__).resolve().parents[1] / "data_collection" / "monitoring.py"
DAY = timedelta(days=1)
HEAVY = {"dspy", "litellm", "anthropic", "numpy", "requests", "git", "rich", "jinja2", "orjson", "smtplib"}
# A machine whose disk is nearly full must not fail these tests.
ANY_DISK = {"disk_usage_warning_percent": 100, "disk_usage_critical_percent": 100}


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable, name in (
        ("OUTPUT_DIR", "runs"),
        ("AB_EXPERIMENTS_DIR", "experiments"),
        ("TRAINING_DATA_DIR", "data"),
        ("OPTIMIZED_MODULES_DIR", "programs"),
        ("TELEMETRY_DIR", "telemetry"),
        ("MONITORING_STATE", "state.json"),
        ("ALERT_DIR", "alerts"),
        ("MONITORING_CONFIG", "config.json"),
    ):
        monkeypatch.setenv(variable, str(tmp_path / name))
    configure(tmp_path)
    return tmp_path


def configure(root: Path, **values: Any) -> None:
    (root / "config.json").write_text(json.dumps({**ANY_DISK, **values}))


class Console:
    """Runs a command and gives its exit code and the JSON that it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.err = ""

    def __call__(self, *arguments: str) -> tuple[int, Any]:
        code = main(arguments)
        captured = self._capsys.readouterr()
        self.err = captured.err
        return code, json.loads(captured.out)


@pytest.fixture
def console(capsys: pytest.CaptureFixture[str]) -> Console:
    return Console(capsys)


def alerts(root: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((root / "alerts").glob("alert_*.json"))]


def state(root: Path) -> Any:
    return json.loads((root / "state.json").read_text())


def two_failures(root: Path, error: str = "terminated") -> None:
    for days in (2, 1):
        write_run(root / "runs", now() - days * DAY, success=False, error=error)


COMMANDS = ("check-all", "check-orchestration", "check-ab-tests", "check-dataset-quality")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_check_works_with_nothing_there_yet(places: Path, console: Console, command: str) -> None:
    code, told = console(command, "--exit-code")
    assert code == 0
    assert told["findings"] == []
    assert console.err == ""
    assert alerts(places) == []


def test_the_dashboard_works_with_nothing_there_yet_and_writes_nothing(places: Path, console: Console) -> None:
    code, told = console("dashboard")
    assert code == 0
    assert told["orchestration"] == {"last_run": None, "last_success": None, "consecutive_failures": 0}
    assert told["ab_tests"] == {"active": 0, "paused": 0, "completed": 0, "rolled_back": 0}
    assert told["datasets"] == {}
    assert told["alerts"] == {"last_check": None, "recent_alerts": []}
    assert [path.name for path in places.iterdir()] == ["config.json"]


def test_the_dashboard_has_the_specs_shape(places: Path, console: Console) -> None:
    started = now() - 3 * DAY
    write_run(places / "runs", started)
    last = write_run(places / "runs", now() - DAY, success=False)
    write_dataset(places / "data", now() - DAY, 78.5)
    write_experiment(places / "experiments", experiment())
    write_experiment(places / "experiments", experiment("b", status="paused"))
    write_experiment(places / "experiments", rolled_back(now(), "x", by="operator") | {"experiment_id": "c"})
    (places / "experiments" / "routing_config.json").write_text("{}")
    console("check-all")
    code, told = console("dashboard")
    assert code == 0
    assert list(told) == ["timestamp", "orchestration", "ab_tests", "datasets", "alerts"]
    assert told["orchestration"] == {
        "last_run": last.name,
        "last_success": started.isoformat(timespec="seconds"),
        "consecutive_failures": 1,
    }
    assert told["ab_tests"] == {"active": 1, "paused": 1, "completed": 0, "rolled_back": 1}
    (version,) = (path.name for path in (places / "data" / ONE).iterdir())
    assert told["datasets"] == {
        ONE: {"version": version, "examples": 95, "quality": 78.5, "sources": ["git", "synthetic"]}
    }
    assert told["alerts"]["last_check"] is not None
    assert told["alerts"]["recent_alerts"][0]["title"] == "A/B Test Rolled Back: Manual Rollback"


def test_a_failure_alerts_once_however_often_one_looks(places: Path, console: Console) -> None:
    two_failures(places, "Quality gates failed: extract_requirements quality=65.0 < 70.0")
    for number in range(4):
        code, told = console("check-all" if number % 2 else "check-orchestration")
        assert code == 0
        assert told["told"] == (number == 0)
        assert [f["details"]["consecutive_failures"] for f in told["findings"]] == [2]
    (alert,) = alerts(places)
    assert list(alert) == ["level", "title", "message", "timestamp", "details"]
    assert (alert["level"], alert["title"]) == ("error", "Orchestration Run Failures")
    assert alert["details"]["last_error"].startswith("Quality gates failed")
    (path,) = (places / "alerts").iterdir()
    assert path.name.startswith("alert_error_")


def test_the_alert_stands_on_stderr_as_a_json_line(places: Path, console: Console) -> None:
    two_failures(places)
    console("check-all")
    (line,) = console.err.splitlines()
    assert json.loads(line) == alerts(places)[0]


def test_a_success_resolves_it_once(places: Path, console: Console) -> None:
    two_failures(places)
    console("check-all")
    write_run(places / "runs", now())
    console("check-all")
    console("check-all")
    assert sorted(a["title"] for a in alerts(places)) == [
        "Orchestration Run Failures",
        "Resolved: Orchestration Run Failures",
    ]


def test_exit_code_says_what_was_found_when_asked(places: Path, console: Console) -> None:
    two_failures(places)
    assert console("check-all")[0] == 0
    assert console("check-all", "--exit-code")[0] == 1
    assert console("check-ab-tests", "--exit-code")[0] == 0


def test_a_note_is_no_reason_for_exit_code_1(places: Path, console: Console) -> None:
    write_run(places / "runs", now(), deployed=True, verdict="deploy")
    code, told = console("check-all", "--exit-code")
    assert code == 0
    assert [f["level"] for f in told["findings"]] == ["info"]


def test_dataset_quality_of_one_signature_only(places: Path, console: Console) -> None:
    for name in (ONE, "validate_intent"):
        write_dataset(places / "data", now() - 2 * DAY, 80, signature=name)
        write_dataset(places / "data", now() - DAY, 60, signature=name, sequence=2)
    told = console("check-dataset-quality", "--signature", ONE)[1]
    assert [f["details"]["signature"] for f in told["findings"]] == [ONE]
    assert len(alerts(places)) == 1
    console("check-dataset-quality")
    assert len(alerts(places)) == 2


def test_a_signature_whose_metadata_is_damaged_is_told_with_its_name(places: Path, console: Console) -> None:
    (write_dataset(places / "data", now(), 80) / "metadata.json").write_text("{")
    told = console("check-dataset-quality", "--signature", ONE)[1]
    assert [f["title"] for f in told["findings"]] == ["Unreadable State"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema_version": 2}', '{"schema_version": 1}', "\x00\xff"])
def test_a_corrupt_state_is_an_alert_and_a_fresh_start(places: Path, console: Console, content: str) -> None:
    (places / "state.json").write_text(content)
    assert console("dashboard")[0] == 0
    assert "cannot be read" in console.err
    code, told = console("check-all")
    assert code == 0
    assert [(f["level"], f["title"]) for f in told["findings"]] == [("critical", "Unreadable State")]
    assert (places / "state.json.damaged").read_text() == content
    assert state(places)["schema_version"] == 1
    assert console("check-all")[1]["findings"] == []
    assert len(alerts(places)) == 1


def test_the_state_is_private(places: Path, console: Console) -> None:
    console("check-all")
    assert (places / "state.json").stat().st_mode & 0o777 == 0o600


def test_a_deleted_state_starts_afresh(places: Path, console: Console) -> None:
    two_failures(places)
    console("check-all")
    (places / "state.json").unlink()
    assert console("check-all")[1]["told"] == 1


def test_a_state_that_cannot_be_written_is_told_and_the_alerts_go_out(
    places: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_failures(places)
    # Where not even root can make a file.
    monkeypatch.setenv("MONITORING_STATE", "/proc/self/none/state.json")
    with pytest.raises(BadInputError, match=r"state\.json"):
        console("check-all")
    titles = {a["title"] for a in alerts(places)}
    assert {"Orchestration Run Failures", "Monitoring State Not Writable"} <= titles


def test_two_checks_at_once_do_not_tell_twice(places: Path, console: Console) -> None:
    with (places / "state.json.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(LockedError):
            console("check-all")
    assert console("check-all")[0] == 0


def test_a_channel_that_fails_is_tried_again_at_the_next_run(places: Path, console: Console) -> None:
    two_failures(places)
    with http_server(Answer(500), Answer(500)) as hook:
        configure(places, slack_enabled=True, slack_webhook_url=hook.url, channel_attempts=1, log_alerts_enabled=False)
        for _ in range(2):
            code, told = console("check-all")
            assert (code, told["failed_channels"]) == (0, {"slack": "answered 500"})
            assert "wait for the next check" in console.err
        assert len(alerts(places)) == 1
        assert console("check-all")[1]["failed_channels"] == {}
        console("check-all")
    assert [len(body["attachments"]) for body in hook.bodies] == [1, 1, 1]
    assert hook.bodies[0] == hook.bodies[2]


def test_a_silent_channel_is_told_by_the_others_and_told_when_it_is_back(places: Path, console: Console) -> None:
    two_failures(places)
    values = {"slack_enabled": True, "channel_attempts": 1, "log_alerts_enabled": False}
    with http_server(Answer(500), Answer(500)) as hook:
        configure(places, slack_webhook_url=hook.url, **values)
        console("check-all")
        stored = state(places)
        (waiting,) = stored["pending"]["slack"]
        waiting["timestamp"] = (now() - timedelta(hours=7)).isoformat()
        (places / "state.json").write_text(json.dumps(stored))
        silent = "Alerts Undelivered"
        assert [f["title"] for f in console("check-all")[1]["findings"]][1:] == [silent]
        assert silent in {a["title"] for a in alerts(places)}
        assert [f["title"] for f in console("check-all")[1]["findings"]][1:] == [silent]
        assert silent not in {f["title"] for f in console("check-all")[1]["findings"]}
    assert f"Resolved: {silent}" in {a["title"] for a in alerts(places)}


def test_monitoring_reads_what_the_framework_writes(
    places: Path, console: Console, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TELEMETRY_DIR", str(places / "telemetry"))
    monkeypatch.setenv("OPTIMIZED_MODULES_DIR", str(places / "programs"))
    modules = [places / "old.json", places / "new.json"]
    for module in modules:
        module.write_text("{}")
    arms = ("--baseline", str(modules[0]), "--candidate", str(modules[1]))
    for command in (
        ("start", "--signature", ONE, *arms, "--experiment-id", "e1"),
        ("promote", "--experiment-id", "e1"),
        ("rollback", "--experiment-id", "e1", "--reason", "High error rate"),
        ("start", "--signature", "validate_intent", *arms, "--experiment-id", "e2"),
    ):
        assert rollout(command) == 0
    capsys.readouterr()
    (finding,) = console("check-ab-tests")[1]["findings"]
    assert finding["title"] == "A/B Test Rolled Back: Manual Rollback"
    told = {"experiment_id": "e1", "signature": ONE, "reason": "High error rate", "final_traffic_percent": 25}
    assert told.items() <= finding["details"].items()
    assert console("dashboard")[1]["ab_tests"] == {"active": 1, "paused": 0, "completed": 0, "rolled_back": 1}
    store = ExperimentStore(places / "experiments")
    undecided = transitions.paused(store.read("e2"), "inconclusive: too few calls", transitions.RULE, Moment.now())
    store.save(undecided)
    assert [f["title"] for f in console("check-ab-tests")[1]["findings"]][1:] == ["A/B Test Inconclusive"]


def test_a_check_that_is_killed_while_it_delivers_loses_no_alert(places: Path, console: Console) -> None:
    two_failures(places)
    with http_server(Answer(0)) as hook:
        configure(places, webhook_enabled=True, webhook_url=hook.url)
        with subprocess.Popen([sys.executable, str(SCRIPT), "check-all"], stderr=subprocess.DEVNULL) as process:
            assert hook.arrived.wait(60)
            process.kill()
        console("check-all")
        console("check-all")
    assert [[a["title"] for a in body["alerts"]] for body in hook.bodies] == [["Orchestration Run Failures"]] * 2
    # The same alert, not another one of the same fault: it was on disk before the first attempt.
    assert hook.bodies[0] == hook.bodies[1]


def test_all_of_a_run_goes_in_one_message(places: Path, console: Console) -> None:
    two_failures(places)
    write_experiment(places / "experiments", rolled_back(now(), "error_rate_delta > 0.05"))
    with http_server() as hook:
        configure(places, webhook_enabled=True, webhook_url=hook.url)
        console("check-all")
    (body,) = hook.bodies
    assert [a["title"] for a in body["alerts"]] == [
        "Orchestration Run Failures",
        "A/B Test Rolled Back: Auto-Rollback",
    ]


def test_no_secret_anywhere(places: Path, console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "sk-" + "ant-api03-abcdefghijklmnop"
    monkeypatch.setenv("A_TOKEN", "token-of-the-webhook")
    two_failures(places, f"AuthenticationError: {key} token-of-the-webhook letmein-mail refused")
    with http_server(Answer(500)) as hook:
        values = {"webhook_enabled": True, "webhook_url": hook.url, "webhook_token": "${A_TOKEN}"}
        values |= {"email_username": "me", "email_password": "letmein-mail"}
        configure(places, **values, channel_attempts=1)
        told = console("check-all")[1]
    assert hook.headers[0]["Authorization"] == "Bearer token-of-the-webhook"
    seen = [
        json.dumps(told),
        console.err,
        json.dumps(hook.bodies),
        *(p.read_text() for p in (places / "alerts").iterdir()),
    ]
    seen.append((places / "state.json").read_text())
    for text in seen:
        assert key not in text
        assert "token-of-the-webhook" not in text
        assert "letmein-mail" not in text
        assert "slack-secret" not in text
    assert "[hidden]" in told["findings"][0]["details"]["last_error"]


def test_test_alert_goes_through_every_channel(places: Path, console: Console) -> None:
    with http_server() as hook:
        configure(places, slack_enabled=True, slack_webhook_url=hook.url, slack_min_level="critical")
        code, told = console("test-alert")
    assert (code, told) == (0, {"log": "ok", "file": "ok", "slack": "ok"})
    assert [a["title"] for a in alerts(places)] == ["Test Alert"]
    assert len(hook.bodies) == 1
    code, told = console("test-alert", "--config", write_config(places, slack_enabled=True, slack_webhook_url=hook.url))
    assert code == 1
    assert told["slack"].startswith("no answer")


def write_config(root: Path, **values: Any) -> str:
    path = root / "other.json"
    path.write_text(json.dumps({"channel_attempts": 1, **values}))
    return str(path)


def test_config_flag_and_bad_configuration(places: Path, console: Console) -> None:
    two_failures(places)
    quiet = write_config(places, orchestration_failure_threshold=3, **ANY_DISK)
    assert console("check-all", "--config", quiet)[1]["findings"] == []
    configure(places, orchestration_failure_treshold=3)
    with pytest.raises(BadInputError, match="orchestration_failure_treshold"):
        main(["check-all"])


LISTING = """
import runpy, sys
script, *sys.argv[1:] = sys.argv[1:]
try:
    runpy.run_path(script, run_name="__main__")
finally:
    print(*sys.modules, file=sys.stderr)
"""


@pytest.mark.parametrize("command", [["--help"], ["dashboard"], ["check-all"]])
def test_nothing_heavy_is_loaded(places: Path, command: list[str]) -> None:
    two_failures(places)
    command_line = [sys.executable, "-c", LISTING, str(SCRIPT), *command]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parent)}
    done = subprocess.run(command_line, capture_output=True, text=True, check=False, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    loaded = {name.split(".")[0] for name in done.stderr.split()}
    assert not loaded & (HEAVY | ({"pydantic"} if "--help" in command else set()))
    assert json.loads(done.stdout) if "--help" not in command else done.stdout


def test_it_runs_from_any_folder_as_the_manual_says(places: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "dashboard"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert places.is_dir()


class Page(HTMLParser):
    """The page's tags with their attributes, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def page(root: Path, capsys: pytest.CaptureFixture[str]) -> Page:
    assert main(["dashboard", "--html", str(root / "page.html")]) == 0
    assert capsys.readouterr().out == ""
    return Page(root / "page.html")


def test_the_page_works_with_nothing_there_yet(places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = page(places, capsys).text
    for words in ("healthy", "Nothing is wrong.", "No run yet", "No dataset yet", "No experiment yet", "None."):
        assert words in shown
    assert not (places / "state.json").exists()


def test_the_page_shows_everything_and_loads_nothing(
    places: Path, console: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    nasty = "<script>alert(1)</script><img src=x onerror=y>\u202e"
    for days, gain in ((4, 1.0), (3, 7.5)):
        write_run(
            places / "runs", now() - days * DAY, improvement_percent=gain, verdict="deploy", cost_usd=1.5, lm_calls=3
        )
    write_run(places / "runs", now() - DAY, success=False, error=nasty)
    for days, quality, number in ((9, 80.0, 1), (1, 60.0, 2)):
        write_dataset(places / "data", now() - days * DAY, quality, sequence=number)
    write_experiment(places / "experiments", rolled_back(now(), nasty, by="operator"))
    console("check-all")
    shown = page(places, capsys)
    for words in (
        "warning",
        "Dataset Quality Degradation",
        "What to do",
        "+7.5 %",
        "rolled back at 0 %",
        "$1.50",
    ):
        assert words in shown.text
    assert "<script>alert(1)</script>" in shown.text
    assert "\u202e" not in shown.text
    assert {tag for tag, _ in shown.tags}.isdisjoint({"script", "img", "link", "iframe", "object"})
    attributes = {name for _, given in shown.tags for name in given}
    assert attributes.isdisjoint({"src", "onerror", "onclick"})
    # Links lead to the page's own sections, and nowhere else.
    links = [str(given["href"]) for _, given in shown.tags if "href" in given]
    assert {f"#{given['id']}" for _, given in shown.tags if "id" in given} >= set(links) != set()
    policies = [given["content"] for tag, given in shown.tags if tag == "meta" and "http-equiv" in given]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"]
    # Improvement, spend, the dataset's quality and growth, the experiment's shares.
    assert sum(tag == "svg" for tag, _ in shown.tags) == 5


def test_a_page_that_cannot_be_written_is_said(places: Path) -> None:
    with pytest.raises(BadInputError, match=r"none/page\.html: cannot be written"):
        main(["dashboard", "--html", str(places / "none" / "page.html")])


SAMPLE = re.compile(r'flywheel_[a-z_]+(?:\{(?:[a-z]+="(?:[^"\\\n]|\\["\\n])*",?)+\})? -?\d+(?:\.\d+)?(?:e[+-]\d+)?')


def test_metrics_are_prometheus_text(places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics"]) == 0
    assert "flywheel_consecutive_failures 0\n" in capsys.readouterr().out
    two_failures(places)
    write_run(places / "runs", now() - 9 * DAY, improvement_percent=12.5)
    write_dataset(places / "data", now() - DAY, 78.5)
    write_experiment(places / "experiments", experiment(signature='nasty"\\\nname'))
    assert main(["metrics"]) == 0
    lines = capsys.readouterr().out.splitlines()
    samples = [line for line in lines if not line.startswith("#")]
    assert all(SAMPLE.fullmatch(line) for line in samples)
    typed = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    assert typed == {re.split(r"[{ ]", line)[0] for line in samples}
    for line in (
        "flywheel_consecutive_failures 2",
        'flywheel_dataset_examples{signature="extract_requirements"} 95',
        'flywheel_dataset_quality_ratio{signature="extract_requirements"} 0.785',
        'flywheel_improvement_ratio{signature="extract_requirements"} 0.125',
        'flywheel_experiments{status="running"} 1',
        'flywheel_findings{level="error"} 1',
    ):
        assert line in samples
    assert not (places / "state.json").exists()
