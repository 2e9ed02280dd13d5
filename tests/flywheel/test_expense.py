"""What an answer takes is the same whether or not the run's cache had it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest
from tests.loopback import LoopbackModel

from flywheel.base.evaluations import Usage
from flywheel.base.progress import open_progress
from flywheel.data.examples import Example
from flywheel.data.signatures.types import Field, Measure, Signature
from flywheel.learning.choice import ModelChoice
from flywheel.learning.examination import ask, ask_both
from flywheel.learning.expense import Allowance, Expense, weighed
from flywheel.learning.ledger import Ledger
from flywheel.learning.lm import open_model
from flywheel.learning.optimizers import Settings
from flywheel.learning.program import build_program
from flywheel.learning.session import Session
from flywheel.learning.verdict import DEPLOY, INCONCLUSIVE, REJECT, Rule, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TASK = Signature(
    name="task",
    inputs=(Field("question", "str", "What is asked"),),
    outputs=(Field("good", "bool", "Whether"),),
    instructions="Answer.",
    metric=(Measure("accuracy", "good", 1.0),),
    project=lambda _: None,
)
EXAMPLES = [
    Example.model_validate({"inputs": {"question": f"number {n}"}, "outputs": {"good": True}, "id": str(n)})
    for n in range(6)
]


def usage(cost: float | None = 0.001, latency: float | None = 100.0, tokens: float = 100.0) -> Usage:
    return Usage(calls=1, input_tokens=tokens, output_tokens=0, cost_usd=cost, latency_ms=latency)


@pytest.fixture
def server() -> Iterator[LoopbackModel]:
    with LoopbackModel(lambda _: {"good": True}) as model:
        yield model


@pytest.fixture
def session(server: LoopbackModel, tmp_path: Path) -> Iterator[Session]:
    with Ledger(tmp_path / "calls.jsonl") as ledger:
        choice = ModelChoice("openai/loopback", "test", server.url)
        model = open_model(choice, ledger.account("task"), cache_folder=tmp_path / "cache")
        yield Session(model, Settings(threads=2), Rule(), Allowance(), open_progress(), io.StringIO(), "run_x")


def with_demos(count: int) -> Any:
    program = build_program(TASK)
    program.demos = [{"question": "a rather longer question " * 10, "good": False} for _ in range(count)]
    return program


def test_a_longer_prompt_shows_in_tokens_and_its_snapshot_is_told(session: Session) -> None:
    found = ask_both((build_program(TASK), with_demos(3)), EXAMPLES, TASK, session)
    assert found.snapshot == "loopback"
    assert found.expense is not None
    assert found.expense.baseline.calls == 1
    assert found.expense.token_ratio is not None
    assert found.expense.token_ratio > 2
    assert found.expense.baseline.input_tokens > 0
    assert found.expense.cost_ratio is None, "nobody knows the price"
    assert found.expense.latency_delta_ms is not None


def test_answers_from_the_cache_do_not_make_a_program_look_free(session: Session, server: LoopbackModel) -> None:
    first = ask(with_demos(2), EXAMPLES, TASK, session, "earlier")
    calls = server.calls
    again = ask(with_demos(2), EXAMPLES, TASK, session, "later")
    assert server.calls == calls, "the second time all came from the cache"
    assert first.usage is not None
    assert again.usage is not None
    assert again.usage.input_tokens == first.usage.input_tokens > 0
    assert (again.usage.calls, again.usage.latency_ms) == (1, None), "a cache's latency says nothing"
    assert again.snapshot == "loopback"


def test_an_answer_that_takes_two_calls_takes_twice(session: Session, server: LoopbackModel) -> None:
    asked: dict[str, int] = {}

    def second_time(prompt: Any) -> Any:
        asked[prompt.inputs["question"]] = asked.get(prompt.inputs["question"], 0) + 1
        return {"good": True} if prompt.wants_json else "in no form at all"

    server.answer = second_time
    found = ask(build_program(TASK), EXAMPLES, TASK, session, "test")
    assert [item.score for item in found.scored] == [1.0] * 6
    assert found.usage is not None
    assert found.usage.calls == 2


@pytest.mark.parametrize(
    ("optimized", "allowed", "expected"),
    [
        (usage(0.0016), Allowance(), "1.60x the cost"),
        (usage(0.0015), Allowance(), None),
        (usage(0.0016), Allowance(cost_growth=2.0), None),
        (usage(latency=601.0), Allowance(), "+501 ms"),
        (usage(latency=600.0), Allowance(), None),
        (usage(latency=601.0), Allowance(latency_growth_ms=1000), None),
        (usage(None, None), Allowance(), None),
    ],
)
def test_a_better_program_must_not_take_too_much_more(
    optimized: Usage, allowed: Allowance, expected: str | None
) -> None:
    verdict = weighed(Verdict(DEPLOY, "+20.0 %"), Expense(usage(), optimized), allowed)
    if expected is None:
        assert verdict.verdict == DEPLOY
    else:
        assert verdict.verdict == INCONCLUSIVE
        assert verdict.reason.startswith("too expensive: ")
        assert expected in verdict.reason
        assert "+20.0 %" in verdict.reason
        assert "accept it by --max-" in verdict.reason


def test_what_is_not_deployed_is_not_weighed() -> None:
    rejected = Verdict(REJECT, "not better")
    assert weighed(rejected, Expense(usage(), usage(1.0)), Allowance()) is rejected


def test_a_free_model_has_no_cost_ratio() -> None:
    found = Expense(usage(0.0), usage(0.0, tokens=300.0))
    assert found.cost_ratio is None
    assert found.cost_delta == 0
    assert found.token_ratio == 3
