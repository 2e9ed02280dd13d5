from __future__ import annotations

import json
import multiprocessing
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.base import programs
from flywheel.base.errors import BadInputError, DamagedError
from flywheel.base.programs import Program, ProgramField, ProgramScores

MOMENT = datetime(2025, 11, 4, 12, 0, tzinfo=UTC)
PROGRAM = Program(
    signature="validate_intent",
    fields=(
        ProgramField("user_intent", "input", "str", "What the user wanted"),
        ProgramField("intent_satisfied", "output", "bool", "Whether"),
    ),
    instructions="Judge “it”.",
    demos=({"user_intent": "x", "intent_satisfied": True},),
    adapter="ChatAdapter",
    model="anthropic/some-model",
    model_snapshot=None,
    model_parameters={"temperature": 0.0},
    optimizer="miprov2",
    seed=7,
    dataset_version="v20251104_110000",
    dataset_hash="ab" * 32,
    run_id="run_20251104_113000",
    created="2025-11-04T12:00:00+00:00",
    scores=ProgramScores(0.5, 0.6, 20.0, (1.0, 39.0), 40),
    state={"predict": {"demos": []}},
)


def envelope() -> dict[str, Any]:
    value: dict[str, Any] = json.loads(PROGRAM.to_json())
    return value


@given(
    st.builds(
        replace,
        st.just(PROGRAM),
        instructions=st.text(),
        seed=st.integers(),
        model_snapshot=st.none() | st.text(),
        demos=st.lists(st.dictionaries(st.text(), st.text() | st.booleans()), max_size=3).map(tuple),
        scores=st.builds(
            ProgramScores,
            baseline=st.floats(0, 1),
            optimized=st.floats(0, 1),
            improvement_percent=st.none() | st.floats(-100, 1000),
            improvement_ci=st.none() | st.tuples(st.floats(-100, 0), st.floats(0, 1000)),
            n_test=st.integers(0, 1000),
        ),
    )
)
def test_the_envelope_round_trips(program: Program) -> None:
    assert Program.from_object(json.loads(program.to_json()), "x") == program


def test_reading_does_not_change_what_is_read() -> None:
    value = envelope()
    before = json.dumps(value)
    Program.from_object(value, "x")
    assert json.dumps(value) == before


@pytest.mark.parametrize("name", [field.name for field in fields(Program)])
def test_a_missing_key_is_damage_and_named(name: str) -> None:
    value = envelope()
    del value[name]
    with pytest.raises(DamagedError, match=rf"p\.json: keys missing \['{name}'\], unknown \[\]"):
        Program.from_object(value, "p.json")


def test_an_unknown_key_is_damage_and_named() -> None:
    with pytest.raises(DamagedError, match=r"unknown \['extra'\]"):
        Program.from_object({**envelope(), "extra": 1}, "p.json")


@pytest.mark.parametrize("mark", [2, "1", None])
def test_another_schema_is_told_apart_from_no_envelope(mark: object) -> None:
    with pytest.raises(DamagedError, match=rf"schema 1 \(schema {mark}\)"):
        Program.from_object({**envelope(), "flywheel_program": mark}, "p.json")
    with pytest.raises(DamagedError, match=r"schema 1 \(no envelope\)"):
        Program.from_object({"predict": {}}, "p.json")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("signature", None),
        ("instructions", None),
        ("instructions", ["text"]),
        ("demos", {"a": 1}),
        ("demos", [1]),
        ("fields", [{"name": "x"}]),
        ("fields", "user_intent"),
        ("scores", {}),
        ("scores", None),
        ("scores", {"baseline": 0.5, "surprise": 1, "improvement_ci": None}),
        ("state", "text"),
        ("seed", "seven"),
    ],
)
def test_a_value_of_a_wrong_type_is_damage(name: str, value: object) -> None:
    with pytest.raises(DamagedError, match=r"p\.json: malformed program envelope"):
        Program.from_object({**envelope(), name: value}, "p.json")


def test_published_versions_are_private_whole_and_latest(tmp_path: Path) -> None:
    first = programs.publish(tmp_path / "programs", PROGRAM, MOMENT)
    second = programs.publish(tmp_path / "programs", replace(PROGRAM, seed=8), MOMENT)
    folder = tmp_path / "programs/validate_intent"
    assert [p.parent.name for p in (first, second)] == ["v20251104_120000", "v20251104_120001"]
    assert (folder / "latest").readlink() == Path("v20251104_120001")
    assert programs.read_program(first, "validate_intent") == PROGRAM
    assert programs.read_program(folder / "latest/program.json").seed == 8
    assert first.stat().st_mode & 0o777 == 0o600
    assert first.parent.stat().st_mode & 0o777 == 0o700
    assert programs.deployed_program(tmp_path / "programs", "validate_intent") is None


def test_what_a_run_has_published_becomes_no_second_version(tmp_path: Path) -> None:
    first = programs.publish(tmp_path, PROGRAM, MOMENT)
    again = replace(PROGRAM, created="2026-01-01T00:00:00+00:00")
    assert programs.publish(tmp_path, again, MOMENT) == first
    assert [path.name for path in first.parent.parent.glob("v*")] == [first.parent.name]


