"""The cron jobs as cron runs them: an almost empty environment, any folder, no terminal."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from tests.monitored import canary, envelope, write_run
from tests.rollouts import Desk

from flywheel.base.clock import now
from flywheel.base.programs import deploy, publish
from flywheel.data.additions import add_examples
from flywheel.data.loading import load_examples
from flywheel.data.publishing import Batch
from flywheel.data.registry import all_signatures
from flywheel.ops.run_state import RunState

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "data_collection"
JOBS = ("cron_monitoring", "cron_cleanup", "cron_canary", "cron_monthly_optimization")
LOGS = {
    "cron_monitoring": "dspy_monitoring.log",
    "cron_cleanup": "dspy_cleanup.log",
    "cron_canary": "dspy_canary.log",
    "cron_monthly_optimization": "dspy_optimization.log",
}
DAY = 86_400


class Cron:
    """A home, places and logs of its own; `run` runs a job under env -i."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("home", "logs", "elsewhere", "runs", "alerts"):
            (root / name).mkdir()
        self.environment = {
            "HOME": str(root / "home"),
            "PATH": "/usr/bin:/bin",
            "LOG_DIR": str(root / "logs"),
            "OUTPUT_DIR": str(root / "runs"),
            "ALERT_DIR": str(root / "alerts"),
            "AB_EXPERIMENTS_DIR": str(root / "experiments"),
            "TRAINING_DATA_DIR": str(root / "data"),
            "OPTIMIZED_MODULES_DIR": str(root / "programs"),
            "TELEMETRY_DIR": str(root / "telemetry"),
            "MONITORING_STATE": str(root / "state.json"),
            # The environment that these tests run in, as UV_PROJECT_ENVIRONMENT names one.
            "UV_PROJECT_ENVIRONMENT": sys.prefix,
        }

    @property
    def state(self) -> Path:
        return self.root / "home" / ".local" / "state" / "dspy_flywheel"

    def run(self, job: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        settings = [f"{name}={value}" for name, value in {**self.environment, **environment}.items()]
        command = ["/usr/bin/env", "-i", *settings, str(SCRIPTS / f"{job}.sh"), *arguments]
        return subprocess.run(
            command, cwd=self.root / "elsewhere", capture_output=True, text=True, check=False, timeout=120
        )

    def old(self, name: str, days: float, content: str = "x") -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        aged(path, days)
        return path


def aged(path: Path, days: float) -> None:
    moment = time.time() - days * DAY
    os.utime(path, (moment, moment))


@pytest.fixture
def cron(tmp_path: Path) -> Cron:
    return Cron(tmp_path)


def lock_name(job: str) -> str:
    """As cksum(1) has it: a CRC over the path and its length."""
    done = subprocess.run(["/usr/bin/cksum"], input=str(ROOT), capture_output=True, text=True, check=True)
    return f"{job}.{done.stdout.split()[0]}.lock"


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("cron_*.sh")), ids=lambda path: path.name)
def test_every_job_is_short_executable_and_without_a_trap_of_the_shell(script: Path) -> None:
    assert len(script.read_text().splitlines()) <= 40
    assert script.stat().st_mode & 0o777 == 0o755
    assert "set -e" not in script.read_text()


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_the_jobs_are_shellcheck_clean() -> None:
    scripts = [str(path) for path in SCRIPTS.glob("*.sh")]
    done = subprocess.run(["shellcheck", *scripts], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("job", JOBS)
def test_a_held_lock_skips_the_job(cron: Cron, job: str) -> None:
    cron.state.mkdir(parents=True)
    with (cron.state / lock_name(job)).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = cron.run(job)
    assert done.returncode == 0
    assert "skipped" in done.stdout
    assert (cron.root / "logs" / LOGS[job]).read_text() == done.stdout


@pytest.mark.parametrize("job", JOBS)
def test_without_an_environment_a_job_says_how_to_make_one(cron: Cron, job: str) -> None:
    done = cron.run(job, UV_PROJECT_ENVIRONMENT=str(cron.root / "none"))
    assert done.returncode == 2
    assert "make setup" in done.stdout


def test_monitoring_checks_everything_and_alerts(cron: Cron) -> None:
    for days in (2, 1):
        write_run(cron.root / "runs", now() - timedelta(days=days), success=False, error="terminated")
    done = cron.run("cron_monitoring")
    assert done.returncode == 0
    alerts = [json.loads(path.read_text()) for path in (cron.root / "alerts").iterdir()]
    assert "Orchestration Run Failures" in {alert["title"] for alert in alerts}
    assert (cron.root / "logs" / "dspy_monitoring.log").read_text() == done.stdout
    assert done.stderr == ""


def test_monitoring_passes_a_failure_on(cron: Cron) -> None:
    done = cron.run("cron_monitoring", MONITORING_CONFIG=str(cron.root / "none.json"))
    assert done.returncode == 2
    assert "the checks did not run (exit code 2)" in done.stdout


def test_logs_go_to_the_users_own_folder_where_var_log_cannot_be_written(cron: Cron) -> None:
    assert cron.run("cron_monitoring", LOG_DIR="/proc/none").returncode == 0
    log = cron.state / "dspy_monitoring.log"
    assert '"findings"' in log.read_text()
    assert cron.state.stat().st_mode & 0o777 == 0o700


def test_an_output_that_is_a_file_already_is_not_logged_twice(cron: Cron) -> None:
    settings = [f"{name}={value}" for name, value in cron.environment.items()]
    script = str(SCRIPTS / "cron_monitoring.sh")
    log = cron.root / "logs" / "dspy_monitoring.log"
    with log.open("a") as stream:
        subprocess.run(["/usr/bin/env", "-i", *settings, script], stdout=stream, stderr=stream, check=True, timeout=120)
    assert log.read_text().count('"findings"') == 1


def test_cleanup_removes_what_is_old_and_temporary_and_nothing_else(cron: Cron) -> None:
    run = "runs/run_20250101_000000"
    for folder in ("collected_data", "validated_data", "cache", "optimization_results", "quality_reports"):
        cron.old(f"{run}/{folder}/deep/file.json", 40)
        aged(cron.root / run / folder, 40)
    kept = [cron.old(f"{run}/{name}", 400) for name in ("orchestration_summary.json", "report.html", "calls.jsonl")]
    cron.old("runs/run_20250601_000000/collected_data/file.json", 1)
    kept += [cron.root / "runs/run_20250601_000000/collected_data/file.json", cron.old("runs/other/cache/x", 40)]
    kept += [cron.root / run / name / "deep" / "file.json" for name in ("optimization_results", "quality_reports")]
    kept += [cron.old("alerts/alert_info_1.json", 29), cron.old("alerts/notes.json", 99), cron.old("logs/syslog", 99)]
    gone = [cron.root / run / name for name in ("collected_data", "validated_data", "cache")]
    gone += [cron.old("alerts/alert_error_2.json", 32), cron.old("logs/dspy_monitoring.log.20250101", 32)]
    told = cron.run("cron_cleanup", "--dry-run")
    assert told.returncode == 0
    assert all(path.exists() for path in gone)
    assert all(str(path) in told.stdout for path in gone)
    assert not any(str(path) in told.stdout for path in kept)
    done = cron.run("cron_cleanup")
    assert done.returncode == 0
    assert not any(path.exists() for path in gone)
    assert all(path.exists() for path in kept)


def test_cleanup_leaves_a_run_alone_that_was_resumed(cron: Cron) -> None:
    data = cron.old("runs/run_20250101_000000/collected_data/file.json", 40)
    aged(data.parent, 40)
    cron.old("runs/run_20250101_000000/calls.jsonl", 1)
    assert cron.run("cron_cleanup").returncode == 0
    assert data.exists()


def test_cleanup_archives_ended_experiments(cron: Cron, capsys: pytest.CaptureFixture[str]) -> None:
    desk = Desk(cron.root, capsys)
    desk.clock.passes(time.time() - 100 * DAY - desk.clock.wall_ms / 1000)
    for name in ("first", "second"):
        desk.start(name)
        desk.run("rollback", "--experiment-id", name, "--reason", "test")
    record = desk.experiments / "experiment_first.json"
    told = cron.run("cron_cleanup", "--dry-run")
    assert '"first"' in told.stdout
    assert record.exists()
    assert cron.run("cron_cleanup").returncode == 0
    assert not record.exists()
    assert (desk.experiments / "experiment_second.json").exists()
    assert list(desk.experiments.glob("archive/first_*/experiment_first.json"))


def test_cleanup_archives_dataset_versions_but_the_latest_three(cron: Cron) -> None:
    table = all_signatures([])
    data = cron.root / "data"
    for n in range(5):
        example = {
            "inputs": {"user_intent": f"Let clients of kind {n} see the bookings of {n * n} rooms", "context": ""},
            "outputs": {"requirements": [f"Return at most {n + 20} bookings"], "priorities": [6]},
            "metadata": {"source": "git", "difficulty": "easy", "category": "feature"},
        }
        path = cron.root / "new" / str(n) / "extract_requirements.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps([example]))
        offered = load_examples([path], table).examples["extract_requirements"]
        made = Batch("git", "", now() - timedelta(days=100 - n))
        add_examples(data, table["extract_requirements"], offered, made, onto_latest=False)
    folder = data / "extract_requirements"
    versions = sorted(path.name for path in folder.glob("v*"))
    assert len(versions) == 5
    told = cron.run("cron_cleanup", "--dry-run")
    assert all(name in told.stdout for name in versions[:2])
    assert not list(folder.glob("*.tar.gz"))
    done = cron.run("cron_cleanup")
    assert done.returncode == 0, done.stdout
    assert sorted(path.name for path in folder.glob("*.tar.gz")) == [f"{name}.tar.gz" for name in versions[:2]]
    assert sorted(path.name for path in folder.glob("v*") if path.is_dir()) == versions[2:]


def test_cleanup_that_cannot_look_at_the_experiments_fails_and_does_the_rest(cron: Cron) -> None:
    (cron.root / "experiments").write_text("no folder")
    alert = cron.old("alerts/alert_error_2.json", 32)
    done = cron.run("cron_cleanup")
    assert done.returncode == 1
    assert "error:" in done.stdout
    assert not alert.exists()


def test_monitoring_leaves_the_figures_for_a_collector(cron: Cron) -> None:
    metrics = cron.root / "textfile" / "flywheel.prom"
    failed = cron.run("cron_monitoring", METRICS_FILE=str(metrics))
    assert failed.returncode == 1
    assert "could not be written" in failed.stdout
    metrics.parent.mkdir()
    assert cron.run("cron_monitoring", METRICS_FILE=str(metrics)).returncode == 0
    assert "\nflywheel_findings{" in metrics.read_text()
    assert metrics.stat().st_mode & 0o777 == 0o644
    assert list(metrics.parent.iterdir()) == [metrics]


def emergency(cron: Cron) -> subprocess.Popen[str]:
    settings = [f"{name}={cron.environment[name]}" for name in ("HOME", "PATH", "AB_EXPERIMENTS_DIR")]
    command = [
        "/usr/bin/env",
        "-i",
        *settings,
        f"PYTHON={sys.executable}",
        str(SCRIPTS / "emergency_rollback.sh"),
        "fire",
    ]
    return subprocess.Popen(
        command, cwd=cron.root / "elsewhere", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_two_emergency_rollbacks_at_once_both_leave_everything_at_the_baselines(
    cron: Cron, capsys: pytest.CaptureFixture[str]
) -> None:
    desk = Desk(cron.root, capsys)
    for name, signature in (("a", "extract_requirements"), ("b", "validate_intent")):
        desk.start(name, signature)
    both = [emergency(cron) for _ in range(2)]
    told = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert {name for out, _ in told for name in json.loads(out)["rolled_back"]} == {"a", "b"}
    assert {item["status"] for item in desk.run("list")["experiments"]} == {"rolled_back"}


def test_an_emergency_waits_for_the_other_ones_records_but_not_with_the_traffic(
    cron: Cron, capsys: pytest.CaptureFixture[str]
) -> None:
    desk = Desk(cron.root, capsys)
    desk.start("a")
    with (desk.experiments / ".emergency.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = emergency(cron)
        assert process.stderr is not None
        # The line comes when the routing file is gone; the records follow when the lock is free.
        assert process.stderr.readline().startswith("moved aside: ")
        assert not desk.routing_path.exists()
        assert json.loads((desk.experiments / "experiment_a.json").read_text())["status"] == "running"
    out, _ = process.communicate(timeout=120)
    assert (process.returncode, json.loads(out)["rolled_back"]) == (0, ["a"])


def test_cleanup_follows_no_link(cron: Cron) -> None:
    precious = cron.old("precious/run_1/collected_data/file", 40)
    aged(precious.parent, 40)
    (cron.root / "link").symlink_to(cron.root / "precious")
    run = cron.root / "runs" / "run_20250101_000000"
    run.mkdir()
    (run / "collected_data").symlink_to(cron.root / "precious")
    done = cron.run("cron_cleanup", OUTPUT_DIR=str(cron.root / "link"))
    assert done.returncode == 0
    assert "left alone" in done.stdout
    assert cron.run("cron_cleanup").returncode == 0
    assert precious.exists()


def test_a_log_that_never_rests_is_put_aside_when_it_is_big(cron: Cron) -> None:
    big = cron.old("logs/dspy_monitoring.log", 0, "x" * 1_200_000)
    assert cron.run("cron_cleanup").returncode == 0
    assert not big.exists()
    (aside,) = big.parent.glob("dspy_monitoring.log.*")
    assert aside.stat().st_size == 1_200_000


def test_the_monthly_job_takes_its_settings_from_the_environment(cron: Cron) -> None:
    done = cron.run(
        "cron_monthly_optimization", "--dry-run", GIT_MINING_TARGET="7", SYNTHETIC_TARGET="8", MIPRO_TRIALS="9"
    )
    assert done.returncode == 0
    for words in (f"--output-dir {cron.root}/runs", "--git-target 7", "--synthetic-target 8", "--trials 9"):
        assert words in done.stdout
    assert "--require-model" in done.stdout
    assert not list((cron.root / "runs").iterdir())


def test_the_monthly_jobs_defaults_are_the_specs(cron: Cron) -> None:
    done = cron.run("cron_monthly_optimization", "--dry-run")
    for words in ("--git-target 30", "--synthetic-target 20", "--trials 50", f"--repo-path {ROOT}"):
        assert words in done.stdout


def test_the_monthly_job_first_goes_on_with_what_was_cut_short(cron: Cron) -> None:
    resumed, begun = cron.run("cron_monthly_optimization", "--dry-run").stdout.splitlines()
    assert resumed.split()[-2:] == ["--resume", "unfinished"]
    assert "--resume" not in begun


def test_the_daily_job_begins_nothing(cron: Cron) -> None:
    done = cron.run("cron_resume")
    assert done.returncode == 0
    assert "nothing to resume" in done.stdout
    assert "completed" in done.stdout
    assert not list((cron.root / "runs").iterdir())
    assert (cron.root / "logs" / "dspy_optimization.log").read_text() == done.stdout


def test_the_daily_job_tells_of_a_run_that_cannot_go_on(cron: Cron) -> None:
    folder = write_run(cron.root / "runs", now() - timedelta(days=1), success=False, ended=False)
    RunState(collected=True).write(folder)
    done = cron.run("cron_resume")
    assert done.returncode == 2
    assert "another version of this system began it" in done.stdout
    assert "failed (exit code 2)" in done.stdout


def test_without_a_key_the_monthly_job_fails_and_says_so(cron: Cron) -> None:
    done = cron.run("cron_monthly_optimization")
    assert done.returncode == 2
    assert "failed (exit code 2)" in done.stdout
    assert "error:" in done.stdout
    # The failure branch went on to the checks.
    assert '"findings"' in done.stdout
    assert (cron.root / "state.json").is_file()
    assert (cron.root / "logs" / "dspy_optimization.log").read_text() == done.stdout


@pytest.fixture
def copied(cron: Cron, monkeypatch: pytest.MonkeyPatch) -> Cron:
    """The jobs in a project of their own, so that a stop file stops nobody else's."""
    target = cron.root / "project" / "data_collection"
    shutil.copytree(SCRIPTS, target, ignore=shutil.ignore_patterns("__pycache__", "*.json"), symlinks=True)
    monkeypatch.setattr(sys.modules[__name__], "SCRIPTS", target)
    return cron


def test_a_stop_file_keeps_the_monthly_job_from_starting(copied: Cron) -> None:
    (copied.root / "project" / ".stop_optimization").touch()
    done = copied.run("cron_monthly_optimization")
    assert done.returncode == 0
    assert "stopped" in done.stdout
    assert "begins" not in done.stdout


@pytest.mark.parametrize("job", ["cron_cleanup", "cron_monthly_optimization"])
def test_a_flag_that_is_none_is_refused_before_anything_is_done(cron: Cron, job: str) -> None:
    done = cron.run(job, "--dryrun")
    assert done.returncode == 2
    assert "usage" in done.stderr
    assert not (cron.root / "home" / ".local").exists()


def test_the_crontab_names_jobs_that_exist_and_the_environment() -> None:
    text = (ROOT / "crontab.example").read_text()
    lines = [line for line in text.splitlines() if line[:1].isdecimal()]
    assert {line.split()[5].rpartition("/")[2] for line in lines} == {f"{job}.sh" for job in (*JOBS, "cron_resume")}
    for name in ("ANTHROPIC_API_KEY", "GIT_MINING_TARGET", "SYNTHETIC_TARGET", "MIPRO_TRIALS", "OUTPUT_DIR"):
        assert f"\n{name}=" in text


def test_the_canary_says_what_it_could_not_ask_and_starts_what_it_was_told(cron: Cron) -> None:
    path = publish(cron.root / "programs", envelope(), now())
    deploy(cron.root / "programs", "extract_requirements", path.parent.name)
    done = cron.run("cron_canary")
    assert done.returncode == 2
    assert "not every program was asked (exit code 2)" in done.stdout
    for days, right in ((7, 1.0), (0, 0.0)):
        canary(now() - timedelta(days=days), [right] * 20).append(path.parent)
    done = cron.run("cron_canary", CANARY_ON_DRIFT=f"touch '{cron.root}/a cycle'")
    assert done.returncode == 2
    assert (cron.root / "a cycle").exists()
