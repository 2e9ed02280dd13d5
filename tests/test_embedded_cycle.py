"""MIPROv2 for real, on the model that comes with the system; its answers are the same on one machine only."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tests.repositories import NAMES, build_shop

from flywheel.base.programs import read_program
from flywheel.learning.choice import EMBEDDED
from flywheel.learning.ledger import read_calls
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
    # A search that found nothing better leaves the baseline's prompts, and their answers come from the cache.
    tested = {"test-baseline", "test-candidate", "test-floor", "val-baseline", "val-candidate"}
    assert {call.stage for call in recorded} == {"preflight", "bootstrap", "proposal", "search", *tested}
    calls = [call for call in recorded if not call.cached and call.stage != "preflight"]
    assert len(calls) == result["lm_calls"] > 20
    answered = [call for call in calls if call.error is None]
    assert len(answered) >= 0.9 * len(calls), "the schema keeps a weak model's answers readable"
    program = read_program(run / "optimization_results" / ONE / "program.json", ONE)
    assert program.model == EMBEDDED
    assert program.model_parameters["threads"] >= 1
