"""`ab_testing_framework.py archive`: ended experiments go, and never one that traffic or a deployed program needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.rollouts import Desk

DAY = 86_400.0


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


def ended(desk: Desk, experiment_id: str, *, completed: bool = False, signature: str = "extract_requirements") -> None:
    desk.start(experiment_id, signature)
    if completed:
        desk.run("promote", "--experiment-id", experiment_id, "--to", "100")
    else:
        desk.run("rollback", "--experiment-id", experiment_id, "--reason", "test")
    desk.clock.passes(DAY)


def names(desk: Desk) -> set[str]:
    return {item["id"] for item in desk.run("list")["experiments"]}


def test_old_ended_experiments_go_and_what_is_needed_stays(desk: Desk) -> None:
    for name in ("a", "b"):
        ended(desk, name)
    ended(desk, "done_before", completed=True)
    ended(desk, "done", completed=True)
    ended(desk, "latest")
    ended(desk, "other", signature="validate_intent")
    desk.start("live", "validate_completeness")
    desk.clock.passes(100 * DAY)
    routing = desk.routing_path.read_bytes()
    assert desk.run("archive", "--dry-run") == {"ids": ["a", "b", "done_before"], "archived": []}
    assert len(names(desk)) == 7
    archived = desk.run("archive")
    assert archived["ids"] == ["a", "b", "done_before"]
    assert names(desk) == {"done", "latest", "other", "live"}
    assert all(
        (Path(folder) / f"experiment_{name}.json").is_file() for name, folder in zip(*archived.values(), strict=True)
    )
    assert desk.routing_path.read_bytes() == routing
    assert desk.run("archive") == {"ids": [], "archived": []}


def test_only_what_ended_long_enough_ago_goes(desk: Desk) -> None:
    for name in ("a", "b", "c"):
        ended(desk, name)
    # Ended 3, 2 and 1 days ago; c is the signature's latest.
    assert desk.run("archive", "--days", "2.5")["ids"] == ["a"]
    assert desk.run("archive", "--days", "1.5")["ids"] == ["b"]
    assert desk.run("archive", "--days", "0")["ids"] == []


def test_without_a_routing_file_nothing_goes(desk: Desk) -> None:
    for name in ("a", "b"):
        ended(desk, name)
    desk.routing_path.unlink()
    assert desk.run("archive", "--days", "0")["ids"] == []
    assert not desk.routing_path.exists()


def test_a_record_that_does_not_tell_when_it_ended_stays(desk: Desk) -> None:
    for name in ("a", "b"):
        ended(desk, name)
    path = desk.experiments / "experiment_a.json"
    record = json.loads(path.read_text())
    histories: list[list[Any]] = [[], [{"at": "yesterday"}], [{"at": "2020-01-01T00:00:00"}], [{}], ["x"]]
    for history in histories:
        path.write_text(json.dumps({**record, "history": history}))
        assert desk.run("archive", "--days", "0")["ids"] == []


def test_the_figures_of_its_looks_go_with_it(desk: Desk) -> None:
    desk.start("a")
    desk.run("monitor", "--experiment-id", "a")
    desk.run("rollback", "--experiment-id", "a", "--reason", "test")
    ended(desk, "b")
    (folder,) = desk.run("archive", "--days", "0.5")["archived"]
    assert {path.name for path in Path(folder).iterdir()} == {"experiment_a.json", "ticks_a.jsonl"}
