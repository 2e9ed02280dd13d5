"""The views of stored programs, through the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from flywheel.base import programs
from flywheel.base.errors import BadInputError
from flywheel.data.signatures import BUILT_IN
from flywheel.learning.program import plain_envelope
from flywheel.ops import program_options
from optimization_orchestrator import main

if TYPE_CHECKING:
    from pathlib import Path

NAME = "validate_intent"
SIGNATURE = next(signature for signature in BUILT_IN if signature.name == NAME)
MOMENT = datetime(2025, 11, 4, 12, 0, tzinfo=UTC)


@pytest.fixture(name="folder")
def folder_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two versions, the first of them deployed."""
    monkeypatch.setenv("OPTIMIZED_MODULES_DIR", str(tmp_path))
    first = plain_envelope(SIGNATURE, model="openai/a", run_id="run_1", created="2025-11-04")
    state = json.loads(json.dumps(first.state))
    state["signature"]["instructions"] = "Judge\x1b[2J anew."
    second = replace(first, instructions="Judge\x1b[2J anew.", state=state, run_id="run_2")
    stored = programs.publish(tmp_path, first, MOMENT)
    programs.publish(tmp_path, second, MOMENT)
    programs.deploy(tmp_path, NAME, stored.parent.name)
    return tmp_path


def test_the_links_are_called_what_the_store_calls_them() -> None:
    assert (program_options.DEPLOYED, program_options.LATEST) == (programs.DEPLOYED, programs.LATEST)


def seen(capsys: pytest.CaptureFixture[str], *command: str) -> Any:
    capsys.readouterr()
    assert main(["programs", *command]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("folder")
def test_list_shows_every_version_and_what_the_links_say(capsys: pytest.CaptureFixture[str]) -> None:
    rows = seen(capsys, "list")
    assert [(row["version"], row["deployed"], row["latest"]) for row in rows] == [
        ("v20251104_120000", True, False),
        ("v20251104_120001", False, True),
    ]
    assert {row["model"] for row in rows} == {"openai/a"}
    assert seen(capsys, "list", NAME) == rows
    assert seen(capsys, "list", "generate_guidance") == []


def test_list_goes_on_past_a_damaged_version(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / NAME / "v20251104_120000" / "program.json").write_text("{")
    assert main(["programs", "list"]) == 0
    told = capsys.readouterr()
    assert [row["version"] for row in json.loads(told.out)] == ["v20251104_120001"]
    assert "v20251104_120000/program.json, line 1: not JSON" in told.err


def test_show_prints_the_envelope_of_what_is_deployed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert seen(capsys, "show", NAME)["run_id"] == "run_1"
    assert seen(capsys, "show", NAME, "latest")["run_id"] == "run_2"
    path = str(folder / NAME / "v20251104_120001" / "program.json")
    assert seen(capsys, "show", NAME, path)["run_id"] == "run_2"


@pytest.mark.usefixtures("folder")
def test_diff_shows_what_changed_safely_for_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["programs", "diff", NAME]) == 0
    told = capsys.readouterr()
    changed = [line for line in json.loads(told.out)["diff"] if line.startswith(("+", "-"))]
    assert "+Judge\x1b[2J anew." in changed
    assert "+Judge[2J anew." in told.err
    assert "\x1b" not in told.err
    assert "\x1b" not in told.out, "JSON escapes it"
    assert seen(capsys, "diff", NAME, "deployed", "deployed")["diff"] == []


@pytest.mark.usefixtures("folder")
def test_render_takes_inputs_from_a_file_and_from_stdin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = {"user_intent": "Page", "work_item": "", "implementation": "x", "requirements": ["Go on"]}
    path = tmp_path / "inputs.json"
    path.write_text(json.dumps(inputs))
    messages = seen(capsys, "render", NAME, "latest", "--input", str(path))
    assert [message["role"] for message in messages] == ["system", "user"]
    assert "Page" in messages[1]["content"]
    with path.open() as stream:
        monkeypatch.setattr("sys.stdin", stream)
        assert seen(capsys, "render", NAME, "latest", "--input", "-") == messages
    plain = seen(capsys, "render", "generate_guidance", "plain")
    assert "<review_findings>" in plain[-1]["content"]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("show", NAME, "v1"), "no such program; `programs list validate_intent` shows the versions"),
        (("show", "generate_guidance"), "no such program"),
        (("show", "nope"), "unknown signature nope"),
        (("list", "nope"), "unknown signature nope"),
        (("render", NAME, "plain", "--input", "{tmp}/none"), "cannot be read"),
        (("render", NAME, "plain", "--input", "{tmp}/list"), "expected an object of inputs by name, found list"),
        (("render", NAME, "plain", "--input", "{tmp}/empty"), "takes exactly user_intent"),
    ],
)
def test_what_cannot_be_shown_is_told(command: tuple[str, ...], expected: str, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("[]")
    (tmp_path / "empty").write_text("{}")
    with pytest.raises(BadInputError, match=expected):
        main(["programs", *(part.format(tmp=tmp_path) for part in command)])
