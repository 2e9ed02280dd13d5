"""Death of emergency_rollback.sh and of what it runs, before every change on disk that any of them makes.

The shell dies with its process group, by tools of its own that end the group in place of, or right after, the real one;
the Python that it starts dies at its system calls, in the folder as the shell has left it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.faults.injection import STRACE, deaths, family_changes, points
from tests.rollouts import SIGNATURE, Clock, Desk, stored_program

from flywheel.base.programs import deploy, deployed_program
from flywheel.serving.decoding import decode
from flywheel.serving.experiment_store import ExperimentStore
from flywheel.serving.router import Router

if TYPE_CHECKING:
    from collections.abc import Mapping

SCRIPTS = Path(__file__).resolve().parents[2] / "data_collection"
SCRIPT = SCRIPTS / "emergency_rollback.sh"
AB = SCRIPTS / "ab_testing_framework.py"
LIVE, SHARED, HELD, DONE = "validate_intent", "validate_correctness", SIGNATURE, "generate_guidance"
DIE = "kill -KILL 0"
GONE = "gone"
# Where the shell dies: the tools that stand in for the machine's, and what becomes of the routing file.
DEATHS: dict[str, tuple[dict[str, str], str]] = {
    "before it is moved": ({"mv": DIE}, "old"),
    "once it is moved": ({"mv": f'{shutil.which("mv")} "$@"; {DIE}'}, GONE),
    "before it is removed": ({"mv": "exit 1", "rm": DIE}, "old"),
    "once it is removed": ({"mv": "exit 1", "rm": f'{shutil.which("rm")} "$@"; {DIE}'}, GONE),
    "before it locks": ({"flock": DIE}, GONE),
    "before the records": ({"python": DIE}, GONE),
    "once all is done": ({"python": f'{sys.executable} "$@"; {DIE}'}, "new"),
}


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    """Rollouts in every state that has a route: running, of several candidates, at its holdback, completed."""
    root = tmp_path / "desk"
    root.mkdir()
    desk = Desk(root, capsys, Clock(wall_ms=time.time_ns() // 1_000_000 - 3_600_000))
    desk.start("live", LIVE)
    baseline = ("--baseline", str(desk.module("b")))
    several = [item for name in ("c1", "c2") for item in ("--candidate", str(desk.module(name)))]
    desk.run("start", "--experiment-id", "shared", "--signature", SHARED, *baseline, *several)
    replaced(desk, "held", HELD, "--holdback", "20")
    for _ in range(4):
        desk.run("promote", "--experiment-id", "held")
    replaced(desk, "done", DONE)
    desk.run("promote", "--experiment-id", "done", "--to", "100")
    return desk


def replaced(desk: Desk, name: str, signature: str, *flags: str) -> None:
    """A rollout of a stored program over another, which is deployed."""
    old = stored_program(desk, signature)
    deploy(desk.root / "programs", signature, old.parent.name)
    new = stored_program(desk, signature, instructions="Do it better.")
    modules = ("--baseline", str(old), "--candidate", str(new))
    desk.run("start", "--experiment-id", name, "--signature", signature, *modules, *flags)


def variables(desk: Desk, tools: Mapping[str, str]) -> dict[str, str]:
    """The script's environment, with the tools before the machine's own."""
    folder = desk.root / "tools"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, does in tools.items():
        (folder / name).write_text(f"#!/bin/sh\n{does}\n")
        (folder / name).chmod(0o700)
    python = folder / "python" if "python" in tools else Path(sys.executable)
    folders = {"AB_EXPERIMENTS_DIR": desk.experiments, "OPTIMIZED_MODULES_DIR": desk.root / "programs"}
    told = {"PYTHON": python, "PYTHONDONTWRITEBYTECODE": "1", "PATH": f"{folder}:{os.environ['PATH']}", **folders}
    return {**os.environ, **{name: str(value) for name, value in told.items()}}


def emergency(desk: Desk, **tools: str) -> int:
    """The script's exit code, or the signal that ended it, negative."""
    command = [str(SCRIPT), "fire"]
    done = subprocess.run(
        command, env=variables(desk, tools), capture_output=True, check=False, start_new_session=True, timeout=120
    )
    return done.returncode


def served(desk: Desk) -> Any:
    """What routers see, without what every write renews."""
    if not desk.routing_path.exists():
        return GONE
    routing = decode(desk.routing_path.read_bytes(), "routing")
    assert not routing.broken
    return sorted((route.to_object() for route in routing.routes), key=lambda route: str(route["signature"]))


