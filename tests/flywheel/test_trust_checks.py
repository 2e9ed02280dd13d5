"""What the rollout doubts becomes a finding, read from the records that real rollouts write."""

from __future__ import annotations

import json
import random
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from tests.monitored import NOW, experiment
from tests.rollouts import SIGNATURE, Desk, Service

from flywheel.ops.config import MonitoringConfig
from flywheel.ops.reading import read_experiment
from flywheel.ops.trust_checks import DOUBTS, check_trust
from flywheel.serving import gaps, watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from flywheel.ops.findings import Finding


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


def found(desk: Desk, now: datetime | None = None) -> dict[str, Finding]:
    facts = read_experiment(desk.experiments / "experiment_exp.json")
    return {item.check: item for item in check_trust([facts], MonitoringConfig(), now or desk.clock().date)}


def test_the_codes_are_those_that_the_rollout_writes() -> None:
    assert set(DOUBTS) == {
        gaps.SAMPLE_RATIO_MISMATCH,
        gaps.METRICS_MISSING,
        watch.MULTIPLE_EXPOSURES,
        watch.CLOCK_WENT_BACK,
    }


def test_a_healthy_rollout_has_none(desk: Desk) -> None:
    desk.start()
    Service(desk).minute()
    desk.monitor()
    assert found(desk) == {}


def test_units_that_meet_both_variants_are_told(desk: Desk) -> None:
    desk.start()
    service = Service(desk, known_as=lambda number: f"user-{number % 100}")
    for _ in range(4):
        service.minute()
        desk.monitor()
    finding = found(desk)["multiple_exposures"]
    assert (finding.level, finding.title) == ("warning", "A/B Test Units Meet Several Variants")
    assert "units met both variants" in finding.details["decision"]


def test_calls_that_leave_no_record_are_told_as_a_ratio_that_does_not_hold(desk: Desk) -> None:
    desk.start()
    service = Service(desk)
    record: Callable[..., None] = service.recorder.record
    rng = random.Random(1)

    def lossy(interaction: object) -> None:
        if getattr(interaction, "variant", None) == "baseline" or rng.random() < 0.5:
            record(interaction)

    service.recorder.record = lossy  # type: ignore[method-assign] # a sink that loses records, as full disks do
    for _ in range(6):
        service.minute(300)
        shown = desk.monitor()
    assert (shown["status"], shown["stage"]) == ("running", 1)
    finding = found(desk)["sample_ratio_mismatch"]
    assert "leave no record" in finding.action


def test_a_clock_that_jumped_is_told(desk: Desk) -> None:
    desk.start()
    desk.clock.passes(60)
    desk.monitor()
    desk.clock.wall_ms -= 7_200_000
    desk.monitor()
    assert "clock" in found(desk)["clock_went_back"].message


def test_silence_is_told_once_it_is_no_beginning(desk: Desk) -> None:
    desk.start(stage_minutes=60)
    for minute in range(1, 15):
        desk.clock.passes(60)
        desk.monitor()
        assert ("metrics_missing" in found(desk)) == (minute >= 10)


def test_a_withdrawn_candidate_is_an_event(desk: Desk) -> None:
    settings = desk.root / "config.json"
    settings.write_text(json.dumps({"stages": [20, 100], "stage_minutes": 2, "min_calls": 60}))
    modules = [item for name in ("c1", "c2") for item in ("--candidate", str(desk.module(name)))]
    known = ("--signature", SIGNATURE, "--baseline", str(desk.module("b")), "--config", str(settings))
    desk.run("start", "--experiment-id", "exp", *known, *modules)
    service = Service(desk, lambda choice: "ValueError" if choice.variant == "candidate_2" else None)
    while len(desk.monitor()["candidates"]) == 2:
        service.minute()
    finding = found(desk)["arm_withdrawn"]
    assert finding.event
    assert finding.details["reason"] == "candidate_2: error_rate_delta > 0.05"
    assert "arm_withdrawn" not in found(desk, desk.clock().date + timedelta(days=30))


@pytest.mark.parametrize(
    "decision", [None, [], {"reasons": 5}, {"reasons": ["metrics_missing"], "arms": 3}, {"arms": {"x": 1}, "text": 1}]
)
def test_an_odd_decision_is_no_finding(tmp_path: Path, decision: object) -> None:
    path = tmp_path / "experiment_x.json"
    path.write_text(json.dumps(experiment(decision=decision)))
    assert list(check_trust([read_experiment(path)], MonitoringConfig(), NOW)) == []
