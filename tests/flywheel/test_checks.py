from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from rich.console import Console
from tests.monitored import (
    NOW,
    ONE,
    canary,
    envelope,
    experiment,
    rolled_back,
    write_dataset,
    write_experiment,
    write_run,
)

from flywheel.base.files import to_json
from flywheel.base.programs import deploy, publish
from flywheel.ops.checks import check_all
from flywheel.ops.config import MonitoringConfig
from flywheel.ops.dashboard import dashboard_of
from flywheel.ops.incidents import Scope, plan
from flywheel.ops.observed import AREAS, DiskFacts, Observed, Places, RunFacts, SignatureFacts, UndeliveredFacts
from flywheel.ops.orchestration_checks import check_orchestration
from flywheel.ops.page import render_page
from flywheel.ops.prometheus import metrics_text
from flywheel.ops.reading import observe
from flywheel.ops.rollout_checks import automatic_reason
from flywheel.ops.scrub import Scrubber
from flywheel.ops.state import MonitoringState
from flywheel.ops.view import View
from flywheel.ops.watch import screen

if TYPE_CHECKING:
    from flywheel.ops.findings import Finding

DAY = timedelta(days=1)
CONFIG = MonitoringConfig(disk_usage_warning_percent=100, disk_usage_critical_percent=100)


def places(root: Path) -> Places:
    return Places(root / "runs", root / "experiments", root / "data", root / "programs", root / "telemetry")


def findings(root: Path, config: MonitoringConfig = CONFIG, now: datetime = NOW) -> dict[str, Finding]:
    found = check_all(observe(places(root)), config, now, NOW - DAY)
    return {finding.check: finding for finding in found if finding.check != "disk"}


def test_nothing_there_yet_is_nothing_wrong(tmp_path: Path) -> None:
    assert findings(tmp_path) == {}


def test_two_failures_in_a_row_are_an_error_with_the_readmes_words(tmp_path: Path) -> None:
    reason = "Quality gates failed: extract_requirements quality=65.0 < 70.0"
    write_run(tmp_path / "runs", NOW - 3 * DAY)
    write_run(tmp_path / "runs", NOW - 2 * DAY, success=False, error="terminated")
    last = write_run(tmp_path / "runs", NOW - DAY, success=False, error=reason)
    found = findings(tmp_path)["consecutive_failures"]
    assert (found.level, found.title) == ("error", "Orchestration Run Failures")
    assert found.message == "Orchestration has failed 2 consecutive times"
    expected = {"run_id": last.name, "consecutive_failures": 2, "last_error": reason}
    assert expected.items() <= found.details.items()
    assert found.since == NOW - 2 * DAY
    assert found.action.startswith(f"jq . {last}/orchestration_summary.json")


def test_one_failure_or_a_success_after_failures_is_no_alert(tmp_path: Path) -> None:
    write_run(tmp_path / "runs", NOW - 3 * DAY, success=False)
    assert findings(tmp_path) == {}
    write_run(tmp_path / "runs", NOW - 2 * DAY, success=False)
    write_run(tmp_path / "runs", NOW - DAY)
    assert findings(tmp_path) == {}


def test_the_threshold_is_the_configurations(tmp_path: Path) -> None:
    write_run(tmp_path / "runs", NOW - DAY, success=False)
    config = CONFIG.model_copy(update={"orchestration_failure_threshold": 1})
    assert "consecutive_failures" in findings(tmp_path, config)


def test_a_run_under_way_is_no_failure_and_one_that_never_ended_is(tmp_path: Path) -> None:
    write_run(tmp_path / "runs", NOW - 2 * DAY, success=False)
    write_run(tmp_path / "runs", NOW - timedelta(hours=1), success=False, ended=False)
    assert findings(tmp_path) == {}
    later = findings(tmp_path, now=NOW + DAY)["consecutive_failures"]
    assert later.details["last_error"] == "killed before its end"


def test_a_run_that_goes_on_is_under_way_since_then(tmp_path: Path) -> None:
    write_run(tmp_path / "runs", NOW - 4 * DAY, success=False)
    resumed = NOW - timedelta(hours=30), NOW - timedelta(hours=2)
    write_run(tmp_path / "runs", NOW - 3 * DAY, success=False, ended=False, resumed=resumed)
    assert findings(tmp_path) == {}
    later = findings(tmp_path, now=NOW + timedelta(hours=23))["consecutive_failures"]
    assert later.details["last_error"] == "killed before its end"
    assert later.details["consecutive_failures"] == 2


