"""Every script starts light, helps, and answers bad input with one line; scripts and commands are found, not listed."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flywheel.data.signatures import BUILT_IN

SCRIPTS = Path(__file__).resolve().parents[1] / "data_collection"
NAMES = sorted(path.stem for path in SCRIPTS.glob("*.py"))
HEAVY = {
    "dspy",
    "litellm",
    "anthropic",
    "numpy",
    "pydantic",
    "git",
    "requests",
    "rich",
    "rapidfuzz",
    "jinja2",
    "optuna",
}
KNOWN = ", ".join(signature.name for signature in BUILT_IN)


def parser_of(name: str) -> argparse.ArgumentParser:
    parser = importlib.import_module(name).build_parser()
    assert isinstance(parser, argparse.ArgumentParser)
    return parser


def commands() -> list[tuple[str, ...]]:
    """Each script, and each script with each of its subcommands."""
    found: list[tuple[str, ...]] = []
    for name in NAMES:
        found.append((name,))
        for action in parser_of(name)._actions:
            if isinstance(action, argparse._SubParsersAction):
                found += [(name, command) for command in action.choices]
    return found


def start(*command: object, options: tuple[str, ...] = (), **environment: str) -> subprocess.CompletedProcess[str]:
    script, *arguments = map(str, command)
    return subprocess.run(
        [sys.executable, *options, str(SCRIPTS / f"{script}.py"), *arguments],
        env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def refusal(*command: object, signatures: str = "") -> str:
    """The one line on stderr of a script that refuses its input."""
    done = start(*command, FLYWHEEL_SIGNATURES=signatures)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    return done.stderr.strip()


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_help_is_there_and_light(command: tuple[str, ...]) -> None:
    done = start(*command, "--help", options=("-X", "importtime"), COLUMNS="100")
    assert done.returncode == 0
    assert done.stdout.startswith("usage: ")
    imported = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert "argparse" in imported
    assert not imported & HEAVY


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_an_unknown_flag_is_usage(command: tuple[str, ...]) -> None:
    done = start(*command, "--no-such-flag")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert line.endswith("--help)")


@pytest.fixture(name="examples")
def examples_fixture(tmp_path: Path) -> Path:
    """A folder with one sound example."""
    item = {
        "inputs": {"user_intent": "Let clients page through the bookings", "context": ""},
        "outputs": {"requirements": ["Return at most twenty bookings"], "priorities": [6]},
    }
    folder = tmp_path / "examples"
    folder.mkdir()
    (folder / "extract_requirements.json").write_text(json.dumps([item]))
    return folder


def test_an_unknown_signature_lists_the_known(examples: Path, tmp_path: Path) -> None:
    expected = f"error: unknown signature nope; known: {KNOWN}"
    out = tmp_path / "out"
    assert refusal("data_validator", "--input", examples, "--output", out, "--signatures", "nope") == expected
    assert refusal("quality_gates", "--input", examples, "--signature", "nope") == expected
    assert refusal("synthetic_data_generator", "--output", out, "--signatures", "nope") == expected
    store = ("--examples", examples, "--source", "git")
    for command in (("create", *store), ("add", *store), ("list",), ("load",)):
        assert refusal("dataset_manager", *command, "--signature", "nope", "--data-dir", out) == expected
    assert not out.exists()


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    none = tmp_path / "none"
    expected = f"error: {none}: no such file or folder"
    assert refusal("data_validator", "--input", none, "--output", tmp_path / "out") == expected
    assert refusal("quality_gates", "--input", none) == expected
    command = ("--signature", "validate_intent", "--examples", none, "--source", "git", "--data-dir", tmp_path / "data")
    assert refusal("dataset_manager", "create", *command) == expected


def test_garbled_json_names_file_line_and_what_was_expected(examples: Path, tmp_path: Path) -> None:
    path = examples / "extract_requirements.json"
    path.write_text('[\n {"inputs": {},\n  "outputs"\n]')
    expected = f"error: {path}, line 4: not JSON (Expecting ':' delimiter); "
    expected += "expected a JSON array of examples {inputs, outputs, metadata}"
    assert refusal("data_validator", "--input", examples, "--output", tmp_path / "out") == expected
    assert refusal("quality_gates", "--input", examples) == expected
    command = ("--signature", "extract_requirements", "--examples", path, "--source", "git")
    assert refusal("dataset_manager", "add", *command, "--data-dir", tmp_path / "data") == expected


@pytest.mark.parametrize("where", ["file", "file/below", "link"])
def test_an_output_folder_that_cannot_be_is_named(examples: Path, tmp_path: Path, where: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(examples)
    output = tmp_path / where
    for command in (
        ("data_validator", "--input", examples, "--output", output),
        ("synthetic_data_generator", "--target", 1, "--signatures", "validate_intent", "--output", output),
        (
            "dataset_manager", "create", "--signature", "extract_requirements", "--examples", examples, "--source",
            "git", "--data-dir", output,
        ),
    ):  # fmt: skip
        assert str(output) in refusal(*command).split(": ")
    assert len(list(examples.iterdir())) == 1


def test_an_output_file_that_cannot_be_replaced_is_named(examples: Path, tmp_path: Path) -> None:
    taken = tmp_path / "out/extract_requirements.json"
    taken.mkdir(parents=True)
    found = refusal("data_validator", "--input", examples, "--output", tmp_path / "out")
    assert found == f"error: {taken}: Is a directory"
    report = tmp_path / "none/report.json"
    done = start("quality_gates", "--input", examples, "--report", report)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == f"error: {report}: No such file or directory"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("synthetic_data_generator", "--output", "x", "--target", "0"), "argument --target: '0': must be at least 1"),
        (
            ("synthetic_data_generator", "--output", "x", "--target", "ten"),
            "argument --target: 'ten': not a whole number",
        ),
        (("data_validator", "--input", "x"), "the following arguments are required: --output"),
        (("quality_gates",), "the following arguments are required: --input"),
        (("dataset_manager", "load"), "the following arguments are required: --signature"),
        (
            ("dataset_manager", "--signature", "s", "--examples", "e", "--source", "g", "--split", "50/50/50"),
            "argument --split: '50/50/50': expected three percentages above 0 that sum to 100, such as 25/25/50",
        ),
    ],
)
def test_flags_out_of_range_are_told_in_one_line(command: tuple[str, ...], message: str) -> None:
    done = start(*command)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {message} (see ")
    assert "Traceback" not in done.stderr


def test_a_broken_signature_file_is_told_before_anything_is_done(examples: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("\n\nraise RuntimeError('half\\nbaked')\n")
    path.chmod(0o600)
    expected = f"error: {path}, line 3: cannot be run: RuntimeError: half baked"
    out = tmp_path / "out"
    for command in (
        ("data_validator", "--input", examples, "--output", out),
        ("quality_gates", "--input", examples),
        ("synthetic_data_generator", "--output", out),
        ("dataset_manager", "list", "--signature", "validate_intent", "--data-dir", out),
    ):
        assert refusal(*command, "--signature-file", path) == expected
        assert refusal(*command, signatures=str(path)) == expected
    assert not out.exists()


def test_an_empty_data_folder_flag_is_not_the_working_directory() -> None:
    found = refusal("dataset_manager", "list", "--signature", "validate_intent", "--data-dir", "")
    assert found.startswith("error: empty path given for the folder of versioned datasets")
