"""`--predict`: what stored datasets and earlier runs say of the next run, for nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from tests.flywheel.test_report import evaluation_with

from flywheel.data.additions import add_examples
from flywheel.data.examples import Example
from flywheel.data.publishing import Batch
from flywheel.data.signatures import BUILT_IN
from flywheel.data.store import load
from flywheel.ops.journal import RunJournal
from flywheel.ops.runs import RESULTS
from optimization_orchestrator import main

if TYPE_CHECKING:
    from pathlib import Path

ONE = "validate_completeness"
MOMENT = datetime(2025, 11, 4, 12, 0, tzinfo=UTC)
MODEL = "openai/some"


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("ANTHROPIC_API_KEY", "FLYWHEEL_MODEL", "FLYWHEEL_API_BASE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def command(places: Path, *more: str) -> list[str]:
    folders = ["--output-dir", str(places / "runs"), "--data-dir", str(places / "data")]
    return ["--predict", "--model", MODEL, *folders, *more]


def store(places: Path, count: int) -> list[str]:
    """A dataset of so many examples; the ids of its test split."""
    signature = next(s for s in BUILT_IN if s.name == ONE)
    rows = [
        Example.model_validate(
            {
                "inputs": {
                    "implementation": " ".join(f"{word}{n}" for word in "abcdefghij"),
                    "requirements": [f"r{n}"],
                },
                "outputs": {"is_complete": n % 2 == 0, "missing_requirements": [], "explanation": "All is there now."},
                "metadata": {"source": "git", "difficulty": "easy", "category": "x", "group": f"g{n}"},
            }
        )
        for n in range(count)
    ]
    add_examples(places / "data", signature, rows, Batch("git", "", MOMENT), onto_latest=False)
    return [example.id or "" for example in load(places / "data", ONE)[1] if example.split == "test"]


def ran(places: Path, test: list[str], gained: int) -> None:
    """An earlier run in which the candidate won so many of the test examples."""
    baseline, share = 0.4, gained / len(test)
    percent = 100 * share / baseline
    facts: dict[str, Any] = {
        "baseline_score": baseline, "optimized_score": baseline + share, "model": MODEL, "tests": 1,
        "improvement_percent": percent, "improvement_ci": (percent / 2, percent * 1.5),
    }  # fmt: skip
    journal = RunJournal.begin(places / "runs", MOMENT, {"min_improvement": 5.0}, [ONE])
    journal.facts[ONE] = facts
    journal.summary(ended=True).write(journal.folder)
    rows = [{"id": name, "baseline": 0.0, "optimized": float(n < gained)} for n, name in enumerate(test)]
    (journal.folder / RESULTS / ONE).mkdir()
    evaluation_with([50.0], test=rows).write(journal.folder / RESULTS / ONE)


def test_it_tells_of_every_signature_and_writes_nothing(places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    test = store(places, 60)
    ran(places, test, len(test) // 5)
    before = sorted(path for path in places.rglob("*"))
    assert main(command(places)) == 0
    out, err = capsys.readouterr()
    found = {row["signature"]: row for row in json.loads(out)}
    assert found.keys() == {signature.name for signature in BUILT_IN}
    one, none = found[ONE], found["generate_guidance"]
    assert (one["test"], one["test_groups"], one["runs"]) == (len(test), len(test), 1)
    assert one["variance_examples"] == len(test)
    assert one["discordance"] == pytest.approx(len(test) // 5 / len(test))
    assert one["baseline_score"] == pytest.approx(0.4)
    assert 0 < one["expected_points"] < 20
    assert 0 < one["chance"] < 1
    assert one["detects"] is False
    assert one["examples_needed"] > len(test)
    assert (none["test"], none["detectable_points"], none["expected_points"]) == (0, None, None)
    assert "no test examples, nothing can be told; about 893 would tell a 5 % gain (at most 5.0 points)" in err
    assert "generate_guidance: " in err
    assert "expected improvement: no history" in err
    assert sorted(path for path in places.rglob("*")) == before


def test_another_minimum_is_another_question(places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    test = store(places, 60)
    ran(places, test, len(test) // 5)
    assert main(command(places, "--signatures", ONE, "--min-improvement", "90")) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["wanted_points"] == pytest.approx(36.0)
    assert row["detects"] is True


def test_a_run_that_cannot_be_read_is_told_and_left_out(places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    test = store(places, 60)
    for _ in range(2):
        ran(places, test, 6)
    first, second = sorted((places / "runs").glob("run_*"))
    (first / "orchestration_summary.json").write_text("{")
    (second / RESULTS / ONE / "evaluation.json").write_text("[]")
    assert main(command(places, "--signatures", ONE)) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)[0]["runs"] == 0
    assert err.count("left out of the forecast") == 2
