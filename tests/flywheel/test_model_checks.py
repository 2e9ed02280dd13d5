"""Canaries: a drop that is more than noise, another model, no answers, a job that died; and their file."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from tests.monitored import NOW, ONE, canary, envelope

from flywheel.base.canaries import CanaryItem, CanarySet, read_scores
from flywheel.base.errors import DamagedError
from flywheel.base.programs import deploy, publish
from flywheel.ops.config import MonitoringConfig
from flywheel.ops.model_checks import check_models
from flywheel.ops.observed import CanaryFacts, Observed, Places
from flywheel.ops.reading import observe
from flywheel.ops.spend import check_spend

if TYPE_CHECKING:
    from pathlib import Path

    from flywheel.base.canaries import CanaryScore
    from flywheel.ops.findings import Finding

WEEK = timedelta(days=7)
GOOD = [1.0] * 18 + [0.0] * 2
CONFIG = MonitoringConfig()


def found(*scores: CanaryScore) -> dict[str, Finding]:
    return {f.check: f for f in check_models([CanaryFacts(ONE, "/programs", scores)], CONFIG, NOW)}


def test_the_same_scores_are_no_finding_and_neither_is_a_canary_never_scored() -> None:
    assert found() == {}
    assert found(canary(NOW, GOOD)) == {}
    assert found(canary(NOW - WEEK, GOOD), canary(NOW, GOOD)) == {}


def test_a_significant_drop_is_an_error_with_its_figures() -> None:
    drop = found(canary(NOW - 2 * WEEK, GOOD), canary(NOW - WEEK, GOOD), canary(NOW, [1.0] * 8 + [0.0] * 12))[
        "canary_drop"
    ]
    assert (drop.level, drop.title, drop.since) == ("error", "Deployed Program Degraded", NOW)
    assert drop.facts["p_value"] == pytest.approx(1 / 1024, rel=0.03)
    assert (drop.facts["first_score"], drop.facts["latest_score"]) == (0.9, 0.4)


def test_noise_is_no_drop() -> None:
    # Four answers fewer, two more: p = 0.34.
    assert found(canary(NOW - WEEK, GOOD), canary(NOW, [1.0] * 14 + [0.0] * 4 + [1.0] * 2)) == {}


def test_a_tiny_drop_is_none_however_sure() -> None:
    assert found(canary(NOW - WEEK, [0.5] * 20), canary(NOW, [0.48] * 20)) == {}


def test_examples_of_one_group_fall_together_and_count_once() -> None:
    before, after = [1.0] * 20, [1.0] * 8 + [0.0] * 12
    few = (canary(NOW - WEEK, before, groups=4), canary(NOW, after, groups=4))
    assert "canary_drop" not in found(*few)


def test_another_snapshot_is_told_since_it_was_first_seen() -> None:
    weeks = [canary(NOW - n * WEEK, GOOD, "m-1" if n > 1 else "m-2") for n in (3, 2, 1, 0)]
    changed = found(*weeks)["canary_snapshot"]
    assert (changed.level, changed.since) == ("warning", NOW - WEEK)
    assert (changed.facts["first_snapshot"], changed.facts["latest_snapshot"]) == ("m-1", "m-2")


def test_a_provider_that_says_nothing_changed_nothing() -> None:
    assert found(canary(NOW - WEEK, GOOD, None), canary(NOW, GOOD, "m-2")) == {}
    assert found(canary(NOW - WEEK, GOOD, "m-2"), canary(NOW, GOOD, None)) == {}


def test_unanswered_examples_are_told_and_not_scored_as_zeros() -> None:
    silent = found(canary(NOW - WEEK, GOOD), canary(NOW, [1.0] * 15 + [None] * 5))
    assert set(silent) == {"canary_unanswered"}
    assert found(canary(NOW - WEEK, GOOD), canary(NOW, [None] * 20)).keys() == {"canary_unanswered"}
    assert found(canary(NOW, [])) == {}


def test_a_canary_whose_job_died_is_overdue() -> None:
    assert "canary_overdue" not in found(canary(NOW - 8 * timedelta(days=1), GOOD))
    late = found(canary(NOW - 9 * timedelta(days=1), GOOD))["canary_overdue"]
    assert late.since == NOW - timedelta(days=1)


def test_a_canary_costs_what_it_costs() -> None:
    facts = CanaryFacts(ONE, "/p", tuple(canary(NOW - n * timedelta(hours=1), GOOD) for n in range(3)))
    config = CONFIG.model_copy(update={"monthly_budget_usd": 1.0})
    (over,) = check_spend(Observed(canaries=(facts,)), config, NOW)
    assert (over.level, over.facts["canaries_usd"]) == ("error", 1.5)


# The files


def stored(root: Path) -> Path:
    path = publish(root, envelope(), NOW)
    deploy(root, ONE, path.parent.name)
    return path.parent


def test_scores_round_trip_and_a_torn_line_is_left_out(tmp_path: Path) -> None:
    folder = stored(tmp_path)
    assert read_scores(folder) == ()
    written = [canary(NOW - WEEK, [*GOOD, None]), canary(NOW, GOOD)]
    for score in written:
        score.append(folder)
    with (folder / "canary.jsonl").open("a") as stream:
        stream.write('{"at": "2025')
    assert list(read_scores(folder)) == written
    assert (folder / "canary.jsonl").stat().st_mode & 0o777 == 0o600
    facts = observe(Places(tmp_path / "r", tmp_path / "e", tmp_path / "d", tmp_path, tmp_path / "t")).canaries
    assert [(c.signature, len(c.scores)) for c in facts] == [(ONE, 2)]


CHANGES: list[dict[str, Any]] = [
    {"at": "soon"}, {"at": "9999-12-31T23:59:59-05:00"}, {"scores": {"e0": 2}}, {"scores": [1]}, {"groups": {}},
    {"model": None}, {"lm_calls": True}, {"cost_usd": "1"}, {"extra": 1}, {"model_snapshot": 3},
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_a_damaged_line_is_damage(tmp_path: Path, change: dict[str, Any]) -> None:
    folder = stored(tmp_path)
    canary(NOW, GOOD).append(folder)
    row = json.loads((folder / "canary.jsonl").read_text())
    (folder / "canary.jsonl").write_text(json.dumps({**row, **change}) + "\n")
    with pytest.raises(DamagedError, match="line 1: no canary score"):
        read_scores(folder)
    observed = observe(Places(tmp_path / "r", tmp_path / "e", tmp_path / "d", tmp_path, tmp_path / "t"))
    assert [damage.area for damage in observed.damage] == ["models"]


def test_the_frozen_examples_round_trip(tmp_path: Path) -> None:
    chosen = CanarySet(ONE, "v1", "2025-11-04T12:00:00+00:00", (CanaryItem("e", "g", {"q": 1}, {"a": [2]}),))
    assert CanarySet.read(tmp_path) is None
    chosen.write(tmp_path)
    assert CanarySet.read(tmp_path) == chosen
    for content in ("{", "{}", '{"schema_version": 2}', '{"schema_version": 1, "items": [{}]}'):
        (tmp_path / "canary.json").write_text(content)
        with pytest.raises(DamagedError, match=r"canary\.json"):
            CanarySet.read(tmp_path)
