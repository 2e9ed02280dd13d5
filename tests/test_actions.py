"""What findings, alert rules and `doctor` tell people to do names commands and flags that exist."""

from __future__ import annotations

import ast
import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.monitored import NOW
from tests.scene import populate
from tests.test_readme import help_of

from flywheel.ops.checks import check_all
from flywheel.ops.config import MonitoringConfig
from flywheel.ops.findings import RUN_IN, steps
from flywheel.ops.observed import Places
from flywheel.ops.reading import observe

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
OPS = ROOT / "data_collection" / "flywheel" / "ops"
RULES = ROOT / "deploy" / "prometheus" / "flywheel.rules.yml"
SCRIPT = re.compile(r"python (\w+\.py)((?: [\w{}.$-]+)*)|(?<!\w)\./([\w/]+\.sh)")


def texts(path: Path) -> Iterator[str]:
    """Every text in a module (with `{}` for what is filled in), or every action of the rules."""
    if path.suffix == ".yml":
        yield from (line for line in path.read_text().splitlines() if line.strip().startswith("action:"))
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.mark.parametrize("path", [*sorted(OPS.glob("*.py")), RULES], ids=lambda path: path.name)
def test_every_command_that_is_recommended_exists(path: Path) -> None:
    for script, words, job in (match.groups() for text in texts(path) for match in SCRIPT.finditer(text)):
        assert (RUN_IN / (script or job)).is_file(), script or job
        if not script:
            continue
        given = words.split()
        command = [word for word in given[:1] if not word.startswith("-")]
        known = help_of(str(RUN_IN / script), *command)
        for flag in (word for word in given if word.startswith("--")):
            assert re.search(rf"(?<![\w-]){flag}(?![\w-])", known), f"{script} {words} has no {flag}"


def test_a_busy_years_findings_say_what_to_do_and_where(tmp_path: Path) -> None:
    populate(tmp_path, NOW)
    (tmp_path / "experiments" / "experiment_torn.json").write_text("{")
    places = Places(*(tmp_path / name for name in ("runs", "experiments", "data", "programs", "telemetry")))
    found = check_all(observe(places), MonitoringConfig(), NOW + timedelta(days=90), NOW)
    assert len({finding.check for finding in found}) >= 10
    for finding in found:
        assert finding.details["run_in"] == str(RUN_IN)
        told = steps(finding.action)
        assert all(step.strip() == step != "" for step, _ in told)
        # A command is nothing but one: a word of explanation would be an argument.
        assert not any(re.search(r" (then|and|or|else|tells|repeats)( |$)", step) for step, command in told if command)
