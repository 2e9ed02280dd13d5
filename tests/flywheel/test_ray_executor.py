"""The same run on Ray, with two tasks at once on this machine that share nothing but messages."""

from __future__ import annotations

import importlib.util
import os
import signal
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.learned import clever, compared, learned, stored
from tests.loopback import LoopbackModel, Prompt

from flywheel.base.errors import ModelError
from flywheel.data.test_uses import generation
from flywheel.learning.cycle import in_turn
from flywheel.learning.executors import side_by_side
from flywheel.learning.ledger import read_calls
from flywheel.learning.ray_executor import on_ray
from flywheel.learning.spreading import Spread, spread_out

if TYPE_CHECKING:
    from collections.abc import Iterator

TWO = ("validate_completeness", "validate_correctness")
# Ray is not to be imported before its settings stand.
INSTALLED = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra ray is not installed")
TASK = b"ray::_work_elsewhere"


def processes(name: bytes) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and name in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def left_behind() -> set[str]:
    places = [Path(tempfile.gettempdir()), Path("/tmp")]  # noqa: S108 - where Ray's sockets fit
    return {str(path) for place in places for kind in ("ray-*", "flywheel-*") for path in place.glob(kind)}


@pytest.fixture
def tidy() -> Iterator[None]:
    """Nothing is left of Ray afterwards, no process and no folder."""
    folders, servers = left_behind(), set(processes(b"raylet"))
    yield
    assert left_behind() <= folders
    assert set(processes(b"raylet")) <= servers
    assert not [name for name in os.environ if name in {"RAY_AUTH_TOKEN", "RAY_USAGE_STATS_ENABLED"}]


@pytest.mark.slow
@INSTALLED
@pytest.mark.usefixtures("tidy")
def test_in_turn_in_processes_and_on_ray_come_to_the_same_verdicts(tmp_path: Path) -> None:
    data = tmp_path / "data"
    stored(data, TWO)
    lines: list[str] = []
    with LoopbackModel(clever(data), latency=0.01) as model:
        turns = learned(in_turn, tmp_path / "turns", data, TWO, model)
        sides = learned(side_by_side(2), tmp_path / "sides", data, TWO, model)
        before, model.most_at_once = model.calls, 0
        on = learned(on_ray(2, None), tmp_path / "ray", data, TWO, model, lines.append)
        asked = model.calls - before
        assert 2 <= model.most_at_once <= 3
    assert compared(turns) == compared(sides) == compared(on)
    assert all(on[name]["verdict"] for name in TWO)
    calls = [call for call in read_calls(tmp_path / "ray" / "calls.jsonl") if not call.cached]
    assert len(calls) == asked == sum(on[name]["lm_calls"] for name in TWO)
    for name in TWO:
        assert (tmp_path / "ray" / "cache" / name).is_dir()
        assert (tmp_path / "ray" / "optimization_results" / name / "search.jsonl").is_file()
        assert generation(data, name).runs == ("run_20260101_000000",)
    assert (tmp_path / "ray" / "optimization_results" / "dspy.log").stat().st_size > 0
    assert any("2 signatures on Ray, 2 at a time" in line for line in lines)


@pytest.mark.slow
@INSTALLED
@pytest.mark.usefixtures("tidy")
def test_a_killed_task_is_started_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    stored(data, TWO)
    killed: list[int] = []
    once = threading.Lock()
    lines: list[str] = []

    class Deadly:
        """Kills a task that asks the fortieth question."""

        answers = clever(data)

        def __call__(self, prompt: Prompt) -> Any:
            with once:
                if model.calls >= 40 and not killed:
                    killed.append(processes(TASK)[0])
                    os.kill(killed[0], signal.SIGKILL)
            return self.answers(prompt)

    with LoopbackModel(Deadly()) as model:
        on = learned(on_ray(2, None), tmp_path / "ray", data, TWO, model, lines.append)
        # What the killed one asked is told already; only what was under way when it died is not.
        assert model.calls - len([c for c in read_calls(tmp_path / "ray" / "calls.jsonl") if not c.cached]) <= 2
    assert len(killed) == 1
    assert not capsys.readouterr().out, "stdout is for the run's JSON"
    assert any("was lost (WorkerCrashedError); starting it again" in line for line in lines), lines
    assert all(on[name]["verdict"] for name in TWO)


def test_without_ray_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ModelError, match="--extra ray"):
        spread_out(Spread(executor="ray"))
