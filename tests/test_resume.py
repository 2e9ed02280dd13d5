"""A real run, killed at ten random points and gone on with, against a model server that counts what it is asked.

All of them begin from one run's folder as it was before anything was collected, so that run id, data and figures are
the same, and the run that nobody killed is the measure of the others.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.faults.injection import STRACE
from tests.loopback import LoopbackModel, Prompt, Skilled
from tests.oracle import Oracle
from tests.repositories import build_shop

from flywheel.base.clock import now
from flywheel.base.programs import deploy, deployed_program, publish, read_program
from flywheel.data.store import versions
from flywheel.learning.ledger import Call, read_calls

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SCRIPT = Path(__file__).resolve().parents[1] / "data_collection" / "optimization_orchestrator.py"
TWO = ("validate_completeness", "validate_correctness")
FIGURES = (
    "collected", "validated", "rejected", "new_examples", "dataset_examples", "baseline", "baseline_score",
    "optimized_score", "validation_score", "improvement_percent", "improvement_ci", "p_value", "n_test", "n_failed",
    "trials_used", "search_ended", "floor_score", "verdict", "deployed", "lm_calls", "tokens", "token_ratio",
)  # fmt: skip
THREADS = 4
RENAMING = "?rename,?renameat,?renameat2"
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
        self._settings: dict[str, Any] = {}
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

    @property
    def paid(self) -> list[Call]:
        """The calls in the ledger that no cache has answered."""
        return [call for call in read_calls(self.run / "calls.jsonl") if not call.cached]

    def figures(self) -> dict[str, dict[str, Any]]:
        results = self.summary()["signatures"]
        return {name: {figure: results[name][figure] for figure in FIGURES} for name in TWO}

    def restore(self) -> None:
        shutil.rmtree(self.places)
        shutil.copytree(self.saved, self.places, symlinks=True)

    def configure(self, **settings: Any) -> None:
        """Change the settings of the run that had only begun, to what they were changed to last by default."""
        settings = self._settings = settings or self._settings
        (path,) = self.run.glob("orchestration_summary.json")
        body = json.loads(path.read_text())
        assert settings.keys() <= body["config"].keys()
        body["config"] |= settings
        path.write_text(json.dumps(body))

    def start(self, *flags: str, before: Sequence[str] = ()) -> subprocess.Popen[str]:
        folders = {"TRAINING_DATA_DIR": "data", "OPTIMIZED_MODULES_DIR": "programs", "OUTPUT_DIR": "runs"}
        kept = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
        environment = {**kept, **{variable: str(self.places / name) for variable, name in folders.items()}}
        self._process = subprocess.Popen(
            # Whoever runs the tests in the background has SIGINT ignored, and it would be inherited.
            [*before, "env", "--default-signal=INT", sys.executable, str(SCRIPT), *flags],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        return self._process

    def begin(self, *flags: str) -> subprocess.Popen[str]:
        return self.start(
            "--repo-path", str(self.shop), "--model", "loopback", "--api-base", self.model.url, "--no-strict",
            "--trials", "3", "--candidates", "3", "--demos", "2", "--synthetic-target", "16", "--allow-synthetic-test",
            "--threads", str(THREADS), "--signatures", *TWO, "--decision", "point", *flags,
        )  # fmt: skip

    def resume(self, *flags: str) -> subprocess.CompletedProcess[str]:
        """Go on to the end, or to the kill."""
        return ended(self.start("--resume", "latest", *flags))

    def traced(self, *flags: str) -> tuple[int, list[str]]:
        """Go on under strace with `flags`: the exit code, and to what the main thread has renamed files, in order."""
        with tempfile.NamedTemporaryFile("r") as log:
            strace = ["strace", "-o", log.name, "-s", "4096", "-e", f"trace={RENAMING}", *flags]
            code = ended(self.start("--resume", "latest", before=strace)).returncode
            return code, [paths[-1] for line in log if (paths := re.findall(r'"([^"]*)"', line))]

    def strike(self, target: str, number: int = 1) -> None:
        """Go on, and be killed right before the `number`-th time that a file is renamed to `target`."""
        _, renamed = self.traced()
        at = [index for index, path in enumerate(renamed, 1) if path == target][number - 1]
        self.restore()
        self.configure()
        self.asked = 0
        code, again = self.traced("-e", f"inject={RENAMING}:signal=KILL:when={at}")
        assert code == -signal.SIGKILL
        assert (len(again), again[-1]) == (at, target)

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
    assert len(world.paid) == reference.calls, "each answer is in the ledger once"
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


# --- right where a verdict leads to something -------------------------------------------------------------------------

# Begun anew, collected, both admitted: the next time that the state is written, the first signature is concluded.
STATES = 4


def better(reference: Reference) -> str:
    """The first signature, whose candidate is to be deployed."""
    assert reference.figures[TWO[0]]["verdict"] == "deploy"
    return TWO[0]


def strike(world: World, target: str, number: int, **settings: Any) -> None:
    world.restore()
    world.configure(**settings)
    world.kill_at = None
    world.strike(str(world.places / target if "/" in target else world.run / target), number)
    state = json.loads((world.run / "run_state.json").read_text())
    assert (list(state["admitted"]), state["concluded"]) == (list(TWO), [])


@STRACE
@pytest.mark.parametrize(("target", "number"), [("programs/{}/deployed", 1), ("run_state.json", STATES + 1)])
def test_a_kill_around_the_deployment_deploys_once(
    world: World, reference: Reference, target: str, number: int
) -> None:
    name = better(reference)
    strike(world, target.format(name), number, start_ab=False)
    folder = world.places / "programs" / name
    assert (folder / "latest").is_symlink()
    assert (folder / "deployed").is_symlink() == (target == "run_state.json")
    done = world.resume()
    assert done.returncode == 0, done.stderr
    check(world, reference, in_flight=0)
    assert (folder / "deployed").readlink() == (folder / "latest").readlink()


@STRACE
def test_what_was_deployed_by_hand_meanwhile_stays(world: World, reference: Reference) -> None:
    name = better(reference)
    strike(world, f"programs/{name}/deployed", 1, start_ab=False)
    programs = world.places / "programs"
    found = read_program(programs / name / "latest" / "program.json")
    by_hand = publish(programs, replace(found, run_id="run_by_hand"), now())
    deploy(programs, name, by_hand.parent.name)
    done = world.resume()
    assert done.returncode == 0, done.stderr
    assert deployed_program(programs, name) == by_hand.resolve()
    result = world.summary()["signatures"][name]
    assert (result["verdict"], result["deployed"]) == ("deploy", False)
    assert f"; not deployed: {by_hand.parent.name} was deployed since the run began" in result["verdict_reason"]
    assert world.figures()[name] == {**reference.figures[name], "deployed": False}


@STRACE
@pytest.mark.parametrize(("target", "number"), [("ab/routing_config.json", 1), ("run_state.json", STATES + 1)])
def test_a_kill_around_the_start_of_a_rollout_starts_one(
    world: World, reference: Reference, target: str, number: int
) -> None:
    name, rollouts = better(reference), world.places / "ab"
    strike(world, target, number, start_ab=True, experiments_dir=str(rollouts))
    (record,) = rollouts.glob(f"experiment_{name}*.json")
    assert json.loads(record.read_text())["status"] == ("running" if target == "run_state.json" else "pending")
    assert (rollouts / "routing_config.json").exists() == (target == "run_state.json")
    done = world.resume()
    assert done.returncode == 0, done.stderr
    (again,) = rollouts.glob(f"experiment_{name}*.json")
    experiment, result = json.loads(again.read_text()), world.summary()["signatures"][name]
    assert (again, experiment["status"], experiment["candidate_traffic_percent"]) == (record, "running", 10)
    assert (result["verdict"], result["experiment_id"]) == ("deploy", experiment["experiment_id"])
    (route,) = [
        route
        for route in json.loads((rollouts / "routing_config.json").read_text())["routes"]
        if route["signature"] == name
    ]
    assert route["experiment_id"] == experiment["experiment_id"]
    assert world.asked == reference.calls
    assert deployed_program(world.places / "programs", name) is None


# --- with a budget ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [0.3, 0.8])
def test_a_budget_holds_over_a_kill_and_pays_for_every_test(world: World, reference: Reference, part: float) -> None:
    most = int(reference.calls * 0.7)
    world.restore()
    world.configure(max_calls=most)
    world.asked, world.kill_at = 0, int(part * most)
    assert world.resume().returncode == -signal.SIGKILL
    world.kill_at = None
    in_flight = world.asked - len(world.paid)
    done = world.resume()
    assert done.returncode == 0, done.stderr
    assert len(world.paid) <= most
    assert world.asked <= most + in_flight, "what was in flight when it was killed is known to nobody"
    summary = world.summary()
    assert summary["success"] is True
    for name in TWO:
        result = summary["signatures"][name]
        assert (result["n_test"], result["n_failed"]) == (reference.figures[name]["n_test"], 0)
        assert result["verdict"] is not None
    assert any(summary["signatures"][name]["partial"] for name in TWO), "the budget was no limit"


# --- side by side, and told to end ------------------------------------------------------------------------------------


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
