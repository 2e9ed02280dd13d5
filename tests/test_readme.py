"""The manuals are a contract: every script, command, flag and make target that they name exists.

Blocks marked `sh runnable` run as they are written, in their order, in a project of their own.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from datetime import timedelta
from functools import cache
from pathlib import Path

import pytest
from tests.crontabs import Crontab
from tests.monitored import envelope, write_run
from tests.repositories import build_shop

from flywheel.base.clock import now
from flywheel.base.programs import deploy, publish

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "data_collection"
MANUALS = [path for path in (ROOT / "README.md", SCRIPTS / "README.md") if path.is_file()]
BLOCK = re.compile(r"^```(?:sh|bash)(?: runnable)?\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"([\w/]+\.py)((?:[ \t]+[^\s#|;&]+)*)")
NAMED = re.compile(r"`([\w/]+\.(?:py|sh))`|\b(\w+\.(?:py|sh))\b")
RUNNABLE = re.compile(r"^```sh runnable\n(.*?)^```", re.MULTILINE | re.DOTALL)
MADE_BY_THE_SYSTEM = ("__pycache__", "monitoring_config.json")
# Newer examples, and a rollback that is to be told.
BEFORE = """
python synthetic_data_generator.py --target 30 --seed 99 --output /tmp/new_examples
python ab_testing_framework.py start --signature validate_intent --baseline old.json --candidate new.json \
  --experiment-id intent_v1
python ab_testing_framework.py rollback --experiment-id intent_v1 --reason "High error rate"
"""
FEWEST = {"README.md": 2, "data_collection/README.md": 19}
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


class Project:
    """A repository with the scripts in it, and what the manuals take for granted: a user's files, a year of work."""

    def __init__(self, root: Path) -> None:
        self.root = build_shop(root / "project")
        self.tmp = root / "tmp"
        self.tmp.mkdir()
        scripts = self.root / "data_collection"
        ignore = shutil.ignore_patterns(*MADE_BY_THE_SYSTEM)
        shutil.copytree(ROOT / "data_collection", scripts, ignore=ignore, symlinks=True)
        for name in ("reviewer_baseline.json", "reviewer_optimized_v1.json", "old.json", "new.json"):
            (scripts / name).write_text("{}")
        (self.root / "my_signatures.py").write_text(python_block("SIGNATURES"))
        (self.root / "my_signatures.py").chmod(0o600)
        write_run(self.tmp / "optimization_runs", now() - timedelta(days=3), verdict="deploy", improvement_percent=8.0)
        path = publish(self.root / "optimized_modules", envelope("validate_intent"), now())
        deploy(self.root / "optimized_modules", "validate_intent", path.parent.name)
        self.environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(root),
            "UV_PROJECT_ENVIRONMENT": sys.prefix, "LOG_DIR": str(self.tmp),
            "OUTPUT_DIR": f"{self.tmp}/optimization_runs", "TELEMETRY_DIR": f"{self.tmp}/dspy_telemetry",
            "ALERT_DIR": f"{self.tmp}/dspy_alerts",
        }  # fmt: skip
        self.run(scripts, BEFORE)

    def run(self, folder: Path, block: str) -> None:
        """Run a block as bash does that stops at the first failure; what it leaves in the background ends with it."""
        # The block's /tmp is this test's, and its environment the one that these tests run in.
        text = block.replace("/tmp/", f"{self.tmp}/").replace("uv run python", "python")  # noqa: S108
        log = self.tmp.with_name("log")
        with log.open("w") as stream:
            process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", text], cwd=folder, env=self.environment, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
            )  # fmt: skip
            try:
                code = process.wait(120)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        assert code == 0, f"{block}\n{log.read_text()[-4000:]}"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    (tmp_path / "cron").mkdir()
    Crontab(tmp_path / "cron", monkeypatch)
    return Project(tmp_path)


@pytest.mark.parametrize("name", ["README.md", pytest.param("data_collection/README.md", marks=pytest.mark.slow)])
def test_every_block_marked_runnable_runs_as_it_is_written(project: Project, name: str) -> None:
    blocks = RUNNABLE.findall((ROOT / name).read_text())
    assert len(blocks) >= FEWEST[name]
    for block in blocks:
        project.run((project.root / name).parent, block)
