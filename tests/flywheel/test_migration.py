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
NAMES = sorted(path.name for path in RECORDS.glob("experiment_v1_*.json"))
WITHOUT_CANDIDATES = ("experiment_v1_first.json", "experiment_v1_latencies.json")


def old(name: str) -> Any:
    return json.loads((RECORDS / name).read_text())


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


def test_the_records_are_of_the_first_version() -> None:
    assert len(NAMES) == 4
    assert {old(name)["schema_version"] for name in NAMES} == {1}


@pytest.mark.parametrize("name", NAMES)
def test_nothing_that_an_old_record_says_is_lost(name: str) -> None:
    value = old(name)
    found = Experiment.from_object(value, name)
    again = json.loads(json.dumps(found.to_object()))
    assert again.pop("schema_version") == SCHEMA_VERSION
    known = {key: item for key, item in value.items() if key not in {"schema_version", "evidence", "config"}}
    assert known.items() <= again.items()
    assert value["config"].items() <= again["config"].items()
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
    assert "promoted" in {line["event"] for line in after["history"]}
    desk.run("rollback", "--experiment-id", "exp", "--reason", "x")
    assert desk.share() == 0


@pytest.mark.parametrize("version", [0, SCHEMA_VERSION + 1, "1", None, True, 1.0])
def test_an_unknown_version_is_refused(version: Any) -> None:
    with pytest.raises(DamagedError, match="schema version"):
        Experiment.from_object({**old(NAMES[0]), "schema_version": version}, "x")


@pytest.mark.parametrize("name", NAMES)
def test_an_old_record_with_a_part_missing_is_refused(name: str) -> None:
    value = old(name)
    for key in value:
        if key not in {"prometheus", "latencies", "ended", "withdrawn", "shadow"}:
            with pytest.raises(DamagedError):
                Experiment.from_object({other: item for other, item in value.items() if other != key}, "x")


def test_a_new_record_must_have_every_key() -> None:
    value = Experiment.from_object(old(NAMES[0]), "x").to_object()
    for key in ("prometheus", "latencies", "ended", "withdrawn", "shadow"):
        with pytest.raises(DamagedError, match=key):
            Experiment.from_object({other: item for other, item in value.items() if other != key}, "x")
