"""Budgets that pay for the retest of a waiting candidate, for a part of it, or for none of it."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from tests.loopback import LoopbackModel, Skilled
from tests.oracle import Oracle
from tests.repositories import build_shop

from flywheel.base.plans import RunPlan
from flywheel.base.programs import deployed_program, read_program
from flywheel.data.test_uses import generation
from flywheel.learning.ledger import read_calls
from flywheel.learning.stages import RETEST, TEST, planned_stage
from flywheel.learning.waiting import ENOUGH, Evidence, Waiting, keep, read_waiting
from flywheel.learning.waiting import Tested as Earlier
from optimization_orchestrator import main

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.loopback import Prompt

ONE = "validate_completeness"
PREFLIGHT = 1


class Shop:
    """Runs of one signature in one folder, with a candidate that waits for its next test."""

    def __init__(self, folder: Path, server: LoopbackModel) -> None:
        self.folder, self.server = folder, server
        self.programs = folder / "programs"
        self.waited, self.uses = read_waiting(self.programs, ONE), self.used
        groups = [row["metadata"]["group"] for row in Oracle(folder / "data").rows(ONE, TEST)]
        seen = self.waited.evidence.groups if self.waited else ()
        self.fresh = sum(group not in seen for group in groups)

    def run(self, *more: str) -> int:
        self.server.prompts.clear()
        return main([
            "--repo-path", str(self.folder / "repository"), "--no-strict",
            "--model", "loopback", "--api-base", self.server.url, "--trials", "4", "--candidates", "3",
            "--git-target", "1", "--synthetic-target", "1",
            "--allow-synthetic-test", "--plateau-trials", "0", "--signatures", ONE, *more,
        ])  # fmt: skip

    @property
    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = self.summary["signatures"][ONE]
        return found

    @property
    def newest(self) -> Path:
        return max((self.folder / "runs").glob("run_*"))

    @property
    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.newest / "orchestration_summary.json").read_text())
        return found

    @property
    def stages(self) -> Counter[str]:
        calls = read_calls(self.newest / "calls.jsonl")
        return Counter(planned_stage(call.stage) for call in calls if not call.cached)

    @property
    def used(self) -> tuple[str, ...]:
        return generation(self.folder / "data", ONE).runs


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Shop]:
    """The shop in the folder, and the model that it asks."""
    places = {"TRAINING_DATA_DIR": "data", "OPTIMIZED_MODULES_DIR": "programs", "OUTPUT_DIR": "runs"}
    with pytest.MonkeyPatch.context() as environment, LoopbackModel(able(folder)) as server:
        for variable, name in places.items():
            environment.setenv(variable, str(folder / name))
        for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "FLYWHEEL_MODEL", "FLYWHEEL_API_BASE", "FLYWHEEL_PRICES"):
            environment.delenv(name, raising=False)
        yield Shop(folder, server)


def able(folder: Path, base: float = 0.05, per_demo: float = 0.45) -> Skilled:
    """A model that demonstrations make much better."""
    oracle = Oracle(folder / "data")
    return Skilled(oracle, oracle.opposite, base=base, per_demo=per_demo, demos_count=2, hint_bonus=0.0)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where a run's candidate waits: a quarter of the present test groups are those that it was tested on."""
    folder = tmp_path_factory.mktemp("prepared") / "shop"
    build_shop(folder / "repository")
    with opened(folder) as shop:
        # No gain is enough, so that nothing is deployed.
        targets = ("--git-target", "5", "--synthetic-target", "60")
        assert shop.run("--min-improvement", "10000", "--optimizer", "labeled", *targets) == 0
        groups = sorted({row["metadata"]["group"] for row in Oracle(folder / "data").rows(ONE, TEST)})
        seen = tuple(groups[: len(groups) // 4])
        # So near to what is enough that one good test decides, on whatever groups chance has left.
        earlier = Earlier(
            run_id="run_1", n=len(seen), n_synthetic=0, baseline_sum=1, optimized_sum=1, e_value=ENOUGH - 1
        )
        evidence = Evidence(baseline=shop.result["baseline"], groups=seen, tests=(earlier,))
        program = read_program(shop.newest / "optimization_results" / ONE / "program.json", ONE)
        keep(shop.programs, Waiting(program, evidence))
    return folder


@pytest.fixture
def shop(prepared: Path, tmp_path: Path) -> Iterator[Shop]:
    folder = tmp_path / "shop"
    shutil.copytree(prepared, folder, symlinks=True)
    with opened(folder) as shop:
        yield shop


def waits_on(shop: Shop) -> None:
    """Nothing was learned of the candidate, and no use of the test was counted."""
    assert read_waiting(shop.programs, ONE) == shop.waited
    assert shop.used == shop.uses
    assert deployed_program(shop.programs, ONE) is None


def test_a_retest_that_cannot_be_paid_in_full_is_not_begun(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    assert shop.run("--max-calls", str(PREFLIGHT + shop.fresh)) == 1, "half of what it takes"
    told = capsys.readouterr().err
    assert shop.stages == {"preflight": PREFLIGHT}
    result = shop.result
    why = "the budget does not pay for its candidate's retest: "
    assert result["verdict_reason"].startswith(why)
    assert result["verdict_reason"].endswith(" are left; nothing was asked, and the candidate waits on")
    assert (result["verdict"], result["partial"], result["stopped"]) == (None, True, result["verdict_reason"])
    assert shop.summary["error"] == f"{ONE}: {result['verdict_reason']}"
    assert why in told
    waits_on(shop)


def test_a_budget_for_the_retest_alone_pays_it_and_is_enough_where_it_decides(shop: Shop) -> None:
    # Nothing is kept back for a search's test, which would need more.
    assert shop.run("--max-calls", str(PREFLIGHT + math.ceil(2.2 * (shop.fresh + 2)))) == 0
    assert shop.stages == {"preflight": PREFLIGHT, RETEST: shop.result["planned"][RETEST]["calls"]}
    result = shop.result
    assert result["verdict"] == "deploy", result["verdict_reason"]
    assert (result["n_test"], result["partial"], result["tests"]) == (shop.stages[RETEST] // 2, False, 2)
    assert len(shop.used) == len(shop.uses) + 1
    assert read_waiting(shop.programs, ONE) is None


def test_a_candidate_given_up_leaves_no_search_that_could_not_be_tested(shop: Shop) -> None:
    # Demonstrations help no more.
    shop.server.answer = able(shop.folder, base=0.5, per_demo=0.0)
    assert shop.run("--max-calls", str(PREFLIGHT + math.ceil(2.2 * (shop.fresh + 2)))) == 1
    assert shop.stages == {"preflight": PREFLIGHT, RETEST: shop.result["planned"][RETEST]["calls"]}
    result = shop.result
    assert result["verdict"] is None
    assert result["verdict_reason"].startswith("the budget does not pay for its test: ")
    assert result["verdict_reason"].endswith("no search was begun")
    assert result["partial"] is True
    # What a test has shown counts, whatever became of the search.
    assert len(shop.used) == len(shop.uses) + 1
    assert read_waiting(shop.programs, ONE) is None


def test_a_retest_that_takes_more_than_was_kept_back_teaches_nothing(shop: Shop) -> None:
    skilled = able(shop.folder)

    def twice(prompt: Prompt) -> str | Mapping[str, Any]:
        """Nothing but JSON is answered in the form that is asked for, so that every question is asked twice."""
        return skilled(prompt) if prompt.wants_json or prompt.outputs == ["answer"] else "no form at all"

    shop.server.answer = twice
    limit = PREFLIGHT + math.ceil(2.2 * (shop.fresh + 2))
    assert shop.run("--max-calls", str(limit)) == 1
    assert shop.server.calls == limit
    result = shop.result
    assert result["verdict"] is None
    assert result["verdict_reason"].startswith(
        "the budget ran out before the retest was done, and the candidate waits on: "
    )
    assert result["partial"] is True
    waits_on(shop)


def test_money_that_is_spent_before_the_retest_is_done_teaches_nothing(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    prices = shop.folder / "prices.json"
    prices.write_text(json.dumps({"openai/loopback": {"input": 2.0, "output": 8.0}}))
    capsys.readouterr()
    assert shop.run("--plan", "--prices", str(prices)) == 0
    plan = RunPlan.model_validate_json(capsys.readouterr().out).signatures[ONE].stages[RETEST]
    # Answers are ten times as long as any that was foreseen.
    skilled = able(shop.folder)
    shop.server.answer = lambda prompt: {**skilled(prompt), "reasoning": "x" * 6000}
    limit = 1.8 * (plan.cost_usd or 0.0)
    assert shop.run("--max-cost-usd", f"{limit:.4f}", "--prices", str(prices)) == 1
    assert 0 < shop.stages[RETEST] < plan.calls, shop.result
    assert shop.summary["spend"]["max_cost_usd"] == pytest.approx(limit, abs=1e-4)
    assert shop.result["verdict_reason"].startswith("the budget ran out before the retest was done")
    waits_on(shop)
    # With the money that it takes the same candidate is tested, on the same groups, the next time.
    shop.server.answer = skilled
    assert shop.run("--no-floor", "--prices", str(prices)) == 0
    assert shop.result["tests"] == 2
