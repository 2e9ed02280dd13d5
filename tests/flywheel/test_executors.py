"""Signatures side by side, through the orchestrator, against a loopback model that counts what it has in hand."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.learned import clever, compared, learned
from tests.loopback import LoopbackModel, Prompt
from tests.repositories import build_shop

from flywheel.learning.cycle import in_turn
from flywheel.learning.executors import side_by_side
from flywheel.learning.ledger import read_calls

SCRIPT = Path(__file__).resolve().parents[2] / "data_collection" / "optimization_orchestrator.py"
TWO = ("validate_completeness", "validate_correctness")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_shop(tmp_path_factory.mktemp("shop") / "repository")


def command(shop: Path, model: LoopbackModel, *more: str) -> list[str]:
    return [
        sys.executable, str(SCRIPT), "--repo-path", str(shop), "--model", "loopback", "--api-base", model.url,
        "--no-strict", "--trials", "3", "--candidates", "3", "--synthetic-target", "16", "--allow-synthetic-test",
        "--signatures", *TWO, *more,
    ]  # fmt: skip


def places(root: Path) -> dict[str, str]:
    folders = {"TRAINING_DATA_DIR": "data", "OPTIMIZED_MODULES_DIR": "programs", "OUTPUT_DIR": "runs"}
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    return {**kept, **{variable: str(root / name) for variable, name in folders.items()}}


def started(line: list[str], root: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(line, env=places(root), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def summary_of(root: Path) -> dict[str, Any]:
    (path,) = (root / "runs").glob("run_*/orchestration_summary.json")
    summary: dict[str, Any] = json.loads(path.read_text())
    return summary


def test_two_processes_give_the_figures_of_one_and_keep_the_cap(shop: Path, tmp_path: Path) -> None:
    with LoopbackModel(clever(tmp_path / "data"), latency=0.01) as model:
        flags = ("--workers", "2", "--threads", "2", "--max-concurrency", "3")
        done = subprocess.run(
            command(shop, model, *flags), env=places(tmp_path), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "2 signatures, 2 at a time" in done.stderr
        assert 2 <= model.most_at_once <= 3
        (ledger,) = (tmp_path / "runs").glob("run_*/calls.jsonl")
        calls = [call for call in read_calls(ledger) if not call.cached]
        summary = summary_of(tmp_path)["signatures"]
        # One call more than the signatures': the preflight's.
        assert len(calls) == model.calls == sum(summary[name]["lm_calls"] for name in TWO) + 1
        assert {call.signature for call in calls} == {*TWO, "preflight"}

        turns = learned(in_turn, tmp_path / "turns", tmp_path / "data", TWO, model)
        sides = learned(side_by_side(2), tmp_path / "sides", tmp_path / "data", TWO, model)
    assert compared(turns) == compared(sides)
    assert all(turns[name]["verdict"] for name in TWO)


def test_a_killed_worker_is_started_again_and_asks_nothing_twice(shop: Path, tmp_path: Path) -> None:
    killed: list[int] = []
    once = threading.Lock()

    class Deadly:
        """Kills the process that asks its fortieth question."""

        def __init__(self) -> None:
            self.model: LoopbackModel | None = None
            self.answers = clever(tmp_path / "data")

        def __call__(self, prompt: Prompt) -> Any:
            assert self.model is not None
            with once:
                if self.model.calls >= 40 and not killed:
                    (victim, *_) = workers_of(process.pid)
                    killed.append(victim)
                    os.kill(victim, signal.SIGKILL)
            return self.answers(prompt)

    deadly = Deadly()
    with LoopbackModel(deadly) as model:
        deadly.model = model
        line = command(shop, model, "--workers", "2", "--threads", "2")
        process = subprocess.Popen(
            line, env=places(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        _, told = process.communicate()
        asked = model.calls
    assert process.returncode == 0, told
    assert len(killed) == 1
    assert "was lost (exit code -9); starting it again" in told
    verdicts = {name: result["verdict"] for name, result in summary_of(tmp_path)["signatures"].items()}
    assert set(verdicts) == set(TWO)
    assert None not in verdicts.values()
    (ledger,) = (tmp_path / "runs").glob("run_*/calls.jsonl")
    answered = [call for call in read_calls(ledger) if not call.cached]
    # Only what was under way when it died is asked again, two threads' calls at most.
    assert asked - len(answered) <= 2


def test_a_terminated_run_ends_its_workers(shop: Path, tmp_path: Path) -> None:
    left: list[int] = []

    class Patient:
        def __init__(self) -> None:
            self.answers = clever(tmp_path / "data")

        def __call__(self, prompt: Prompt) -> Any:
            if len(model.prompts) == 30:
                left.extend(workers_of(process.pid))
                process.terminate()
            return self.answers(prompt)

    with LoopbackModel(Patient()) as model:
        line = command(shop, model, "--workers", "2", "--threads", "2")
        process = subprocess.Popen(
            line, env=places(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        _, told = process.communicate()
    assert process.returncode == 143, told
    assert summary_of(tmp_path)["error"] == "terminated"
    assert len(left) == 2
    assert not [pid for pid in left if Path(f"/proc/{pid}").exists()]


def children_of(pid: int) -> list[int]:
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


def workers_of(pid: int) -> list[int]:
    """The processes that the run's fork server has forked."""
    return [worker for server in children_of(pid) for worker in children_of(server)]
