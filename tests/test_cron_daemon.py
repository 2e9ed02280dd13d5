"""What `install_cron.py` writes, under Debian's own cron: its daemon starts the job, and `doctor` knows."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.monitored import write_run

from flywheel.base.clock import now
from flywheel.ops.crontab import CARRIED, JOBS

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]
TOOLS = ("cron", "crontab", "unshare", "nsenter", "mount")
# An empty spool, /run and system crontab, for processes in here alone: the machine's own stay as they are.
INSIDE = """
set -eu
for folder in /var/spool/cron/crontabs /etc/cron.d /run; do mount -t tmpfs tmpfs "$folder"; done
chgrp crontab /var/spool/cron/crontabs
chmod 1730 /var/spool/cron/crontabs
mount --bind /dev/null /etc/crontab
echo ready
exec sleep infinity
"""
EVERY_MINUTE = "* * * * * "


class Machine:
    """Namespaces with a crontab and a cron of their own, which end when the test does."""

    def __init__(self, root: Path, process_id: int) -> None:
        self._enter = ["nsenter", "--target", str(process_id), "--mount", "--pid", "--"]
        kept = {name: value for name, value in os.environ.items() if name not in {*CARRIED, "ANTHROPIC_API_KEY"}}
        places = {
            "OUTPUT_DIR": "runs", "TRAINING_DATA_DIR": "data", "AB_EXPERIMENTS_DIR": "experiments",
            "OPTIMIZED_MODULES_DIR": "programs", "TELEMETRY_DIR": "telemetry", "ALERT_DIR": "alerts",
            "MONITORING_STATE": "state.json", "LOG_DIR": "logs", "XDG_STATE_HOME": "home state",
        }  # fmt: skip
        self._environment = {
            **kept, **{name: str(root / place) for name, place in places.items()}, "UV_PROJECT_ENVIRONMENT": sys.prefix,
        }  # fmt: skip

    def run(self, *command: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._enter, *command], env=self._environment, input=text, capture_output=True, text=True, check=False,
            timeout=120, cwd="/",
        )  # fmt: skip

    def script(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, str(ROOT / "data_collection" / name), *arguments)

    def doctor(self) -> dict[str, dict[str, Any]]:
        rows = json.loads(self.script("monitoring.py", "doctor", "--skip-model", "--json").stdout)["checks"]
        return {row["check"]: row for row in rows}


@contextmanager
def machine(root: Path) -> Iterator[Machine]:
    missing = [name for name in TOOLS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: apt-get install cron util-linux")
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", INSIDE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            if process.stdout.readline() != "ready\n":
                process.wait(30)
                pytest.skip(f"namespaces with mounts of their own need root: {process.stderr.read()}")
            (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            yield Machine(root, int(child))
        finally:
            process.kill()


def wait_for(path: Path, words: str, seconds: float) -> str:
    """The file's text once it has the words; cron looks at its tables once a minute."""
    deadline = time.monotonic() + seconds
    while not (path.is_file() and words in path.read_text()):
        assert time.monotonic() < deadline, f"{path}: no {words!r}"
        time.sleep(0.2)
    return path.read_text()


def test_cron_starts_the_hourly_job_by_the_entry_that_was_installed(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    for days in (2, 1):
        write_run(tmp_path / "runs", now() - timedelta(days=days), success=False, error="terminated")
    with machine(tmp_path) as inside:
        assert inside.script("install_cron.py", "--yes").returncode == 0
        table = inside.run("crontab", "-l").stdout
        (hourly,) = (job for job in JOBS if job.script == "cron_monitoring.sh")
        assert f"\n{hourly.schedule} " in table
        before = inside.doctor()
        assert before["cron monitoring"]["level"] == "ok"
        assert before["cron daemon"]["level"] == "fail"
        # There is no hour to wait for; the minute is all that differs from what was installed.
        sooner = table.replace(f"\n{hourly.schedule} ", f"\n{EVERY_MINUTE}")
        assert inside.run("crontab", "-", text=sooner).returncode == 0
        mended = inside.run("sh", "-c", before["cron daemon"]["fix"])
        assert mended.returncode == 0, mended.stdout + mended.stderr
        assert inside.doctor()["cron daemon"]["level"] == "ok"
        log = wait_for(tmp_path / "logs" / hourly.log, '"failed_channels"', 150)
    assert "Orchestration Run Failures" in log
    (alert,) = (tmp_path / "alerts").glob("alert_error_*.json")
    assert json.loads(alert.read_text())["title"] == "Orchestration Run Failures"
    assert list((tmp_path / "home state" / "dspy_flywheel").glob("cron_monitoring.*.lock"))
