from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.rollouts import SIGNATURE, Desk, Service, candidates_fail

from flywheel.base.errors import DamagedError
from flywheel.ops.config import MonitoringConfig
from flywheel.ops.reading import read_experiment
from flywheel.ops.rollout_checks import rollback
from flywheel.serving import evalues
from flywheel.serving.arm_ticks import RecordSource
from flywheel.serving.decoding import decode
from flywheel.serving.experiment_store import ExperimentStore
from flywheel.serving.experiments import Experiment
from flywheel.serving.migration import SCHEMA_VERSION
from flywheel.serving.rollout import look
from flywheel.serving.router import Router
from flywheel.serving.stage_clock import Moment, StageClock
from flywheel.serving.transitions import rolled_back
from flywheel.serving.window import Window

if TYPE_CHECKING:
    from flywheel.serving.router import Choice

SCRIPTS = Path(__file__).resolve().parents[2] / "data_collection"
EXP = ("--experiment-id", "exp")


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


def read(desk: Desk) -> Experiment:
    return ExperimentStore(desk.experiments).read("exp")


# --- the record ------------------------------------------------------------------------------------------------


def test_a_record_survives_its_file(desk: Desk) -> None:
    desk.start()
    Service(desk).minute()
    desk.monitor()
    found = read(desk)
    again = Experiment.from_object(json.loads(json.dumps(found.to_object())), "x")
    assert again == found
    assert again.checkpoint is not None
    assert again.warmup_ms


def test_every_missing_or_unknown_key_is_an_error(desk: Desk) -> None:
    desk.start()
    whole = desk.record()
    for key in whole:
        with pytest.raises(DamagedError):
            Experiment.from_object({name: value for name, value in whole.items() if name != key}, "x")
    with pytest.raises(DamagedError, match="unknown"):
        Experiment.from_object({**whole, "more": 1}, "x")


@pytest.mark.parametrize("wrong", [None, True, -1, 1.5, "x", [], {}, float("nan"), [{}], {"figures": 1}])
def test_a_wrong_value_is_an_error_or_changes_nothing_that_serves(desk: Desk, wrong: Any) -> None:
    desk.start()
    whole = desk.record()
    for key in whole:
        try:
            found = Experiment.from_object({**whole, key: wrong}, "x")
        except DamagedError:
            continue
        assert found.route().candidate_traffic_percent in {0, 20}


@pytest.mark.parametrize(
    "change",
    [
        {"final_status": "completed"},
        {"experiment_id": "other"},
        {"stage": 2},
        {"candidate_traffic_percent": 100},
        {"status": "live"},
        {"rule": "coin"},
        {"schema_version": SCHEMA_VERSION + 1},
        {"id": "../x", "experiment_id": "../x"},
    ],
)
def test_a_record_that_contradicts_itself_is_an_error(desk: Desk, change: dict[str, Any]) -> None:
    desk.start()
    with pytest.raises(DamagedError):
        Experiment.from_object({**desk.record(), **change}, "x")


def test_a_record_under_another_name_is_an_error(desk: Desk) -> None:
    desk.start()
    (desk.experiments / "experiment_exp.json").rename(desk.experiments / "experiment_other.json")
    with pytest.raises(DamagedError, match="the record of 'exp'"):
        ExperimentStore(desk.experiments).read("other")


# --- the stage clock -------------------------------------------------------------------------------------------

BEGUN = StageClock.begin(Moment(1_000_000, 50.0, "a"))


@pytest.mark.parametrize(
    ("wall_s", "monotonic_s", "boot", "minutes"),
    [
        (60, 60, "a", 1),
        (86_400, 60, "a", 1),  # the wall clock leapt
        (60, 86_400, "a", 1),  # the machine slept by the other clock
        (86_400, 86_400, "a", 2),  # nobody watched: two looks' time
        (60, 60, "b", 0),  # another boot
        (-60, 60, "a", 0),  # backwards
        (60, -1, "a", 0),
    ],
)
def test_a_stage_lasts_as_long_as_it_was_watched(wall_s: int, monotonic_s: float, boot: str, minutes: float) -> None:
    now = Moment(1_000_000 + wall_s * 1000, 50.0 + monotonic_s, boot)
    assert BEGUN.advanced(now, 60).minutes == pytest.approx(minutes)
    assert BEGUN.advanced(now, 60, counting=False).minutes == 0
    assert BEGUN.went_backwards(now) == (wall_s < 0 or (boot == "a" and monotonic_s < 0))


