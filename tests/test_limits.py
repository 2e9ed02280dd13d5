"""Limits of calls, money and time: kept exactly, in every stage, and still followed by a judged test."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from tests.loopback import LoopbackModel, Prompt, Skilled
from tests.oracle import Oracle
from tests.repositories import build_shop

from flywheel.base.plans import FILE_NAME as PLAN
from flywheel.base.plans import RunPlan
from flywheel.learning.ledger import Ledger, read_calls
from flywheel.learning.limits import DeadlinePassed, Limits
from flywheel.learning.search_account import MORE_TIME, SearchAccount
from flywheel.learning.stages import TEST, planned_stage
from optimization_orchestrator import main

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from flywheel.learning.ledger import Call

ONE, TWO = "validate_completeness", "validate_correctness"
# What the runs here ask before they begin, and about what they keep back for a test: 10 % more than its 34-36 calls.
PREFLIGHT, KEPT_FOR_TEST = 1, 40


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_shop(tmp_path_factory.mktemp("shop") / "repository")


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    places = {"TRAINING_DATA_DIR": "data", "OPTIMIZED_MODULES_DIR": "programs", "OUTPUT_DIR": "runs"}
    for variable, name in places.items():
        monkeypatch.setenv(variable, str(tmp_path / name))
    for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "FLYWHEEL_MODEL", "FLYWHEEL_API_BASE", "FLYWHEEL_PRICES"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def model(places: Path) -> Skilled:
    oracle = Oracle(places / "data")
    return Skilled(oracle, oracle.opposite, base=0.2, per_demo=0.3, demos_count=2, hint_bonus=0.0)


def run(shop: Path, server: LoopbackModel, *more: str, names: tuple[str, ...] = (ONE,)) -> int:
    return main([
        "--repo-path", str(shop), "--model", "loopback", "--api-base", server.url, "--no-strict", "--trials", "4",
        "--candidates", "3", "--git-target", "5", "--synthetic-target", "30", "--allow-synthetic-test",
        "--plateau-trials", "0", "--signatures", *names, *more,
    ])  # fmt: skip


def outcome(places: Path) -> tuple[dict[str, Any], list[Call], RunPlan]:
    """The newest run's summary, its calls that reached the model, and its plan."""
    folder = max((places / "runs").glob("run_*"))
    summary = json.loads((folder / "orchestration_summary.json").read_text())
    calls = [call for call in read_calls(folder / "calls.jsonl") if not call.cached]
    return summary, calls, RunPlan.read(folder / PLAN)


def stages(calls: list[Call]) -> Counter[str]:
    return Counter(planned_stage(call.stage) for call in calls)


@pytest.mark.parametrize(("more", "ends_in", "threads"), [(1, "bootstrap", 8), (13, "proposal", 1), (45, "search", 8)])
def test_a_search_that_runs_out_of_calls_is_still_judged(
    shop: Path, places: Path, model: Skilled, more: int, ends_in: str, threads: int
) -> None:
    limit = PREFLIGHT + KEPT_FOR_TEST + more
    with LoopbackModel(model) as server:
        assert run(shop, server, "--max-calls", str(limit), "--threads", str(threads)) == 0
    summary, calls, plan = outcome(places)
    result = summary["signatures"][ONE]
    test = plan.signatures[ONE].stages[TEST].calls
    assert server.calls == len(calls) <= limit
    asked = [planned_stage(call.stage) for call in calls]
    searching = [stage for stage in asked if stage in {"bootstrap", "proposal", "search"}]
    assert searching[-1] == ends_in
    share = limit - PREFLIGHT - math.ceil(1.1 * test)
    assert len(searching) == share, "the search had its whole share, and no more"
    assert result["partial"] is True
    assert "kept back" in result["stopped"]
    assert result["verdict"] in {"deploy", "reject", "inconclusive"}
    assert f"partial: the search was stopped: {result['stopped']}" in result["verdict_reason"]
    assert result["n_test"] == test // 2
    assert result["n_failed"] == 0
    assert summary["success"] is True
    folder = max((places / "runs").glob("run_*"))
    assert "partial: the search was stopped" in (folder / "report.html").read_text()


def test_a_test_that_cannot_be_paid_is_not_begun(shop: Path, places: Path, model: Skilled) -> None:
    with LoopbackModel(model) as server:
        assert run(shop, server, "--max-calls", "30") == 1
    summary, calls, _ = outcome(places)
    result = summary["signatures"][ONE]
    assert server.calls == len(calls) == PREFLIGHT
    assert result["verdict"] is None
    assert result["partial"] is True
    assert "the budget does not pay for its test" in result["verdict_reason"]
    assert "--max-calls 30" in summary["error"]


def test_a_test_that_takes_more_than_was_kept_back_has_no_verdict(shop: Path, places: Path, model: Skilled) -> None:
    def twice(prompt: Prompt) -> str | Mapping[str, Any]:
        """Nothing but JSON is answered in the form that is asked for, so that every question is asked twice."""
        return model(prompt) if prompt.wants_json or prompt.outputs == ["answer"] else "no form at all"

    with LoopbackModel(twice) as server:
        assert run(shop, server, "--max-calls", "60", "--no-floor", "--optimizer", "labeled") == 1
    summary, calls, _ = outcome(places)
    result = summary["signatures"][ONE]
    assert server.calls == len(calls) == 60
    assert stages(calls)["test"] > 0
    assert result["verdict"] is None
    assert result["partial"] is True
    assert result["verdict_reason"].startswith("the budget ran out before the test was done")