def test_three_months_without_a_better_program_are_stale(tmp_path: Path) -> None:
    write_run(tmp_path / "runs", NOW - 100 * DAY, verdict="deploy")
    for days in (70, 40, 10):
        write_run(tmp_path / "runs", NOW - days * DAY, verdict="reject")
    found = findings(tmp_path)["stale_optimization"]
    assert (found.level, found.details["runs_without_improvement"]) == ("warning", 3)
    assert found.since == NOW - 100 * DAY
    assert "stale_optimization" not in findings(tmp_path, now=NOW - 11 * DAY)


def test_a_month_without_a_run_is_a_missed_cycle(tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs", NOW - 33 * DAY)
    found = findings(tmp_path)["missed_cycle"]
    assert (found.level, found.details["last_run"]) == ("error", run.name)
    assert found.since == NOW - DAY
    assert "missed_cycle" not in findings(tmp_path, now=NOW - 2 * DAY)


def test_a_first_run_that_never_came_is_missed_from_the_first_look_on() -> None:
    late = NOW + 33 * DAY
    (found,) = check_orchestration((), CONFIG, late, NOW)
    assert (found.check, found.details["last_run"]) == ("missed_cycle", None)
    assert not list(check_orchestration((), CONFIG, NOW + 30 * DAY, NOW))


def test_a_deployment_is_told_as_an_event_for_some_days(tmp_path: Path) -> None:
    write_run(tmp_path / "runs", NOW - DAY, verdict="deploy", deployed=True, improvement_percent=12.3)
    found = findings(tmp_path)["deployment"]
    assert (found.level, found.event, found.details["signature"]) == ("info", True, ONE)
    assert "deployment" not in findings(tmp_path, now=NOW + 7 * DAY)


@pytest.mark.parametrize(("cost", "level"), [(7.0, None), (8.5, "warning"), (10.5, "error")])
def test_spend_is_held_against_the_months_budget(tmp_path: Path, cost: float, level: str | None) -> None:
    write_run(tmp_path / "runs", NOW - 10 * DAY, cost_usd=900.0)
    write_run(tmp_path / "runs", NOW - DAY, cost_usd=cost)
    write_run(tmp_path / "runs", NOW - DAY / 2, lm_calls=5, cost_usd=None)
    config = CONFIG.model_copy(update={"monthly_budget_usd": 10.0})
    found = findings(tmp_path, config).get("spend")
    assert (found.level if found is not None else None) == level
    if found is not None:
        assert found.details["results_of_unknown_price"] == 1


@pytest.mark.parametrize(
    ("gains", "falls"),
    [([12, 9, 7, 4, 1], True), ([12, 9, 7, 8, 1], False), ([12, 9, 7], False), ([1, 2, 3, 4, 5], False),
     ([50, 40, 12, 13, 12, 13, 12, 13, 12, 13], False)],
)  # fmt: skip
def test_improvements_that_shrink_from_run_to_run_are_a_trend(tmp_path: Path, gains: list[float], falls: bool) -> None:  # noqa: FBT001
    for number, gain in enumerate(gains):
        started = NOW - (len(gains) - number) * DAY
        write_run(tmp_path / "runs", started, improvement_percent=gain, verdict="deploy")
    found = findings(tmp_path).get("improvement_trend")
    assert (found is not None) == falls
    if found is not None:
        assert (found.level, found.facts["values"]) == ("info", gains)
        assert found.since == NOW - 5 * DAY


def test_a_deployed_program_that_scores_less_and_less_is_a_warning(tmp_path: Path) -> None:
    for number in range(6):
        write_run(tmp_path / "runs", NOW - (6 - number) * DAY, baseline_score=0.8 - number / 50, verdict="deploy")
    found = findings(tmp_path)["score_trend"]
    assert (found.level, found.facts["values"]) == ("warning", [80, 78, 76, 74, 72, 70])


@pytest.mark.parametrize(("step", "falls"), [(1.5, True), (0.2, False)])
def test_quality_that_falls_slowly_is_a_trend_once_it_has_fallen_enough(
    tmp_path: Path,
    step: float,
    falls: bool,  # noqa: FBT001
) -> None:
    for number in range(6):
        write_dataset(
            tmp_path / "data", NOW - (6 - number) * DAY, 80 - step * number, sequence=number, examples=90 + number
        )
    found = findings(tmp_path)
    assert ("quality_trend" in found) == falls
    assert "quality_drop" not in found


LAST_LOOK = {
    "candidate_calls": 400, "baseline_calls": 1200, "error_rate_candidate": 0.02, "error_rate_baseline": 0.02,
    "latency_ms_p95_candidate": 2100.0, "latency_ms_p95_baseline": 1900.0,
}  # fmt: skip


def looked(root: Path, status: str = "running", **figures: object) -> dict[tuple[str, str], Finding]:
    decision = {"figures": {**LAST_LOOK, **figures}, "text": "x"}
    write_experiment(root / "experiments", experiment(status=status, decision=decision))
    config = CONFIG.model_copy(update={"variant_latency_p95_ms": 4000.0})
    found = check_all(observe(places(root)), config, NOW, NOW - DAY)
    return {(f.check, f.facts["variant"]): f for f in found if f.check.startswith("variant")}


def test_variants_that_fail_or_are_slow_are_told(tmp_path: Path) -> None:
    assert looked(tmp_path) == {}
    (failing,) = looked(tmp_path, error_rate_baseline=0.31).items()
    assert failing[0] == ("variant_errors", "baseline")
    assert "31.0% of the baseline's calls fail" in failing[1].message
    assert set(looked(tmp_path, latency_ms_p95_candidate=4100.0)) == {
        ("variant_latency", "candidate"), ("variant_tail", "candidate"),
    }  # fmt: skip
    both = looked(tmp_path, latency_ms_p95_candidate=4100.0, latency_ms_p95_baseline=4100.0)
    assert set(both) == {("variant_latency", "candidate"), ("variant_latency", "baseline")}


def test_each_of_several_candidates_is_looked_at_and_the_baseline_once(tmp_path: Path) -> None:
    arms = {
        "candidate": {"figures": {**LAST_LOOK, "error_rate_baseline": 0.5}},
        "candidate_2": {"figures": {**LAST_LOOK, "error_rate_baseline": 0.5, "error_rate_candidate": 0.4}},
        "candidate_3": {"figures": None},
    }
    decision = {"figures": LAST_LOOK, "text": "x", "arms": arms}
    write_experiment(tmp_path / "experiments", experiment(decision=decision))
    told = [
        (f.check, f.facts["variant"])
        for f in check_all(observe(places(tmp_path)), CONFIG, NOW, NOW)
        if f.facts.get("variant")
    ]
    assert told == [("variant_errors", "baseline"), ("variant_errors", "candidate_2")]


def test_few_calls_say_little_and_an_ended_experiment_nothing(tmp_path: Path) -> None:
    assert looked(tmp_path, candidate_calls=199, error_rate_candidate=1.0) == {}
    assert looked(tmp_path, status="completed", error_rate_candidate=1.0) == {}


@pytest.mark.parametrize("odd", [None, "many", True, 10**400, [1], -1])
def test_figures_that_are_none_are_none(tmp_path: Path, odd: object) -> None:
    assert looked(tmp_path, candidate_calls=odd, baseline_calls=odd, error_rate_candidate=1.0) == {}


REASONS = {
    "error_rate_delta > 0.05": "Error rate increased >5%",
    "latency_delta_ms > 500": "Latency increased >500ms",
    "quality_score < 0.70": "Quality score <70%",
    "metrics_missing": "Metrics missing",
}


@pytest.mark.parametrize(("reason", "prose"), REASONS.items())
def test_a_rollback_of_the_rule_is_told_in_prose(tmp_path: Path, reason: str, prose: str) -> None:
    write_experiment(tmp_path / "experiments", rolled_back(NOW - DAY, reason))
    found = findings(tmp_path)["rollback"]
    assert (found.level, found.title) == ("warning", "A/B Test Rolled Back: Auto-Rollback")
    assert found.message == "Experiment extract_reqs_v2 was rolled back"
    expected = {"experiment_id": "extract_reqs_v2", "signature": ONE, "reason": prose, "final_traffic_percent": 25}
    assert expected.items() <= found.details.items()


def test_a_rollback_by_hand_keeps_the_operators_words(tmp_path: Path) -> None:
    write_experiment(tmp_path / "experiments", rolled_back(NOW - DAY, "High error rate", by="operator"))
    found = findings(tmp_path)["rollback"]
    assert found.title == "A/B Test Rolled Back: Manual Rollback"
    assert found.details["reason"] == "High error rate"
    assert "rollback" not in findings(tmp_path, now=NOW + 7 * DAY)
    quiet = CONFIG.model_copy(update={"ab_test_rollback_alert": False})
    assert findings(tmp_path, quiet) == {}


def test_only_the_frameworks_own_words_are_automatic() -> None:
    assert automatic_reason("error_rate_delta > 0.05 or so") is None


def test_a_week_of_running_is_worth_a_note(tmp_path: Path) -> None:
    write_experiment(tmp_path / "experiments", experiment())
    assert findings(tmp_path, now=NOW + 7 * DAY) == {}
    found = findings(tmp_path, now=NOW + 8 * DAY)["long_running"]
    assert (found.level, found.details["days"]) == ("info", 8)


def test_an_experiment_that_its_deadline_paused_is_inconclusive(tmp_path: Path) -> None:
    line = {"at": "2025-11-04T11:00:00+00:00", "event": "paused", "by": "rule", "reason": "inconclusive: too few"}
    write_experiment(tmp_path / "experiments", experiment(status="paused", history=[line]))
    found = findings(tmp_path)["inconclusive"]
    assert (found.level, found.since) == ("warning", NOW - timedelta(hours=1))
    by_hand = {**line, "by": "operator", "reason": "lunch"}
    write_experiment(tmp_path / "experiments", experiment(status="paused", history=[by_hand]))
    assert findings(tmp_path) == {}


@pytest.mark.parametrize(("status", "level"), [("completed", "info"), ("failed", "warning")])
def test_the_end_of_an_experiment_is_an_event(tmp_path: Path, status: str, level: str) -> None:
    write_experiment(tmp_path / "experiments", experiment(status=status, final_status=status))
    found = findings(tmp_path)[status]
    assert (found.level, found.event) == (level, True)


@pytest.mark.parametrize(("latest", "level"), [(71.0, None), (65.8, "warning"), (50.0, "error")])
def test_a_quality_drop_between_versions(tmp_path: Path, latest: float, level: str | None) -> None:
    old = write_dataset(tmp_path / "data", NOW - 30 * DAY, 77.8)
    new = write_dataset(tmp_path / "data", NOW - DAY, latest, sequence=2)
    found = findings(tmp_path).get("quality_drop")
    if level is None:
        assert found is None
        return
    assert found is not None
    assert (found.level, found.title) == (level, "Dataset Quality Degradation")
    drop = round(100 * (77.8 - latest) / 77.8, 1)
    assert found.message == f"Quality score dropped {drop}% for {ONE}"
    facts = {"signature": ONE, "latest_version": new.name, "previous_version": old.name, "drop_percent": drop}
    assert {**facts, "latest_quality": latest, "previous_quality": 77.8}.items() <= found.details.items()


def test_a_dataset_that_shrinks_or_stands_still_is_told(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", NOW - 70 * DAY, 80, examples=100)
    write_dataset(tmp_path / "data", NOW - DAY, 80, examples=90, sequence=2)
    found = findings(tmp_path)
    assert found["shrunk"].details["latest_examples"] == 90
    assert found["not_growing"].since == NOW - 70 * DAY
    write_dataset(tmp_path / "data", NOW, 80, examples=120, sequence=3)
    assert findings(tmp_path) == {}


def test_a_dataset_of_one_source_is_told(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "data", NOW - DAY, 80, examples=100)
    metadata = json.loads((folder / "metadata.json").read_text())
    metadata["statistics"]["sources"] = {"git": 5, "synthetic": 95}
    (folder / "metadata.json").write_text(json.dumps(metadata))
    assert findings(tmp_path)["one_source"].details["share_percent"] == 95.0


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"run_id": 1}', '{"run_id": "r", "start_time": "soon"}', "\x00", "[" * 100_000]
)
@pytest.mark.parametrize("name", ["runs/run_1/orchestration_summary.json", "experiments/experiment_x.json",
                                  "data/s/v1_1/metadata.json"])  # fmt: skip