def test_what_a_killed_publisher_left_is_swept(tmp_path: Path) -> None:
    programs.publish(tmp_path, PROGRAM, MOMENT)
    left = tmp_path / "validate_intent/.staging-v20251104_120001-123"
    left.mkdir()
    (left / "program.json").write_text("{")
    programs.publish(tmp_path, replace(PROGRAM, run_id="run_20251201_000000"), MOMENT)
    names = [path.name for path in (tmp_path / "validate_intent").iterdir()]
    assert sorted(names) == [".lock", "latest", "v20251104_120000", "v20251104_120001"]


def test_deploy_moves_and_moves_back(tmp_path: Path) -> None:
    first, second = (programs.publish(tmp_path, PROGRAM, MOMENT) for _ in range(2))
    for path in (first, second, first):
        assert programs.deploy(tmp_path, "validate_intent", path.parent.name) == path
        assert programs.deployed_program(tmp_path, "validate_intent") == path.resolve()


def test_a_program_takes_the_place_of_what_it_was_compared_with_and_of_nothing_else(tmp_path: Path) -> None:
    first, second, third = (programs.publish(tmp_path, replace(PROGRAM, seed=seed), MOMENT) for seed in range(3))
    for _ in range(2):  # the second time as by a run that was killed afterwards
        programs.succeed(tmp_path, None, first)
        assert programs.deployed_program(tmp_path, "validate_intent") == first.resolve()
    programs.succeed(tmp_path, first, second)
    assert programs.deployed_program(tmp_path, "validate_intent") == second.resolve()
    for compared, named in ((first, first.parent.name), (None, "the plain program")):
        expected = f"^{second.parent.name} was deployed since the run began, and it was compared with {named};"
        with pytest.raises(BadInputError, match=expected):
            programs.succeed(tmp_path, compared, third)
    assert programs.deployed_program(tmp_path, "validate_intent") == second.resolve()
    programs.undeploy(tmp_path, "validate_intent")
    with pytest.raises(BadInputError, match=r"^nothing is deployed since the run began"):
        programs.succeed(tmp_path, second, third)
    assert programs.deployed_program(tmp_path, "validate_intent") is None


def test_deploying_latest_pins_what_it_means_today(tmp_path: Path) -> None:
    first = programs.publish(tmp_path, PROGRAM, MOMENT)
    assert programs.deploy(tmp_path, "validate_intent", "latest") == first
    programs.publish(tmp_path, PROGRAM, MOMENT)
    assert programs.deploy(tmp_path, "validate_intent", "deployed") == first
    assert programs.deployed_program(tmp_path, "validate_intent") == first.resolve()


@pytest.mark.parametrize("version", ["v20200101_000000", "latest/../latest", "../validate_intent/latest", ""])
def test_deploying_what_is_no_version_changes_nothing(tmp_path: Path, version: str) -> None:
    path = programs.publish(tmp_path, PROGRAM, MOMENT)
    programs.deploy(tmp_path, "validate_intent", path.parent.name)
    with pytest.raises(BadInputError, match="no such program; `ls "):
        programs.deploy(tmp_path, "validate_intent", version)
    assert programs.deployed_program(tmp_path, "validate_intent") == path.resolve()


def test_a_program_of_another_signature_is_refused(tmp_path: Path) -> None:
    path = programs.publish(tmp_path, PROGRAM, MOMENT)
    with pytest.raises(BadInputError, match="a program of validate_intent, not of validate_correctness"):
        programs.read_program(path, "validate_correctness")


@pytest.mark.parametrize("content", ["", "[]", "{", '{"flywheel_program": 1}'])
def test_a_torn_program_is_damaged(tmp_path: Path, content: str) -> None:
    (tmp_path / "program.json").write_text(content)
    with pytest.raises(DamagedError, match=r"program\.json"):
        programs.read_program(tmp_path / "program.json")


def test_envelope_signature_tells_ours_from_other_json(tmp_path: Path) -> None:
    ours = programs.publish(tmp_path, PROGRAM, MOMENT)
    assert programs.envelope_signature(ours) == "validate_intent"
    other = tmp_path / "other.json"
    other.write_text('{"predict": {}}')
    assert programs.envelope_signature(other) is None
    other.write_text('{"flywheel_program": 1, "signature": 5}')
    with pytest.raises(DamagedError, match="envelope without a signature"):
        programs.envelope_signature(other)
    with pytest.raises(BadInputError, match="cannot be read"):
        programs.envelope_signature(tmp_path / "none.json")


def _publish(root: Path, seed: int) -> str:
    return programs.publish(root, replace(PROGRAM, seed=seed), MOMENT).parent.name


def test_publishers_at_once_each_get_a_version(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        versions = pool.starmap(_publish, [(tmp_path, seed) for seed in range(8)])
    assert sorted(versions) == [f"v20251104_12000{n}" for n in range(8)]
    seeds = {programs.read_program(tmp_path / "validate_intent" / v / "program.json").seed for v in versions}
    assert seeds == set(range(8))
    assert (tmp_path / "validate_intent/latest").readlink() == Path("v20251104_120007")
