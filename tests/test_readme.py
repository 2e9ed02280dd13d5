"""The manuals are a contract: every script, command, flag and make target that they name exists."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "data_collection"
MANUALS = [path for path in (ROOT / "README.md", SCRIPTS / "README.md") if path.is_file()]
BLOCK = re.compile(r"^```(?:sh|bash)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"([\w/]+\.py)((?:[ \t]+[^\s#|;&]+)*)")
NAMED = re.compile(r"`([\w/]+\.(?:py|sh))`|\b(\w+\.(?:py|sh))\b")
MAKE = re.compile(r"^\s*make ([\w-]+)|`make ([\w-]+)", re.MULTILINE)


def blocks(text: str) -> str:
    return "\n".join(match.replace("\\\n", " ") for match in BLOCK.findall(text))


@cache
def help_of(*command: str) -> str:
    environment = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, *command, "--help"], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def commands(manual: Path) -> list[tuple[str, list[str]]]:
    return [(name, rest.split()) for name, rest in COMMAND.findall(blocks(manual.read_text()))]


@pytest.mark.parametrize("manual", MANUALS, ids=lambda path: path.parent.name + "/" + path.name)
def test_every_named_script_exists(manual: Path) -> None:
    names = {Path(a or b).name for a, b in NAMED.findall(manual.read_text())}
    known = {p.name for p in (*ROOT.rglob("*.py"), *ROOT.rglob("*.sh")) if ".venv" not in p.parts}
    assert names - {"my_signatures.py"} <= known
    assert names


@pytest.mark.parametrize("manual", MANUALS, ids=lambda path: path.parent.name + "/" + path.name)
def test_every_command_and_flag_exists(manual: Path) -> None:
    found = 0
    for name, words in commands(manual):
        script = SCRIPTS / Path(name).name
        if not script.is_file():
            continue
        text = help_of(str(script))
        if words and re.fullmatch(r"[a-z][\w-]*", words[0]):
            text = help_of(str(script), words[0])
            if "VIEW ..." in text:
                text = help_of(str(script), *words[:2])
        elif "COMMAND" in text and words:
            text = help_of(str(script), "create")
        for flag in (word.split("=")[0] for word in words if word.startswith("--")):
            assert re.search(rf"(?<![\w-]){flag}(?![\w-])", text), f"{manual.name}: {name} has no {flag}"
            found += 1
    assert found


@pytest.mark.parametrize("manual", MANUALS, ids=lambda path: path.parent.name + "/" + path.name)
def test_every_make_target_exists(manual: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {a or b for a, b in MAKE.findall(manual.read_text())}
    assert named <= targets


def python_block(word: str) -> str:
    """The README's Python block that holds `word`."""
    found = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    block: str = next(text for text in found if word in text)
    return block


def test_the_readmes_service_writes_a_record(tmp_path: Path) -> None:
    code = python_block("Recorder()")
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS), "TELEMETRY_DIR": str(tmp_path / "telemetry")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "telemetry").glob("*.jsonl")
    record = json.loads(path.read_text())
    assert (record["signature"], record["unit_id"], record["success"]) == ("extract_requirements", "user-42", True)


def test_the_readmes_own_signature_collects_examples(tmp_path: Path) -> None:
    code = python_block("SIGNATURES")
    signature_file = tmp_path / "my_signatures.py"
    signature_file.write_text(code)
    signature_file.chmod(0o600)
    script = SCRIPTS / "synthetic_data_generator.py"
    flags = [
        "--signature-file",
        str(signature_file),
        "--signatures",
        "title_request",
        "--output",
        str(tmp_path / "out"),
    ]
    done = subprocess.run([sys.executable, str(script), *flags], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    examples = json.loads((tmp_path / "out" / "title_request.json").read_text())
    assert len(examples) >= 20
    assert examples[0]["inputs"].keys() == {"request"}


def test_every_script_stands_in_the_operators_manual() -> None:
    manual = (SCRIPTS / "README.md").read_text()
    assert {path.name for path in SCRIPTS.glob("*.py")} <= set(re.findall(r"\w+\.py", manual))