def test_a_file_that_cannot_be_read_is_critical_and_hides_nothing_else(tmp_path: Path, name: str, content: str) -> None:
    write_run(tmp_path / "runs", NOW - DAY, success=False)
    write_run(tmp_path / "runs", NOW - DAY / 2, success=False)
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    found = findings(tmp_path)
    assert found["unreadable"].level == "critical"
    assert str(path) in found["unreadable"].message
    assert "consecutive_failures" in found


def test_disks_and_folders() -> None:
    disks = (DiskFacts("/a", 91.0, 5.0, writable=True), DiskFacts("/b", 98.0, 1.0, writable=False))
    found = check_all(Observed(disks=disks), MonitoringConfig(), NOW, NOW)
    told = {(finding.check, finding.level, finding.subject) for finding in found}
    assert told == {("disk", "warning", "/a"), ("disk", "critical", "/b"), ("not_writable", "critical", "/b")}


def test_a_channel_that_takes_nothing_for_hours_is_told_by_the_others() -> None:
    def look(hours: float) -> list[tuple[str, str]]:
        waiting = (UndeliveredFacts("email", 3, NOW - timedelta(hours=hours)),)
        found = check_all(Observed(undelivered=waiting), CONFIG, NOW, NOW)
        return [(finding.level, finding.message) for finding in found]

    assert look(5.9) == []
    assert look(6) == [("warning", "Channel email does not take its alerts; 3 wait")]