@given(st.lists(st.tuples(st.integers(-10_000, 10_000), st.floats(-100, 10_000), st.sampled_from("ab")), max_size=20))
def test_a_stage_never_gets_younger_nor_older_than_its_looks(steps: list[tuple[int, float, str]]) -> None:
    clock, now = BEGUN, Moment(1_000_000, 50.0, "a")
    for number, (wall_s, monotonic_s, boot) in enumerate(steps, start=1):
        now = Moment(max(0, now.wall_ms + wall_s * 1000), now.monotonic_s + monotonic_s, boot)
        following = clock.advanced(now, 60)
        assert clock.minutes <= following.minutes <= 2 * number + 1e-9
        clock = following


# --- looks -----------------------------------------------------------------------------------------------------


def test_a_look_writes_its_figures_decision_and_reason(desk: Desk) -> None:
    desk.start()
    Service(desk).minute()
    shown = desk.monitor()
    decision = shown["decision"]
    assert decision["action"] == "hold"
    assert "the stage is 1 of 2 min old" in decision["text"]
    figures = decision["figures"]
    assert figures["candidate_calls"] + figures["baseline_calls"] == 150
    assert {"e_errors", "e_emergency", "e_latency", "e_bound"} <= figures.keys()
    assert desk.run("history", *EXP, "--ticks") == [decision]
    assert "no quality evidence" in decision["text"]


def test_a_dead_candidate_is_rolled_back_within_its_first_calls(desk: Desk) -> None:
    desk.start()
    service = Service(desk, candidates_fail)
    while desk.monitor()["status"] == "running":
        desk.clock.passes(6)
        for _ in range(10):
            service.one()
        service.recorder.flush()
    record = desk.record()
    assert record["rollback_reason"] == "error_rate_delta > 0.05"
    assert record["history"][-1]["figures"]["candidate_calls"] <= 20
    assert record["history"][-1]["by"] == "rule"


def scored(desk: Desk, means: dict[str, float], seed: int = 1) -> Service:
    """Traffic whose scores lie within .1 of each variant's mean."""
    rng, service = random.Random(seed), Service(desk)
    service.score = lambda choice: means[choice.variant] + rng.uniform(-0.1, 0.1)
    return service


def test_poor_quality_is_rolled_back_and_poor_quality_of_both_is_not(desk: Desk) -> None:
    desk.start(required=["errors", "latency", "quality"])
    service = scored(desk, {"baseline": 0.85, "candidate": 0.55})
    for _ in range(10):
        service.minute(150)
        if desk.monitor()["final_status"]:
            break
    record = desk.record()
    assert record["rollback_reason"] == "quality_score < 0.70"
    figures = record["history"][-1]["figures"]
    assert min(figures["e_quality"], figures["e_quality_delta"]) >= figures["e_bound"] == 400
    desk.start("second", required=["errors", "latency", "quality"])
    service = scored(desk, {"baseline": 0.55, "candidate": 0.55})
    for _ in range(20):
        service.minute(150)
        shown = desk.monitor("second")
    assert shown["status"] == "paused"
    assert "the baseline's own quality is 0.5" in shown["pause_reason"]


