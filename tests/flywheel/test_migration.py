"""Records that earlier checkouts of this repository wrote (`tests/records/`), read and continued by this one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.rollouts import Clock, Desk, Service

from flywheel.base.errors import DamagedError
from flywheel.serving.experiment_store import ExperimentStore
from flywheel.serving.experiments import Experiment
from flywheel.serving.migration import SCHEMA_VERSION

RECORDS = Path(__file__).resolve().parents[1] / "records"
FIRST = sorted(path.name for path in RECORDS.glob("experiment_v1_*.json"))
SECOND = sorted(path.name for path in RECORDS.glob("experiment_v2_*.json"))
NAMES = [*FIRST, *SECOND]
EXPOSED = "experiment_v2_exposed.json"
WITHOUT_CANDIDATES = ("experiment_v1_first.json", "experiment_v1_latencies.json")


def old(name: str) -> Any:
    return json.loads((RECORDS / name).read_text())


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


def test_the_records_are_of_the_versions_that_their_names_tell() -> None:
    assert (len(FIRST), len(SECOND)) == (4, 3)
    assert {old(name)["schema_version"] for name in FIRST} == {1}
    assert {old(name)["schema_version"] for name in SECOND} == {2}


def told(checkpoint: Any) -> Any:
    """What a window's checkpoint says but for units, which are counted anew."""
    return {key: item for key, item in checkpoint.items() if key not in {"schema_version", "exposures"}}


@pytest.mark.parametrize("name", NAMES)
def test_nothing_that_an_old_record_says_is_lost(name: str) -> None:
    value = old(name)
    found = Experiment.from_object(value, name)
    again = json.loads(json.dumps(found.to_object()))
    assert again.pop("schema_version") == SCHEMA_VERSION
    remade = {"schema_version", "evidence", "config", "candidates", "checkpoint"}
    known = {key: item for key, item in value.items() if key not in remade}
    assert known.items() <= again.items()
    assert value["config"].items() <= again["config"].items()
    assert told(value["checkpoint"]) == told(again["checkpoint"])
    for before, after in zip(value.get("candidates", ()), again["candidates"], strict=False):
        assert {**after, "evidence": None} == {**before, "evidence": None}
        seen, kept = before["evidence"], after["evidence"]
        assert seen["candidate"].items() <= kept["candidate"].items()
        assert kept["carried"].items() <= seen["carried"].items()
    assert Experiment.from_object({**again, "schema_version": SCHEMA_VERSION}, name) == found


@pytest.mark.parametrize("name", WITHOUT_CANDIDATES)
def test_the_one_candidate_keeps_its_evidence_and_all_of_alpha(name: str) -> None:
    value = old(name)
    (candidate,) = Experiment.from_object(value, name).candidates
    assert (candidate.variant, candidate.module) == ("candidate", value["candidate_module"])
    assert candidate.alpha == value["config"]["alpha"]
    assert (candidate.evidence.candidate.calls, candidate.evidence.baseline.calls) == (
        value["evidence"]["candidate"]["calls"],
        value["evidence"]["baseline"]["calls"],
    )
    assert candidate.evidence.candidate.calls > 60


@pytest.mark.parametrize("name", NAMES)
def test_an_old_record_is_continued_and_kept_in_the_present_form(desk: Desk, name: str) -> None:
    value = old(name)
    clock = value["clock"]
    desk.clock = Clock(clock["wall_ms"], clock["monotonic_s"], clock["boot_id"])
    store = ExperimentStore(desk.experiments)
    store.path("exp").write_text(json.dumps(value))
    store.put_route(store.read("exp"), desk.clock())
    service = Service(desk)
    for _ in range(3):
        service.minute(300)
        desk.monitor()
    after = desk.record()
    assert after["schema_version"] == SCHEMA_VERSION
    assert after["status"] == "running"
    assert after["history"][: len(value["history"])] == value["history"]
    known = range(len(value["history"]), len(after["history"]))
    assert ("promoted" in {after["history"][number]["event"] for number in known}) == (name != EXPOSED)
    desk.run("rollback", "--experiment-id", "exp", "--reason", "x")
    assert desk.share() == 0