def test_findings_come_worst_first(tmp_path: Path) -> None:
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "experiment_x.json").write_text("{")
    write_experiment(tmp_path / "experiments", rolled_back(NOW, "x"))
    write_run(tmp_path / "runs", NOW, deployed=True)
    levels = [f.level for f in check_all(observe(places(tmp_path)), CONFIG, NOW, NOW)]
    assert levels == ["critical", "warning", "info"]


def run(number: int, *, success: bool) -> RunFacts:
    started = datetime(2025, 1, 1, tzinfo=UTC) + number * DAY
    facts = SignatureFacts(None, False, None, None, None, None, 0, None)
    return RunFacts(f"run_{number}", started, started, success, None, {ONE: facts}, "/runs")


@given(st.lists(st.booleans(), max_size=12))
def test_the_streak_is_a_function_of_the_runs_alone(outcomes: list[bool]) -> None:
    runs = tuple(run(number, success=outcome) for number, outcome in enumerate(outcomes))
    streak = len(outcomes) - 1 - max((i for i, ok in enumerate(outcomes) if ok), default=-1)

    def look() -> list[Any]:
        found = check_orchestration(runs, CONFIG, datetime(2025, 1, 13, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC))
        return [f.details["consecutive_failures"] for f in found if f.check == "consecutive_failures"]

    assert look() == look() == ([streak] if streak >= 2 else [])


