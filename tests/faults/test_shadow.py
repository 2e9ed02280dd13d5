"""Death of a start whose candidate the shadow refuses, before every change on disk that it makes."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.faults.injection import STRACE, deaths
from tests.loopback import LoopbackModel
from tests.rollouts import SIGNATURE, Clock, Desk
from tests.test_shadow import GOOD, asked, candidate_asks, program, record

from ab_testing_framework import main
from flywheel.serving.experiment_store import ExperimentStore

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [STRACE, pytest.mark.slow]
AB = Path(__file__).resolve().parents[2] / "data_collection" / "ab_testing_framework.py"


@pytest.fixture
def model() -> Iterator[LoopbackModel]:
    """The candidate's answers cannot be read."""
    with LoopbackModel(asked(lambda prompt: "no fields" if candidate_asks(prompt) else GOOD)) as model:
        yield model


def test_a_refused_start_that_died_routes_nobody_and_can_be_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], model: LoopbackModel
) -> None:
    root = tmp_path / "desk"
    root.mkdir()
    desk = Desk(root, capsys, Clock(wall_ms=time.time_ns() // 1_000_000 - 3_600_000))
    record(desk, 15)
    modules = (
        "--baseline",
        str(program(desk, "Be the baseline.")),
        "--candidate",
        str(program(desk, "Be candidate 1.")),
    )
    shadow = ("--shadow", "15", "--model", "openai/loopback", "--api-base", model.url)
    start = ["start", "--experiment-id", "exp", "--signature", SIGNATURE, *modules, *shadow, *desk.folders]
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    for _ in deaths(desk.root, [sys.executable, str(AB), *start], {"TMPDIR": str(scratch)}, code=1):
        assert not desk.routing_path.exists()
        if desk.experiments.exists():
            assert ExperimentStore(desk.experiments).all() == ([], {})
        assert main(start, desk.clock) == 1
        assert not desk.routing_path.exists()
        assert desk.record()["status"] == "failed"
    assert desk.record()["history"][-1]["reason"] == "shadow: candidate: error_rate_delta > 0.05, quality_score < 0.70"
    assert not desk.routing_path.exists()
