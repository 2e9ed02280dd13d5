"""A real run, killed at ten random points and gone on with, against a model server that counts what it is asked.

All of them begin from one run's folder as it was before anything was collected, so that run id, data and figures are
the same, and the run that nobody killed is the measure of the others.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.loopback import LoopbackModel, Prompt, Skilled
from tests.oracle import Oracle
from tests.repositories import build_shop

from flywheel.data.store import versions
from flywheel.learning.ledger import read_calls

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = Path(__file__).resolve().parents[1] / "data_collection" / "optimization_orchestrator.py"
TWO = ("validate_completeness", "validate_correctness")
FIGURES = (
    "collected", "validated", "rejected", "new_examples", "dataset_examples", "baseline", "baseline_score",
    "optimized_score", "validation_score", "improvement_percent", "improvement_ci", "p_value", "n_test", "n_failed",
    "trials_used", "search_ended", "floor_score", "verdict", "deployed", "lm_calls", "tokens", "token_ratio",
)  # fmt: skip
THREADS = 4
SECONDS = 240

pytestmark = pytest.mark.slow


class World:
    """One repository, one model, one run; `restore` takes it back to where it had only begun."""

    def __init__(self, root: Path) -> None:
        self.root, self.places, self.saved = root, root / "places", root / "saved"
        self.shop = build_shop(root / "shop")
        oracle = Oracle(self.places / "data")
        self._skilled = Skilled(oracle, oracle.opposite, base=0.1, per_demo=0.45, demos_count=2, hint_bonus=0.0)
        self.model = LoopbackModel(self._answer, latency=0.005)
        self.kill_at: int | None = None
        self.asked = 0
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def _answer(self, prompt: Prompt) -> Any:
        with self._lock:
            self.asked += 1
            if self.asked == self.kill_at and self._process is not None:
                self._process.kill()
        return self._skilled(prompt)

    @property
    def run(self) -> Path:
        (folder,) = (self.places / "runs").glob("run_*")
        return folder

    def summary(self) -> dict[str, Any]:
        summary: dict[str, Any] = json.loads((self.run / "orchestration_summary.json").read_text())
        return summary

    def figures(self) -> dict[str, dict[str, Any]]:
        results = self.summary()["signatures"]
        return {name: {figure: results[name][figure] for figure in FIGURES} for name in TWO}

    def restore(self) -> None:
        shutil.rmtree(self.places)
        shutil.copytree(self.saved, self.places, symlinks=True)

    def start(self, *flags: str) -> subprocess.Popen[str]:
        folders = {"TRAINING_DATA_DIR": "data", "OPTIMIZED_MODULES_DIR": "programs", "OUTPUT_DIR": "runs"}
        kept = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
        environment = {**kept, **{variable: str(self.places / name) for variable, name in folders.items()}}
        self._process = subprocess.Popen(
            # Whoever runs the tests in the background has SIGINT ignored, and it would be inherited.
            ["env", "--default-signal=INT", sys.executable, str(SCRIPT), *flags],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        return self._process

    def begin(self, *flags: str) -> subprocess.Popen[str]:
        return self.start(
            "--repo-path", str(self.shop), "--model", "loopback", "--api-base", self.model.url, "--no-strict",
            "--trials", "3", "--candidates", "3", "--demos", "2", "--synthetic-target", "16", "--allow-synthetic-test",
            "--threads", str(THREADS), "--signatures", *TWO, *flags,
        )  # fmt: skip

    def resume(self, *flags: str) -> subprocess.CompletedProcess[str]:
        """Go on to the end, or to the kill."""
        return ended(self.start("--resume", "latest", *flags))

    def until(self, process: subprocess.Popen[str], words: str, number: signal.Signals) -> str:
        """Signal the process once it tells of `words`; what it told."""
        assert process.stderr is not None
        told = []
        for line in process.stderr:
            told.append(line)
            if words in line:
                process.send_signal(number)
                break
        else:
            pytest.fail(f"never told of {words}:\n{''.join(told)}")
        done = ended(process)
        return "".join(told) + done.stderr


def ended(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    out, told = process.communicate(timeout=SECONDS)
    return subprocess.CompletedProcess(process.args, process.returncode, out, told)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("resume"))
    with world.model:
        world.until(world.begin("--workers", "1"), "collect from git", signal.SIGKILL)
        shutil.copytree(world.places, world.saved, symlinks=True)
        yield world


class Reference:
    """The run that nobody killed: its calls and figures."""

    def __init__(self, world: World) -> None:
        world.restore()
        world.asked, world.kill_at = 0, None
        done = world.resume()
        assert done.returncode == 0, done.stderr
        self.calls, self.figures = world.asked, world.figures()


@pytest.fixture(scope="module")
def reference(world: World) -> Reference:
    found = Reference(world)
    assert {figures["verdict"] for figures in found.figures.values()} - {None}
    assert found.calls == sum(figures["lm_calls"] for figures in found.figures.values()) > 60
    return found


def check(world: World, reference: Reference, in_flight: int) -> None:
    """The run came out as the one that nobody killed, at no further expense but calls that were under way."""
    assert world.figures() == reference.figures
    assert reference.calls <= world.asked <= reference.calls + in_flight
    assert world.summary()["success"] is True
    paid = [call for call in read_calls(world.run / "calls.jsonl") if not call.cached]
    assert len(paid) == reference.calls, "each answer is in the ledger once"
    for name in TWO:
        assert len(versions(world.places / "data", name)) == 1
        assert len((world.places / "data" / name / "test_uses.jsonl").read_text().splitlines()) == 1
        stored = list((world.places / "programs" / name).glob("v*"))
        assert len(stored) == (reference.figures[name]["verdict"] == "deploy")
    assert (world.run / "report.html").is_file()


KILLS = 10
# Two kills at what is told of phases that ask nothing, the others at calls.
LINES = ("validate, gate and version", "test of validate_completeness")


@pytest.mark.parametrize("number", range(KILLS))
def test_a_run_that_is_killed_goes_on_without_paying_twice(world: World, reference: Reference, number: int) -> None:
    world.restore()
    world.asked = 0
    if number < len(LINES):
        world.kill_at = None
        world.until(world.start("--resume", "latest"), LINES[number], signal.SIGKILL)
    else:
        # Spread over the whole of the run, at a random place in each part of it.
        width = reference.calls / (KILLS - len(LINES))
        part = number - len(LINES)
        world.kill_at = 1 + int(part * width + random.Random(number).random() * width)
        assert world.resume().returncode == -signal.SIGKILL
    assert world.summary()["end_time"] is None
    world.kill_at = None
    done = world.resume()
    assert done.returncode == 0, done.stderr
    check(world, reference, in_flight=THREADS)
    assert len(world.summary()["resumed_at"]) == 2


def test_a_run_may_be_killed_again_and_again(world: World, reference: Reference) -> None:
    world.restore()
    world.asked = 0
    kills = sorted(random.Random(1).sample(range(1, reference.calls), 3))
    for kill in kills:
        world.kill_at = kill
        assert world.resume().returncode == -signal.SIGKILL
    world.kill_at = None
    assert world.resume().returncode == 0
    check(world, reference, in_flight=THREADS * len(kills))


@pytest.fixture(scope="module")
def beside(world: World) -> World:
    """The same run with a process for each signature."""
    state = world.saved
    for path in state.glob("runs/run_*/*.json"):
        body = json.loads(path.read_text())
        if "config" in body:
            body["config"]["workers"] = 2
            path.write_text(json.dumps(body))
    return world


@pytest.mark.parametrize("part", [0.2, 0.5, 0.9])
def test_workers_end_with_their_run_and_go_on_with_it(beside: World, reference: Reference, part: float) -> None:
    beside.restore()
    beside.asked, beside.kill_at = 0, int(part * reference.calls)
    assert beside.resume().returncode == -signal.SIGKILL
    beside.kill_at = None
    done = beside.resume()
    assert done.returncode == 0, done.stderr
    assert "2 at a time" in done.stderr or part > 0.5
    check(beside, reference, in_flight=2 * THREADS)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_that_is_told_to_end_says_so_and_can_go_on(
    world: World, reference: Reference, number: signal.Signals, code: int
) -> None:
    world.restore()
    world.asked = 0
    process = world.start("--resume", "latest")
    told = world.until(process, "optimize validate_completeness", number)
    assert process.returncode == code, told
    summary = world.summary()
    assert (summary["error"], summary["success"]) == ("terminated", False)
    assert summary["end_time"] is not None
    asked = world.asked
    assert "Traceback" not in told
    assert world.resume().returncode == 0
    assert asked < reference.calls
    check(world, reference, in_flight=THREADS)
    assert world.summary()["error"] is None


def test_a_run_that_came_to_its_end_or_is_under_way_is_not_resumed(world: World, reference: Reference) -> None:
    world.restore()
    world.asked = 0
    process = world.start("--resume", "latest")
    assert process.stderr is not None
    assert "goes on" in process.stderr.readline()
    second = subprocess.run(
        process.args, env={**os.environ, "OUTPUT_DIR": str(world.places / "runs")}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (second.returncode, "is under way in another process" in second.stderr) == (2, True)
    assert ended(process).returncode == 0
    again = world.resume()
    assert again.returncode == 2
    assert "nothing to resume" in again.stderr
    assert world.asked == reference.calls