def broken(record: dict[str, Any], data: st.DataObject) -> dict[str, Any]:
    """The record with something else, or nothing, in one place."""
    key = data.draw(st.sampled_from(sorted(record)))
    if isinstance(record[key], list) and record[key] and isinstance(record[key][-1], dict) and data.draw(st.booleans()):
        return {**record, key: [*record[key][:-1], broken(record[key][-1], data)]}
    if isinstance(record[key], dict) and record[key] and data.draw(st.booleans()):
        return {**record, key: broken(record[key], data)}
    if data.draw(st.integers(0, 4)) == 0:
        return {name: value for name, value in record.items() if name != key}
    return {**record, key: data.draw(json_values)}


# A failing file is as telling as the smallest one, which would take minutes to find.
QUICKLY = (Phase.explicit, Phase.reuse, Phase.generate)
texts = st.one_of(
    st.text(max_size=5), st.sampled_from(["\ud800", "9999-12-31T23:59:59+00:00", "0001-01-01", "2025-11-04"])
)
numbers = st.one_of(st.integers(), st.floats(), st.sampled_from([10**400, -1, 0]))
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=100, deadline=None, phases=QUICKLY)
@given(st.data())
def test_whatever_a_file_says_it_is_told_or_read_and_nothing_crashes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("fuzz")
    scored = publish(root / "programs", envelope(), NOW).parent
    deploy(root / "programs", ONE, scored.name)
    canary(NOW, [1.0, None]).append(scored)
    paths = [
        write_run(root / "runs", NOW - DAY, deployed=True, improvement_percent=1.0) / "orchestration_summary.json",
        write_experiment(root / "experiments", rolled_back(NOW, "x")),
        write_dataset(root / "data", NOW, 80.0) / "metadata.json",
        write_experiment(root / "experiments", experiment("live", decision={"figures": LAST_LOOK, "text": "x"})),
        scored / "canary.jsonl",
    ]
    path = data.draw(st.sampled_from(paths))
    path.write_text(json.dumps(broken(json.loads(path.read_text()), data)) + "\n")
    config = CONFIG.model_copy(update={"monthly_budget_usd": 0.1})
    observed = observe(places(root))
    scrubber = Scrubber([])
    found = [scrubber.finding(finding) for finding in check_all(observed, config, NOW, NOW - 99 * DAY)]
    state = MonitoringState(NOW)
    state.incidents, alerts = plan({}, found, Scope(frozenset(AREAS)), NOW, DAY)
    state.remember(alerts)
    state.pending = {"file": alerts}
    state.write(root / "state.json")
    assert MonitoringState.read(root / "state.json") == state
    view = View(observed, state, found, config, NOW)
    render_page(view).encode()
    metrics_text(view).encode()
    with Path(os.devnull).open("w") as nowhere:
        Console(file=nowhere, width=100).print(screen(view, 100, 40))
    to_json(dashboard_of(observed, state, config, NOW)).encode()
