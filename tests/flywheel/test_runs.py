from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from flywheel.base.errors import BadInputError, DamagedError
from flywheel.ops.journal import RunJournal, new_run_folder
from flywheel.ops.runs import FOLDERS, SUMMARY, GateOutcome, RunSummary, SignatureResult

if TYPE_CHECKING:
    from pathlib import Path

MOMENT = datetime(2025, 11, 4, 12, 0, tzinfo=UTC)
CONTRACT = """collected target validated rejected duplicates quality_gates dataset_version model baseline_score
optimized_score improvement_percent improvement_ci p_value minimum_detectable_percent n_test n_failed verdict deployed
module_path lm_calls cached_calls tokens cost_usd seconds n_test_by_source cost_delta latency_delta_ms""".split()
FINITE = st.none() | st.floats(allow_nan=False, allow_infinity=False)
RESULTS = st.builds(
    SignatureResult,
    collected=st.integers(0),
    rejected=st.dictionaries(st.text(), st.integers(0), max_size=3),
    quality_gates=st.none()
    | st.builds(
        GateOutcome,
        verdict=st.sampled_from(["accept", "warn", "reject"]),
        reasons=st.lists(st.text(), max_size=2),
        strict_verdict=st.sampled_from(["accept", "warn", "reject"]),
    ),
    baseline_score=FINITE,
    improvement_ci=st.none() | st.tuples(st.floats(-100, 0), st.floats(0, 100)),
    verdict=st.sampled_from([None, "deploy", "reject", "inconclusive"]),
    deployed=st.booleans(),
)


def begin(tmp_path: Path) -> RunJournal:
    return RunJournal.begin(tmp_path / "runs", MOMENT, {"trials": 5}, ["validate_intent", "generate_guidance"])


@given(
    st.builds(
        RunSummary,
        run_id=st.text(),
        start_time=st.text(),
        end_time=st.none() | st.text(),
        success=st.booleans(),
        error=st.none() | st.text(),
        config=st.dictionaries(st.text(), st.integers() | st.lists(st.text(), max_size=2), max_size=3),
        signatures=st.dictionaries(st.text(), RESULTS, max_size=3),
    )
)
def test_a_summary_round_trips(summary: RunSummary) -> None:
    assert RunSummary.model_validate(json.loads(json.dumps(summary.model_dump(mode="json")))) == summary


def test_the_file_has_the_contracts_keys_indented_by_two(tmp_path: Path) -> None:
    journal = begin(tmp_path)
    text = (journal.folder / SUMMARY).read_text()
    value = json.loads(text)
    assert text == json.dumps(value, indent=2) + "\n"
    contract = {"run_id", "start_time", "end_time", "success", "error", "config", "signatures"}
    assert value.keys() == contract | {"spend", "resumed_at"}
    assert set(CONTRACT) <= value["signatures"]["validate_intent"].keys()
    assert value["start_time"] == "2025-11-04T12:00:00+00:00"


def test_a_run_folder_has_its_subfolders_and_an_id_of_its_own(tmp_path: Path) -> None:
    first, second = (new_run_folder(tmp_path / "runs", MOMENT) for _ in range(2))
    assert [first.name, second.name] == ["run_20251104_120000", "run_20251104_120001"]
    assert {path.name for path in first.iterdir()} == set(FOLDERS)
    assert all(path.stat().st_mode & 0o777 == 0o700 for path in (first.parent, first, *first.iterdir()))


def test_a_run_folder_where_none_can_be_is_the_users_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInputError, match="file: exists and is no folder"):
        new_run_folder(tmp_path / "file", MOMENT)


def test_a_killed_run_leaves_what_it_knew_and_claims_nothing(tmp_path: Path) -> None:
    journal = begin(tmp_path)
    journal.learned("validate_intent", {"collected": 7, "baseline_score": 0.5})
    summary = RunSummary.read(journal.folder)
    assert (summary.success, summary.end_time) == (False, None)
    assert summary.signatures["validate_intent"].collected == 7
    assert summary.signatures["generate_guidance"] == SignatureResult()


@pytest.mark.parametrize(
    ("facts", "broken_off", "success"),
    [({"baseline_score": 0.0}, None, True), ({"baseline_score": 0.5}, "terminated", False), ({}, None, False)],
)
def test_success_needs_an_evaluated_signature_and_no_crash(
    tmp_path: Path, facts: dict[str, Any], broken_off: str | None, *, success: bool
) -> None:
    journal = begin(tmp_path)
    journal.learned("validate_intent", facts)
    summary = journal.summary(ended=True, broken_off=broken_off)
    assert (summary.success, summary.error) == (success, broken_off)
    assert summary.end_time is not None


def test_a_fact_that_no_reader_knows_is_a_bug_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="no_such_fact"):
        begin(tmp_path).learned("validate_intent", {"no_such_fact": 1})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected a run summary"),
        ("[]", "expected a run summary, found list"),
        ("{}", "run_id: Field required"),
        (None, r"signatures\.validate_intent\.verdict: Input should be"),
    ],
)
def test_a_damaged_summary_names_file_and_place(tmp_path: Path, content: str | None, message: str) -> None:
    path = begin(tmp_path).folder / SUMMARY
    value = json.loads(path.read_text())
    value["signatures"]["validate_intent"]["verdict"] = "maybe"
    path.write_text(json.dumps(value) if content is None else content)
    with pytest.raises(DamagedError, match=rf"orchestration_summary\.json.*{message}"):
        RunSummary.read(path.parent)


def test_no_summary_is_not_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="cannot be read: No such file"):
        RunSummary.read(tmp_path)
