"""The monthly job with a model that answers: its exit code is the orchestrator's, and its last line says which."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.loopback import LoopbackModel
from tests.oracle import Oracle
from tests.repositories import build_shop
from tests.test_cron import Cron

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path


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