def test_all_signatures_and_workers_share_the_limit_and_each_is_judged(
    shop: Path, places: Path, model: Skilled
) -> None:
    with LoopbackModel(model) as server:
        assert run(shop, server, "--max-calls", "140", "--workers", "2", names=(ONE, TWO)) == 0
    summary, calls, _ = outcome(places)
    assert server.calls == len(calls) <= 140
    for result in summary["signatures"].values():
        assert result["partial"] is True
        assert result["verdict"] is not None
    assert sum(spent["calls"] for spent in summary["spend"]["spent"].values()) == server.calls
    assert summary["spend"]["max_calls"] == 140


def test_failed_attempts_count_as_well(shop: Path, places: Path, model: Skilled) -> None:
    with LoopbackModel(model) as server:

        def failing(prompt: Prompt) -> str | Mapping[str, Any]:
            if server.calls == 20:
                server.fail(503, times=2)
            return model(prompt)

        server.answer = failing
        assert run(shop, server, "--max-calls", "100", "--threads", "1") == 0
    _, calls, _ = outcome(places)
    assert len(calls) < server.calls <= 100


def test_money_is_limited_and_told(
    shop: Path, places: Path, model: Skilled, capsys: pytest.CaptureFixture[str]
) -> None:
    prices = places / "prices.json"
    prices.write_text(json.dumps({"openai/loopback": {"input": 2.0, "output": 8.0}}))
    with LoopbackModel(model) as server:
        assert run(shop, server, "--max-cost-usd", "0.25", "--prices", str(prices)) == 0
    told = capsys.readouterr().err
    summary, calls, plan = outcome(places)
    result = summary["signatures"][ONE]
    spent = math.fsum(call.cost_usd or 0.0 for call in calls)
    assert 0.15 < spent <= 0.25
    assert result["partial"] is True
    assert "USD are spent" in result["stopped"]
    assert result["verdict"] is not None
    assert result["cost_usd"] == pytest.approx(spent - (calls[0].cost_usd or 0.0)), "less the preflight's"
    assert summary["spend"]["price_source"] == plan.price_source == "the operator's price table"
    assert "$2.00 in, $8.00 out a million tokens" in told
    assert "--max-cost-usd 0.25" in told
    page = (max((places / "runs").glob("run_*")) / "report.html").read_text()
    assert "Planned and spent" in page
    assert "the operator&#39;s price table" in page


def test_money_cannot_be_limited_where_nobody_knows_the_price(
    shop: Path, places: Path, model: Skilled, capsys: pytest.CaptureFixture[str]
) -> None:
    from flywheel.base import cli

    with LoopbackModel(model) as server:
        assert cli.run(lambda: run(shop, server, "--max-cost-usd", "1")) == 2
        assert server.calls == 0
    told = capsys.readouterr().err
    assert "openai/loopback: its price is not known" in told
    assert "--prices FILE" in told
    assert not list((places / "runs").glob("run_*"))


def test_a_search_that_takes_too_long_is_still_judged(
    shop: Path, places: Path, model: Skilled, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LoopbackModel(model) as server:
        late = property(lambda _: math.inf if server.calls > 25 else 0.0)
        monkeypatch.setattr(SearchAccount, "seconds_kept", late)
        assert run(shop, server, "--workers", "1") == 0
    summary, calls, _ = outcome(places)
    result = summary["signatures"][ONE]
    assert result["stopped"] == summary["error"] == "optimization timed out after 2 hours"
    assert result["partial"] is True
    assert result["verdict"] is not None
    assert "partial: the search was stopped: optimization timed out" in result["verdict_reason"]
    assert summary["success"] is True
    assert server.calls == len(calls)
    assert [call.stage for call in calls if call.stage == "other"] == []


def test_the_time_that_a_test_needs_is_kept_back_by_the_latest_calls(tmp_path: Path) -> None:
    facts: dict[str, Any] = {
        "model": "m", "input_tokens": 1, "output_tokens": 1, "cached": False, "cost_usd": None, "error": None,
    }  # fmt: skip
    with Ledger(tmp_path / "calls.jsonl", Limits(deadline=math.inf, told_late="too late")) as ledger:
        account = SearchAccount(ledger.account("s"), finishing=21, threads=4)
        assert account.seconds_kept == 0
        for latency in (1000.0, 3000.0):
            account.record(**facts, latency_ms=latency)
        account.record(**{**facts, "cached": True}, latency_ms=None)
        assert account.seconds_kept == MORE_TIME * 6 * 2.0
        with account.admitted():
            pass
        ledger.limits = Limits(deadline=0.0, told_late="too late")
        with pytest.raises(DeadlinePassed, match="too late"), account.admitted():
            pass


def test_a_plan_alone_asks_nothing_and_leaves_nothing(
    shop: Path, places: Path, model: Skilled, capsys: pytest.CaptureFixture[str]
) -> None:
    with LoopbackModel(model) as server:
        assert run(shop, server, "--plan") == 0
        assert server.calls == 0
    told = capsys.readouterr()
    plan = RunPlan.model_validate_json(told.out)
    stages = plan.signatures[ONE].stages
    assert stages[TEST].calls == 2 * plan.signatures[ONE].test > 0
    assert stages[TEST].input_tokens > 0
    assert plan.total.cost_usd is None
    assert "unknown price" in told.err
    assert not (places / "data" / ONE).exists()
    assert not list((places / "runs").glob("run_*"))
