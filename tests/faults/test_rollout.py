"""Death between any two changes on disk, and disks that are full, of every command of the rollout that writes."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.faults.injection import STRACE, deaths, fail_at
from tests.rollouts import QUICK, SIGNATURE, Clock, Desk, Service, candidates_fail, stored_program

from flywheel.base.programs import deploy, deployed_program
from flywheel.serving.decoding import decode
from flywheel.serving.experiment_store import ExperimentStore
from flywheel.serving.routing import WITHDRAWN

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flywheel.serving.routing import Route

pytestmark = STRACE
SCRIPT = Path(__file__).resolve().parents[2] / "data_collection" / "ab_testing_framework.py"
EXP = ("--experiment-id", "exp")


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    root = tmp_path / "desk"
    root.mkdir()
    # Near the present, which is what the commands' own processes go by.
    return Desk(root, capsys, Clock(wall_ms=time.time_ns() // 1_000_000 - 3_600_000))


def command(desk: Desk, *arguments: str) -> list[str]:
    return [sys.executable, str(SCRIPT), *arguments, *desk.folders]


# --- what the commands find ------------------------------------------------------------------------------------


def running(desk: Desk) -> None:
    desk.start()


def paused(desk: Desk) -> None:
    desk.start()
    desk.run("pause", *EXP)


def stored(desk: Desk, *flags: str) -> None:
    """A rollout of one of our own programs over the one that is deployed."""
    old = stored_program(desk)
    deploy(desk.root / "programs", SIGNATURE, old.parent.name)
    new = stored_program(desk, instructions="Do it better.")
    desk.run("start", *EXP, "--signature", SIGNATURE, "--baseline", str(old), "--candidate", str(new), *flags)


def completed(desk: Desk) -> None:
    stored(desk)
    desk.run("promote", *EXP, "--to", "100")


def before_holdback(desk: Desk) -> None:
    stored(desk, "--holdback", "20")
    for _ in range(3):
        desk.run("promote", *EXP)


def at_holdback(desk: Desk) -> None:
    before_holdback(desk)
    desk.run("promote", *EXP)


def harmed(desk: Desk) -> None:
    """The next look finds a candidate that fails."""
    desk.start()
    Service(desk, candidates_fail).minute()


def proved(desk: Desk) -> None:
    """The next look finds the last calls that a promotion wants."""
    desk.start(min_calls=110)
    for calls in (100, 100, 100, 600):
        Service(desk).minute(calls)
        if calls == 100:
            desk.monitor()


def proved_to_the_end(desk: Desk) -> None:
    proved(desk)
    store = ExperimentStore(desk.experiments)
    value = store.read("exp").to_object()
    value["config"]["stages"] = [20, 100]
    store.path("exp").write_text(json.dumps(value))


def several(desk: Desk, names: Sequence[str] = ("c1", "c2", "c3")) -> None:
    settings = desk.root / "config.json"
    settings.write_text(json.dumps(QUICK))
    candidates = [item for name in names for item in ("--candidate", str(desk.module(name)))]
    known = ("--signature", SIGNATURE, "--baseline", str(desk.module("b")), "--config", str(settings))
    desk.run("start", *EXP, *known, *candidates)
    desk.module("late")


def one_harmed(desk: Desk) -> None:
    """The next look finds one of several that fails."""
    several(desk)
    Service(desk, lambda choice: "ValueError" if choice.variant == "candidate_2" else None).minute(300)


def unwatched(desk: Desk) -> None:
    """A lock that a dead monitor left."""
    desk.start()
    desk.monitor()


def nothing(desk: Desk) -> None:
    desk.experiments.mkdir(mode=0o700)
    desk.module("m")


COMMANDS: dict[str, tuple[Callable[[Desk], None], list[str]]] = {
    "monitor a harmed one": (harmed, ["monitor", *EXP]),
    "monitor a proved one": (proved, ["monitor", *EXP]),
    "monitor to the end": (proved_to_the_end, ["monitor", *EXP]),
    "promote": (running, ["promote", *EXP]),
    "complete": (stored, ["promote", *EXP, "--to", "100"]),
    "pause": (running, ["pause", *EXP]),
    "resume": (paused, ["resume", *EXP]),
    "stop": (unwatched, ["stop", *EXP]),
    "rollback": (running, ["rollback", *EXP, "--reason", "x"]),
    "restore": (completed, ["rollback", *EXP, "--reason", "x", "--include-completed"]),
    "sweep": (stored, ["rollback", "--all", "--reason", "x"]),
    "reset": (running, ["reset"]),
    "status": (unwatched, ["status", *EXP]),
    "monitor one harmed of several": (one_harmed, ["monitor", *EXP]),
    "join": (several, ["start", *EXP, "--join", "--signature", SIGNATURE, "--candidate", "late.json"]),
    "withdraw": (several, ["rollback", *EXP, "--arm", "candidate_2", "--reason", "x"]),
    "choose": (several, ["promote", *EXP, "--to", "100", "--arm", "candidate_2"]),
    "hold back": (before_holdback, ["promote", *EXP]),
    "end a holdback": (at_holdback, ["promote", *EXP]),
    "rollback a holdback": (at_holdback, ["rollback", *EXP, "--reason", "x"]),
}


# --- death -----------------------------------------------------------------------------------------------------


def served(desk: Desk) -> Any:
    """What routers see, without what every write renews."""
    routing = decode(desk.routing_path.read_bytes(), "routing")
    assert not routing.broken
    return [route.to_object() for route in routing.routes]


def taken(route: Route) -> float:
    """The share of all candidates."""
    return round(sum(arm.traffic_percent for arm in route.candidates() if arm.variant != WITHDRAWN), 2)


def survives(desk: Desk, name: str) -> None:
    prepare, arguments = COMMANDS[name]
    prepare(desk)
    arguments = [str(desk.root / item) if item.endswith(".json") else item for item in arguments]
    old = served(desk)
    seen = []
    for _ in deaths(desk.root, command(desk, *arguments)):
        seen.append(served(desk))
        found, problems = ExperimentStore(desk.experiments).all()
        assert not problems
        desk.clock.wall_ms += 7_200_000
        for item in found:
            (route,) = decode(desk.routing_path.read_bytes(), "routing").routes
            # Candidates never have more traffic than the record says, unless at the end.
            assert route.status == "completed" or taken(route) <= taken(item.route())
            desk.monitor(item.id)
            (route,) = decode(desk.routing_path.read_bytes(), "routing").routes
            assert route == ExperimentStore(desk.experiments).read(item.id).route()
        desk.run("rollback", "--all", "--reason", "afterwards")
        assert desk.routes()[SIGNATURE]["status"] in {"rolled_back", "completed"}
    assert all(state in (old, served(desk)) for state in seen)


@pytest.mark.parametrize("name", ["pause"])
def test_death_within_a_command_leaves_the_old_or_the_new(desk: Desk, name: str) -> None:
    survives(desk, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "pause"])
def test_death_at_every_change_leaves_the_old_or_the_new(desk: Desk, name: str) -> None:
    survives(desk, name)


@pytest.mark.slow
def test_a_start_that_died_can_be_repeated(desk: Desk) -> None:
    nothing(desk)
    start = ("start", *EXP, "--signature", SIGNATURE, *modules(desk))
    for _ in deaths(desk.root, command(desk, *start)):
        found, problems = ExperimentStore(desk.experiments).all()
        assert not problems
        if desk.routing_path.exists():
            # Traffic flows only to what has a record, and its monitor takes it on.
            assert desk.monitor()["status"] == "running"
        else:
            assert [item.status for item in found] in ([], ["pending"])
            desk.run(*start)
        assert desk.share() == 10


def modules(desk: Desk) -> tuple[str, ...]:
    module = str(desk.module("m"))
    return "--baseline", module, "--candidate", module


@pytest.mark.slow
def test_a_start_of_several_that_died_can_be_repeated(desk: Desk) -> None:
    nothing(desk)
    start = ("start", *EXP, "--signature", SIGNATURE, *modules(desk), "--candidate", str(desk.module("late")))
    for _ in deaths(desk.root, command(desk, *start)):
        if desk.routing_path.exists():
            assert desk.monitor()["status"] == "running"
        else:
            desk.run(*start)
        arms = desk.routes()[SIGNATURE]["arms"]
        assert [(arm["variant"], arm["traffic_percent"]) for arm in arms] == [("candidate", 5), ("candidate_2", 5)]


@pytest.mark.slow
def test_an_archiving_that_died_loses_no_record_and_touches_no_route(desk: Desk) -> None:
    desk.start()
    desk.run("rollback", *EXP, "--reason", "x")
    record = desk.record()
    desk.clock.passes(1)
    desk.start("later")
    old = served(desk)
    for _ in deaths(desk.root, command(desk, "archive", "--days", "0")):
        assert served(desk) == old
        (left,) = desk.experiments.rglob("experiment_exp.json")
        assert json.loads(left.read_text()) == record
        assert desk.run("list")["problems"] == {}
    assert not (desk.experiments / "experiment_exp.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rollout.svg", "rollout.png"])
def test_a_plot_that_died_leaves_the_old_picture_or_the_new(desk: Desk, name: str) -> None:
    if name.endswith("png"):
        pytest.importorskip("matplotlib")
    unwatched(desk)
    pictures = desk.root / "pictures"
    pictures.mkdir()
    picture = pictures / name
    picture.write_text("old")
    seen = [picture.read_text() for _ in deaths(pictures, command(desk, "plot", *EXP, "--output", str(picture)))]
    assert set(seen) == {"old"}
    assert picture.read_bytes().startswith((b"<svg", b"\x89PNG"))


@pytest.mark.slow
def test_a_completion_that_died_is_completed_by_the_next_look(desk: Desk) -> None:
    stored(desk)
    programs = desk.root / "programs"
    old = deployed_program(programs, SIGNATURE)
    for _ in deaths(desk.root, command(desk, "promote", *EXP, "--to", "100")):
        after = desk.monitor()
        assert (deployed_program(programs, SIGNATURE) == old) == (after["status"] == "running")


# --- full disks ------------------------------------------------------------------------------------------------


def test_a_rollback_whose_first_write_fails_still_ends_with_the_baseline(desk: Desk) -> None:
    desk.start()
    code, struck = fail_at("write:error=ENOSPC:when=1", command(desk, "rollback", *EXP, "--reason", "x"))
    assert struck
    assert (code, desk.share()) == (0, 0)
    assert desk.record()["status"] == "rolled_back"


def test_a_look_on_a_full_disk_holds(desk: Desk) -> None:
    desk.start()
    before = desk.record()
    code, struck = fail_at("fsync:error=ENOSPC", command(desk, "monitor", *EXP))
    assert struck
    assert (code, desk.record(), desk.share()) == (2, before, 20)


def test_a_rollback_on_a_disk_that_stays_full_stops_traffic_and_says_so(desk: Desk) -> None:
    desk.start()
    code, struck = fail_at("fsync:error=ENOSPC", command(desk, "rollback", *EXP, "--reason", "x"))
    assert struck
    assert (code, desk.routing_path.exists()) == (2, False)
    # When there is room again the next look brings the record into agreement.
    assert desk.monitor()["status"] == "rolled_back"