def test_a_look_after_a_long_time_has_every_score_once_in_order(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it comes in many batches."""
    monkeypatch.setattr("flywheel.serving.tail.CHUNK_BYTES", 4096)
    desk.start(stage_minutes=500, required=["errors", "latency", "quality"])
    given: dict[str, list[float]] = {"candidate": [], "baseline": []}
    service = Service(desk)

    def score(choice: Choice) -> float:
        mine = given[choice.variant]
        mine.append(round(0.5 + len(mine) / 1000, 3))
        return mine[-1]

    service.score = score
    service.minute(400)
    found = read(desk)
    source = RecordSource(Window(desk.root / "telemetry", found.checkpoint))
    seen = source.collect(found, desk.clock.wall_ms)
    assert list(seen.candidates["candidate"].scores) == given["candidate"]
    assert list(seen.baseline.scores) == given["baseline"]
    assert len(given["candidate"]) > 40


def test_an_outage_of_both_arms_is_no_reason(desk: Desk) -> None:
    desk.start()
    service = Service(desk, lambda _: "Unavailable")
    for _ in range(4):
        service.minute()
        assert desk.monitor()["status"] == "running"


def test_what_came_before_the_share_reached_the_routers_is_no_evidence(desk: Desk) -> None:
    desk.start()
    service = Service(desk)
    for _ in range(20):
        service.one()
    service.recorder.flush()
    desk.clock.passes(30)
    assert desk.monitor()["decision"]["figures"]["baseline_calls"] == 0


def test_without_records_the_deadline_rolls_back_with_the_reason(desk: Desk) -> None:
    desk.start()
    for _ in range(11):
        desk.clock.passes(60)
        assert desk.monitor()["status"] == "running"
    desk.clock.passes(60)
    assert desk.monitor()["rollback_reason"] == "metrics_missing"


def test_an_undecided_rollout_pauses_and_is_given_a_deadline_anew_by_resume(desk: Desk) -> None:
    desk.start(error_rate_delta=0.001)
    service = Service(desk)
    while desk.monitor()["status"] == "running":
        service.minute()
    shown = desk.run("status", *EXP)
    assert shown["status"] == "paused"
    assert shown["pause_reason"].startswith("inconclusive: error rate may be up to")
    assert desk.share() == 20
    desk.run("resume", *EXP)
    service.minute()
    assert desk.monitor()["status"] == "running"


def test_a_paused_rollout_is_neither_promoted_nor_timed_out_but_still_guarded(desk: Desk) -> None:
    desk.start()
    healthy = Service(desk)
    desk.run("pause", *EXP)
    for _ in range(15):
        healthy.minute()
        shown = desk.monitor()
        assert (shown["status"], shown["stage_minutes"]) == ("paused", 0)
    failing = Service(desk, candidates_fail)
    for _ in range(10):
        failing.minute()
        desk.monitor()
    assert desk.record()["rollback_reason"] == "error_rate_delta > 0.05"


def test_what_would_promote_does_not_while_paused(desk: Desk) -> None:
    desk.start(min_calls=110)
    service = Service(desk)
    for _ in range(3):
        service.minute()
        desk.monitor()
    desk.run("pause", *EXP)
    for _ in range(4):
        service.minute()
        shown = desk.monitor()
    assert (shown["status"], shown["decision"]["action"]) == ("paused", "hold")
    assert shown["decision"]["reasons"] == ["harmless"]
    desk.run("resume", *EXP)
    service.minute()
    assert desk.monitor()["stage"] == 2


def test_unreadable_records_hold(desk: Desk) -> None:
    desk.start()
    service = Service(desk)
    for _ in range(4):
        service.minute()
        with (desk.root / "telemetry" / "other.jsonl").open("a") as stream:
            stream.write("garbage\n" * 50)
        shown = desk.monitor()
    assert (shown["status"], shown["stage"]) == ("running", 1)
    assert "unusable records beside" in shown["decision"]["text"]


def test_units_that_meet_both_variants_hold(desk: Desk) -> None:
    desk.start()
    service = Service(desk, known_as=lambda number: f"user-{number % 100}")
    for _ in range(4):
        service.minute()
        shown = desk.monitor()
    assert (shown["status"], shown["stage"]) == ("running", 1)
    assert shown["decision"]["reasons"] == ["multiple_exposures"]
    assert shown["decision"]["units_exposed_twice"] > 10


def busy(number: int) -> str:
    """One user makes every second call, a hundred others the rest."""
    return "busy" if number % 2 else f"user-{number % 200}"


def test_a_busy_user_is_no_sample_ratio_mismatch(desk: Desk) -> None:
    desk.start()
    service = Service(desk, unit=busy)
    for _ in range(12):
        service.minute(300)
        shown = desk.monitor()
        if shown["final_status"]:
            break
    assert shown["final_status"] == "completed"
    figures = shown["decision"]["figures"]
    assert figures["candidate_drawn"] + figures["baseline_drawn"] == 101
    # By calls it would have been one at 50 %, whichever variant the busy user meets.
    assert evalues.share_log(figures["candidate_calls"], figures["baseline_calls"], 0.5) > math.log(1000 * 2)


def test_a_router_that_keeps_the_old_share_is_a_sample_ratio_mismatch(desk: Desk) -> None:
    desk.start(stage_minutes=1000)
    old = desk.root / "old.json"
    old.write_bytes(desk.routing_path.read_bytes())
    desk.run("promote", *EXP)
    service = Service(desk, unit=lambda number: f"user-{number % 400}")
    service.router = Router(
        old,
        telemetry=service.recorder,
        clock=lambda: desk.clock.monotonic_s,
        now_ms=lambda: desk.clock.wall_ms,
    )
    for _ in range(2):
        service.minute(300)
        shown = desk.monitor()["decision"]
    assert "sample_ratio_mismatch" in shown["reasons"]
    assert "of 400 times at 50 %" in shown["text"]


def test_the_bare_thresholds_promote_and_roll_back(desk: Desk) -> None:
    settings = desk.root / "config.json"
    settings.write_text(json.dumps({"stages": [20, 100], "stage_minutes": 2, "min_calls": 30}))
    modules = ("--baseline", str(desk.module("b")), "--candidate", str(desk.module("c")))
    names = ("--signature", SIGNATURE, "--config", str(settings), "--rule", "point")
    for name, serve in (("good", lambda _: None), ("bad", candidates_fail)):
        desk.clock.passes(1)
        desk.run("start", "--experiment-id", name, *names, *modules)
        service = Service(desk, serve)
        while desk.monitor(name)["status"] == "running":
            service.minute()
    assert (desk.record("good")["final_status"], desk.record("bad")["final_status"]) == ("completed", "rolled_back")


# --- clocks that jump ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump_s", [-7200, -86_400 * 30, 7200, 86_400])
def test_a_wall_clock_that_jumps_neither_promotes_nor_rolls_back(desk: Desk, jump_s: int) -> None:
    desk.start(stage_minutes=5)
    service = Service(desk)
    service.minute()
    desk.monitor()
    desk.clock.wall_ms += jump_s * 1000
    shown = desk.monitor()
    assert (shown["status"], shown["stage"]) == ("running", 1)
    assert shown["stage_minutes"] <= 3
    if jump_s < 0:
        assert shown["decision"]["reasons"] == ["clock_went_back"]
    # The evidence goes on by the clock as it is now.
    before = shown["decision"]["figures"]["candidate_calls"]
    service.minute()
    assert desk.monitor()["decision"]["figures"]["candidate_calls"] > before


def test_nothing_counts_across_a_boot(desk: Desk) -> None:
    desk.start()
    Service(desk).minute()
    minutes = desk.monitor()["stage_minutes"]
    desk.clock.wall_ms += 3_600_000
    desk.clock.monotonic_s, desk.clock.boot_id = 5.0, "boot-2"
    assert desk.monitor()["stage_minutes"] == minutes
    desk.clock.passes(60)
    assert desk.monitor()["stage_minutes"] == minutes + 1


def test_looks_at_random_times_agree_with_looks_each_minute(desk: Desk) -> None:
    """The same traffic, whatever the number of processes that looked at it."""
    desk.start(stage_minutes=500)
    service = Service(desk)
    rng = random.Random(1)
    for _ in range(6):
        service.minute()
        for _ in range(rng.randrange(3)):
            desk.monitor()
    figures = desk.monitor()["decision"]["figures"]
    assert figures["candidate_calls"] + figures["baseline_calls"] == 900


# --- several at once -------------------------------------------------------------------------------------------


def waits_for_a_lock() -> bool:
    waiting = [line.split() for line in Path("/proc/locks").read_text().splitlines() if "->" in line]
    return any("FLOCK" in words and str(os.getpid()) in words for words in waiting)


def test_a_look_that_was_overtaken_is_dropped(desk: Desk) -> None:
    """A rollback while telemetry is being read neither waits for it nor is undone by what the look decides."""
    desk.start()
    service = Service(desk)
    for _ in range(3):
        service.minute()
    store = ExperimentStore(desk.experiments)
    found: list[Any] = []
    arguments = (store, "exp", desk.root / "telemetry", desk.root / "programs", desk.clock())
    thread = threading.Thread(target=lambda: found.extend(look(*arguments)))
    with store.lock():
        thread.start()
        # The look has read record and telemetry, and waits to write.
        while not waits_for_a_lock():
            time.sleep(0.001)
        after = rolled_back(store.read("exp"), "meanwhile", "operator", desk.clock())
        store.lower(lambda _: after.route(), desk.clock())
        store.save(after)
    thread.join()
    assert found[1] is None
    assert desk.record()["rollback_reason"] == "meanwhile"
    assert desk.share() == 0


@pytest.mark.parametrize("which", [EXP, ("--all",)])
def test_a_rollback_takes_traffic_away_before_it_waits_for_a_lock(desk: Desk, which: tuple[str, ...]) -> None:
    desk.start()
    script = [sys.executable, str(SCRIPTS / "ab_testing_framework.py"), "rollback", *which, "--reason", "stuck"]
    with ExperimentStore(desk.experiments).lock():
        process = subprocess.Popen([*script, *desk.folders], stdout=subprocess.DEVNULL)
        while desk.share():
            assert process.poll() is None
            time.sleep(0.005)
        assert desk.record()["status"] == "running"
    assert process.wait(20) == 0
    assert desk.record()["rollback_reason"] == "stuck"


def test_the_monitoring_reads_what_the_rollout_writes(desk: Desk) -> None:
    desk.start()
    service = Service(desk, candidates_fail)
    while desk.monitor()["status"] == "running":
        service.minute()
    facts = read_experiment(desk.experiments / "experiment_exp.json")
    (finding,) = rollback(facts, MonitoringConfig(), desk.clock().date)
    assert finding.title == "A/B Test Rolled Back: Auto-Rollback"
    assert finding.details["reason"] == "Error rate increased >5%"
    assert finding.details["final_traffic_percent"] == 20


WORKER = """
import sys
from ab_testing_framework import main
name, count, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
dirs = [f"--experiments-dir={folder}/experiments", f"--programs-dir={folder}/programs"]
module = f"{folder}/m.json"
names = ["--experiment-id", name, "--signature", name]
assert main(["start", *names, "--baseline", module, "--candidate", module, *dirs]) == 0
for number in range(count):
    assert main(["pause", "--experiment-id", "shared", "--reason", f"{name} {number}", *dirs]) == 0
    assert main(["pause" if number % 2 == 0 else "resume", "--experiment-id", name, *dirs]) == 0
"""


def workers(desk: Desk, processes: int, count: int) -> None:
    desk.start("shared", "shared")
    (desk.root / "m.json").write_text("{}")
    arguments = [[sys.executable, "-c", WORKER, f"w{n}", str(count), str(desk.root)] for n in range(processes)]
    stop, torn = threading.Event(), []
    seen: set[int] = set()

    def watch() -> None:
        generation = 0
        while not stop.is_set():
            found = decode(desk.routing_path.read_bytes(), "routing")
            seen.add(found.generation)
            if found.broken or found.generation < generation:
                torn.append(found)
            generation = found.generation
            ExperimentStore(desk.experiments).read("shared")

    reader = threading.Thread(target=watch)
    reader.start()
    running = [
        subprocess.Popen(line, cwd=SCRIPTS, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for line in arguments
    ]
    problems = [process.communicate()[1] for process in running]
    stop.set()
    reader.join()
    assert [process.returncode for process in running] == [0] * processes, problems
    assert not torn
    # It did look while they wrote.
    assert len(seen) > processes
    reasons = [line["reason"] for line in desk.record("shared")["history"] if line["event"] == "paused"]
    assert sorted(reasons) == sorted(f"w{n} {k}" for n in range(processes) for k in range(count))
    assert set(desk.routes()) == {"shared", *(f"w{n}" for n in range(processes))}
    for number in range(processes):
        assert len(desk.record(f"w{number}")["history"]) == 1 + count


def test_eight_processes_lose_no_update(desk: Desk) -> None:
    workers(desk, 8, 10)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_eight_processes_lose_no_update_in_a_thousand(desk: Desk) -> None:
    workers(desk, 8, 500)
