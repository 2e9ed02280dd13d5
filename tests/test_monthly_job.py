"""The monthly job with a model that answers: its exit code is the orchestrator's, and its last line says which."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.loopback import LoopbackModel, Prompt
from tests.oracle import Oracle
from tests.repositories import build_shop
from tests.test_cron import Cron

if TYPE_CHECKING:
    import subprocess


def run(cron: Cron, model: LoopbackModel, shop: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    asked = {"FLYWHEEL_MODEL": "loopback", "FLYWHEEL_API_BASE": model.url, "REPO_PATH": str(shop)}
    return cron.run("cron_monthly_optimization", **asked, MIPRO_TRIALS="1", **settings)


@pytest.mark.slow
def test_a_month_that_completes_says_so_and_exits_with_0(tmp_path: Path) -> None:
    cron = Cron(tmp_path)
    with LoopbackModel(Oracle(tmp_path / "data")) as model:
        done = run(cron, model, build_shop(tmp_path / "shop"), SYNTHETIC_TARGET="40", GIT_MINING_TARGET="14")
    assert done.returncode == 0, done.stdout
    assert done.stdout.rstrip().endswith("cron_monthly_optimization: completed")
    (folder,) = (tmp_path / "runs").glob("run_*")
    assert (folder / "report.html").is_file()
    assert not (tmp_path / "state.json").exists(), "the failure branch was not taken"


@pytest.mark.slow
def test_a_month_in_which_nothing_could_be_evaluated_exits_with_1_and_is_alerted(tmp_path: Path) -> None:
    cron = Cron(tmp_path)
    with LoopbackModel(Oracle(tmp_path / "data")) as model:
        # Two examples have no three categories, which the strict gates ask for.
        done = run(cron, model, build_shop(tmp_path / "shop"), SYNTHETIC_TARGET="1", GIT_MINING_TARGET="1")
    assert done.returncode == 1, done.stdout
    assert "failed (exit code 1)" in done.stdout
    assert '"findings"' in done.stdout
    assert (tmp_path / "state.json").is_file()


@pytest.mark.slow
def test_a_month_that_is_terminated_exits_with_143_begins_nothing_else_and_is_gone_on_with(tmp_path: Path) -> None:
    cron, oracle, asked = Cron(tmp_path), Oracle(tmp_path / "data"), itertools.count(1)

    def terminating(prompt: Prompt) -> Any:
        # The first is the one that tries the model.
        if next(asked) == 2:
            (orchestrator,) = orchestrators(tmp_path)
            os.kill(orchestrator, signal.SIGTERM)
        return oracle(prompt)

    targets = {"SYNTHETIC_TARGET": "40", "GIT_MINING_TARGET": "14"}
    with LoopbackModel(terminating) as model:
        shop = build_shop(tmp_path / "shop")
        done = run(cron, model, shop, **targets)
        assert done.returncode == 143, done.stdout
        assert "failed (exit code 143)" in done.stdout
        assert (tmp_path / "state.json").is_file(), "the failure was alerted"
        (folder,) = (tmp_path / "runs").glob("run_*")
        summary = json.loads((folder / "orchestration_summary.json").read_text())
        assert (summary["error"], summary["success"], summary["resumed_at"]) == ("terminated", False, [])
        settings = {"FLYWHEEL_MODEL": "loopback", "FLYWHEEL_API_BASE": model.url}
        again = cron.run("cron_resume", **settings)
        assert again.returncode == 0, again.stdout
    summary = json.loads((folder / "orchestration_summary.json").read_text())
    assert (summary["success"], len(summary["resumed_at"])) == (True, 1)
    assert summary["error"] != "terminated"
    assert [path.name for path in (tmp_path / "runs").glob("run_*")] == [folder.name]
    assert not orchestrators(tmp_path)


def orchestrators(root: Path) -> list[int]:
    """The processes of the orchestrator that keep their runs below `root`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it may end while it is looked at
            words = path.read_text().split("\0")
            if "data_collection/optimization_orchestrator.py" in words and str(root / "runs") in words:
                found.append(int(path.parent.name))
    return found