def all_served_by_the_deployed(desk: Desk) -> None:
    programs = desk.root / "programs"
    router = Router(desk.routing_path, programs=programs, default="built-in")
    for signature in (LIVE, SHARED, HELD, DONE):
        deployed = deployed_program(programs, signature)
        modules = {router.route(signature, f"user-{number}").module for number in range(50)}
        assert modules == {"built-in" if deployed is None else str(deployed)}


def readable(desk: Desk) -> None:
    found, problems = ExperimentStore(desk.experiments).all()
    assert (len(found), problems) == (4, {})


def repeated(desk: Desk) -> Any:
    """What routers see after the script ran again, to its end."""
    assert emergency(desk) == 0
    readable(desk)
    found, _ = ExperimentStore(desk.experiments).all()
    assert {item.id: item.status for item in found} == {
        "done": "completed", "held": "rolled_back", "live": "rolled_back", "shared": "rolled_back"
    }  # fmt: skip
    programs = desk.root / "programs"
    for signature, place in ((HELD, 0), (DONE, 1)):
        versions = sorted(path.name for path in (programs / signature).glob("v*"))
        deployed = deployed_program(programs, signature)
        assert deployed is not None
        assert deployed.parent.name == versions[place]
    routes = desk.routes()
    assert {name: route["candidate_traffic_percent"] for name, route in routes.items()} == {
        DONE: 100, HELD: 0, LIVE: 0, SHARED: 0
    }  # fmt: skip
    assert not any("arms" in route for route in routes.values())
    return served(desk)


@pytest.mark.parametrize("moment", DEATHS)
def test_the_shell_that_dies_leaves_the_old_routes_or_none(desk: Desk, moment: str) -> None:
    tools, expected = DEATHS[moment]
    old = served(desk)
    assert emergency(desk, **tools) == -9
    left = served(desk)
    readable(desk)
    if left == GONE:
        all_served_by_the_deployed(desk)
    new = repeated(desk)
    assert {"old": old, GONE: GONE, "new": new}[expected] == left


@STRACE
@pytest.mark.slow
def test_death_at_every_change_leaves_the_old_routes_or_the_new_or_none(desk: Desk) -> None:
    assert emergency(desk, python=DIE) == -9
    shutil.rmtree(desk.root / "tools")
    sweep = [sys.executable, str(AB), "rollback", "--all", "--reason", "fire", *desk.folders]
    seen, after = [], []
    for _ in deaths(desk.root, sweep):
        readable(desk)
        seen.append(served(desk))
        after.append(repeated(desk))
    new = served(desk)
    assert all(state in (GONE, new) for state in seen)
    assert (GONE in seen, new in seen) == (True, True)
    assert all(state == new for state in after)


@STRACE
@pytest.mark.slow
def test_no_change_is_left_out(desk: Desk) -> None:
    """The script and all that it runs change nothing but what the deaths above are next to."""
    kept = desk.root.with_name("kept")
    shutil.copytree(desk.root, kept, symlinks=True)
    whole = family_changes([str(SCRIPT), "fire"], desk.root, variables(desk, {}))
    shutil.rmtree(desk.root)
    kept.rename(desk.root)
    assert emergency(desk, python=DIE) == -9
    sweep = [sys.executable, str(AB), "rollback", "--all", "--reason", "fire", *desk.folders]
    pythons = [(point.name, point.paths) for point in points(sweep, desk.root)]
    shells = whole[: -len(pythons)]
    assert whole[-len(pythons) :] == pythons
    # The lock file is made once and opened once more.
    assert [name for name, _ in shells] == ["renameat2", "openat", "openat"]
    names = [Path(paths[-1]).name for _, paths in shells]
    assert names == ["routing_config.json.emergency_#_#_#", ".emergency.lock", ".emergency.lock"]


def test_a_candidate_that_was_refused_gets_no_route_when_routes_are_rebuilt(desk: Desk) -> None:
    """Its record is the signature's newest, but it never served."""
    completed = desk.routes()[DONE]
    store = ExperimentStore(desk.experiments)
    value = json.loads(store.path("live").read_text())
    value |= {"id": "refused", "experiment_id": "refused", "signature": DONE, "started_ms": value["started_ms"] + 1000}
    value |= {"status": "failed", "final_status": "failed", "candidate_traffic_percent": 0}
    store.path("refused").write_text(json.dumps(value))
    assert emergency(desk) == 0
    assert desk.routes()[DONE] == completed
