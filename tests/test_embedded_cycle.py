"""MIPROv2 for real, on the model that comes with the system; its answers are the same on one machine only."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest
from tests.flywheel.test_search import assigned
from tests.repositories import NAMES, build_shop
from tests.searching import SIGNATURE

from flywheel.base.programs import read_program
from flywheel.base.progress import open_progress
from flywheel.learning.assignment import baseline_of
from flywheel.learning.choice import EMBEDDED, ModelChoice
from flywheel.learning.expense import Allowance
from flywheel.learning.ledger import Ledger, read_calls
from flywheel.learning.lm import open_model
from flywheel.learning.search import search
from flywheel.learning.session import UNCHANGED, Session
from flywheel.learning.trials import Settings
from flywheel.learning.verdict import Rule
from optimization_orchestrator import main

if TYPE_CHECKING:
    from pathlib import Path

ONE = "validate_completeness"
ASKED = {"collected_data", "validated_data", "quality_reports", "optimization_results"}


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_cycle_runs_on_the_embedded_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, name in (
        ("TRAINING_DATA_DIR", "data"),
        ("OPTIMIZED_MODULES_DIR", "programs"),
        ("OUTPUT_DIR", "runs"),
    ):
        monkeypatch.setenv(variable, str(tmp_path / name))
    for name in ("ANTHROPIC_API_KEY", "FLYWHEEL_MODEL", "FLYWHEEL_API_BASE"):
        monkeypatch.delenv(name, raising=False)
    shop = build_shop(tmp_path / "shop", NAMES[:4])
    flags = ["--git-target", "4", "--synthetic-target", "12", "--trials", "2", "--candidates", "3", "--demos", "1"]
    where = ["--repo-path", str(shop), "--signatures", ONE, "--no-strict", "--allow-synthetic-test"]
    assert main([*where, *flags]) == 0
    (run,) = (tmp_path / "runs").glob("run_*")
    summary = json.loads((run / "orchestration_summary.json").read_text())
    assert summary["success"] is True
    assert summary["config"]["model"] == EMBEDDED
    assert {path.name for path in run.iterdir()} >= ASKED
    result = summary["signatures"][ONE]
    assert result["verdict"] in {"deploy", "reject", "inconclusive", None}
    assert 0 <= result["baseline_score"] <= 1
    assert 0 <= result["optimized_score"] <= 1
    assert result["improvement_ci"][0] <= result["improvement_percent"] <= result["improvement_ci"][1]
    assert result["trials"] == 2
    assert result["cost_usd"] == 0
    assert result["deployed"] == (result["verdict"] == "deploy")
    recorded = list(read_calls(run / "calls.jsonl"))
    # A search that found nothing better leaves the baseline, which is not asked twice.
    unchanged = result["verdict_reason"].startswith(UNCHANGED)
    tested = {
        "test-baseline",
        "test-floor",
        "val-baseline",
        *(() if unchanged else ("test-candidate", "val-candidate")),
    }
    assert {call.stage for call in recorded} == {"preflight", "bootstrap", "proposal", "search", *tested}
    calls = [call for call in recorded if not call.cached and call.stage != "preflight"]
    assert len(calls) == result["lm_calls"] > 20
    answered = [call for call in calls if call.error is None]
    assert len(answered) >= 0.9 * len(calls), "the schema keeps a weak model's answers readable"
    path = run / "optimization_results" / ONE / "program.json"
    assert path.exists() == (not unchanged)
    if not unchanged:
        program = read_program(path, ONE)
        assert program.model == EMBEDDED
        assert program.model_parameters["threads"] >= 1


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_gepa_has_the_embedded_model_rewrite_its_own_instructions(tmp_path: Path) -> None:
    settings = Settings(optimizers=("gepa",), trials=1, threads=1, plateau_trials=0)
    with Ledger(tmp_path / "calls.jsonl") as ledger:
        model = open_model(
            ModelChoice(EMBEDDED, "test"), ledger.account(SIGNATURE.name), cache_folder=tmp_path / "cache"
        )
        own = Session(
            model, settings, Rule(), Allowance(), open_progress(), io.StringIO(), "run_x", folder=tmp_path / "r"
        )
        assignment = assigned(tmp_path, train=3, val=3, test=1)
        found = search(baseline_of(assignment)[1], assignment, own)
    assert found.searched.ended == "all trials were run"
    assert [trial.number for trial in found.trials] == [1]
    calls = [call for call in read_calls(tmp_path / "calls.jsonl") if not call.cached]
    assert not [call.error for call in calls if call.error is not None]
    (proposal,) = [call for call in calls if call.stage == "proposal"]
    # It reads what was wrong with three examples, and writes a text.
    assert proposal.input_tokens > 3 * max(call.input_tokens for call in calls if call.stage == "search") / 2
    assert proposal.output_tokens > 1
