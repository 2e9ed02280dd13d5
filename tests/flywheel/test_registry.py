"""Signature files are code: which of them run, and what a bad one says."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from flywheel.base.errors import BadInputError
from flywheel.base.paths import SIGNATURE_FILES
from flywheel.data.registry import all_signatures, chosen, one
from flywheel.data.scenario import Requirement, Scenario

if TYPE_CHECKING:
    from pathlib import Path

BUILT_IN = [
    "extract_requirements",
    "validate_intent",
    "validate_completeness",
    "validate_correctness",
    "generate_guidance",
]


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SIGNATURE_FILES, raising=False)


@pytest.fixture(name="sixth")
def sixth_fixture(sixth_signature: Path) -> Path:
    return sixth_signature


def test_without_files_there_are_the_five() -> None:
    assert list(all_signatures()) == BUILT_IN


def test_a_file_adds_its_own_and_its_functions_stay_alive(sixth: Path) -> None:
    table = all_signatures([str(sixth)])
    assert list(table) == [*BUILT_IN, "estimate_size"]
    scenario = Scenario("git", "g", "api", "easy", "wish", requirements=(Requirement("x", "security"),))
    projected = table["estimate_size"].project(scenario)
    assert projected is not None
    assert projected[1] == {"size": "small", "urgent": True, "hours": 1.5, "reasons": []}


def test_the_environment_adds_files_too_and_the_same_one_twice_is_one(
    sixth: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SIGNATURE_FILES, f"{sixth}{os.pathsep}{os.pathsep}")
    assert "estimate_size" in all_signatures()
    monkeypatch.chdir(sixth.parent)
    assert list(all_signatures([sixth.name, str(sixth)])) == [*BUILT_IN, "estimate_size"]


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_not_run(sixth: Path, mode: int) -> None:
    sixth.write_text("raise SystemExit('was run')")
    sixth.chmod(mode)
    with pytest.raises(BadInputError, match=r"my_signatures\.py: writable by others.*chmod go-w"):
        all_signatures([str(sixth)])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_is_not_run(sixth: Path) -> None:
    sixth.write_text("raise SystemExit('was run')")
    os.chown(sixth, 65534, -1)
    with pytest.raises(BadInputError, match=r"belongs to another user \(uid 65534\)"):
        all_signatures([str(sixth)])


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("x = 1\ndef broken(:\n", r"cannot be run: SyntaxError: .*line 2"),
        ("import no_such_module", "line 1: cannot be run: ModuleNotFoundError"),
        ("x = 1\ny = {}['k']", "line 2: cannot be run: KeyError"),
        ("1 / 0", "line 1: cannot be run: ZeroDivisionError"),
        ("raise SystemExit(0)", "line 1: cannot be run: SystemExit: 0"),
        ("assert False, 'no'", "line 1: cannot be run: AssertionError: no"),
        ("open('/proc/none/such')", "line 1: cannot be run: FileNotFoundError"),
        (
            "from flywheel.data.signatures import *\nField('A B', 'str', 'x')",
            "line 2: cannot be run: ValueError: field",
        ),
        ("from flywheel.data.signatures import *\nGate(tolerance=10)", "line 2: cannot be run: ValueError: gate"),
        ("def f():\n    return f()\nf()", "cannot be run: RecursionError"),
        ("", "must define SIGNATURES"),
        ("SIGNATURES = 5", "must define SIGNATURES"),
        ("SIGNATURES = ['extract_requirements']", "must define SIGNATURES"),
        ("\0", "cannot be run: "),
    ],
)
def test_a_broken_file_is_the_users_error_with_its_place(sixth: Path, code: str, message: str) -> None:
    sixth.write_text(code)
    with pytest.raises(BadInputError, match=message) as caught:
        all_signatures([str(sixth)])
    assert str(caught.value).startswith(str(sixth))


def test_a_file_that_is_not_there_or_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"none\.py: cannot be read: No such file"):
        all_signatures([str(tmp_path / "none.py")])
    with pytest.raises(BadInputError, match="not a file"):
        all_signatures([str(tmp_path)])


def test_a_name_twice_is_refused(sixth: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.py"
    again.write_text(sixth.read_text())
    again.chmod(0o600)
    with pytest.raises(BadInputError, match=r"again\.py: signature estimate_size exists already"):
        all_signatures([str(sixth), str(again)])
    sixth.write_text(sixth.read_text().replace('"estimate_size"', '"validate_intent"'))
    with pytest.raises(BadInputError, match="signature validate_intent exists already"):
        all_signatures([str(sixth)])


def test_choosing_keeps_the_order_asked_for_and_knows_commas() -> None:
    table = all_signatures()
    assert [s.name for s in chosen(table, None)] == BUILT_IN
    assert [s.name for s in chosen(table, ["validate_intent,extract_requirements", "validate_intent"])] == [
        "validate_intent",
        "extract_requirements",
    ]
    assert one(table, "validate_intent").name == "validate_intent"


@pytest.mark.parametrize("asked", [["Validate_Intent"], ["validate_intent", "nope"]])
def test_an_unknown_name_lists_the_known(asked: list[str]) -> None:
    with pytest.raises(BadInputError, match=f"unknown signature {asked[-1]}; known: {', '.join(BUILT_IN)}$"):
        chosen(all_signatures(), asked)


@pytest.mark.parametrize("asked", [[""], [","], [" ", ","]])
def test_naming_none_is_not_naming_all(asked: list[str]) -> None:
    with pytest.raises(BadInputError, match="no signature named; known: extract_requirements, "):
        chosen(all_signatures(), asked)