def test_units_are_counted_anew(desk: Desk) -> None:
    """A version 2 window kept the first 500 units of each variant: their ratio is not the routed one."""
    value = old("experiment_v2_second_stage.json")
    seen = value["checkpoint"]["exposures"]["exp"]["seen"]
    assert len(seen["candidate"]) > 100
    clock = value["clock"]
    desk.clock = Clock(clock["wall_ms"], clock["monotonic_s"], clock["boot_id"])
    store = ExperimentStore(desk.experiments)
    store.path("exp").write_text(json.dumps(value))
    store.put_route(store.read("exp"), desk.clock())
    Service(desk).minute(300)
    figures = desk.monitor()["decision"]["figures"]
    assert figures["candidate_drawn"] + figures["baseline_drawn"] == 300
    assert figures["candidate_calls"] + figures["baseline_calls"] == 900
    assert figures["e_sample_ratio"] < 100


def test_calls_go_on_being_counted_where_units_are_unknown() -> None:
    value = old("experiment_v2_second_stage.json")
    value["checkpoint"] = {"schema_version": 1, "source": "prometheus", "counters": None}
    found = Experiment.from_object(value, "x")
    assert found.checkpoint == value["checkpoint"]
    evidence = found.candidates[0].evidence
    assert (evidence.candidate.drawn, evidence.baseline.drawn) == (evidence.candidate.calls, evidence.baseline.calls)


def test_routing_that_was_found_broken_stays_so() -> None:
    for name in (EXPOSED, "experiment_v2_second_stage.json"):
        checkpoint = Experiment.from_object(old(name), name).checkpoint
        assert checkpoint is not None
        exposure = checkpoint["exposures"]["exp"]
        assert (exposure["met"], exposure["drawn"]) == ({}, {})
        assert (len(exposure["crossed"]) > 10) == (name == EXPOSED)


@pytest.mark.parametrize("part", ["candidates", "checkpoint", "evidence", "carried", "exposure", "seen"])
@pytest.mark.parametrize("junk", [5, [5], "x", {}])
def test_junk_in_an_old_record_is_refused_or_read(part: str, junk: Any) -> None:
    value = old("experiment_v2_second_stage.json")
    exposures = value["checkpoint"]["exposures"]
    place: dict[str, Any] = {
        "evidence": value["candidates"][0],
        "carried": value["candidates"][0]["evidence"],
        "exposure": exposures,
        "seen": exposures["exp"],
    }.get(part, value)
    place["exp" if part == "exposure" else part] = junk
    if junk == {} and part in {"checkpoint", "seen"}:
        Experiment.from_object(value, "x")
        return
    with pytest.raises(DamagedError):
        Experiment.from_object(value, "x")


@pytest.mark.parametrize("version", [0, SCHEMA_VERSION + 1, "1", None, True, 1.0])
def test_an_unknown_version_is_refused(version: Any) -> None:
    with pytest.raises(DamagedError, match="schema version"):
        Experiment.from_object({**old(NAMES[0]), "schema_version": version}, "x")


@pytest.mark.parametrize("name", NAMES)
def test_an_old_record_with_a_part_missing_is_refused(name: str) -> None:
    value = old(name)
    for key in value:
        if name in SECOND or key not in {"prometheus", "latencies", "ended", "withdrawn", "shadow"}:
            with pytest.raises(DamagedError):
                Experiment.from_object({other: item for other, item in value.items() if other != key}, "x")


def test_a_new_record_must_have_every_key() -> None:
    value = Experiment.from_object(old(NAMES[0]), "x").to_object()
    for key in ("prometheus", "latencies", "ended", "withdrawn", "shadow"):
        with pytest.raises(DamagedError, match=key):
            Experiment.from_object({other: item for other, item in value.items() if other != key}, "x")
