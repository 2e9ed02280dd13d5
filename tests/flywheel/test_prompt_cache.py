from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dspy
import pytest
from tests.anthropic_model import LoopbackAnthropic

from flywheel.learning.choice import ANTHROPIC_MODEL, ModelChoice
from flywheel.learning.ledger import Ledger, read_calls
from flywheel.learning.lm import context_of, open_model
from flywheel.learning.prices import price_of
from flywheel.learning.prompt_cache import marked
from flywheel.learning.stages import PROPOSAL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flywheel.learning.lm import RecordedLM


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackAnthropic]:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    with LoopbackAnthropic(lambda _: {"answer": "Paris"}) as model:
        yield model


@pytest.fixture
def model(server: LoopbackAnthropic, tmp_path: Path) -> Iterator[RecordedLM]:
    with Ledger(tmp_path / "calls.jsonl") as ledger:
        choice = ModelChoice(ANTHROPIC_MODEL, "test", server.url)
        yield open_model(choice, ledger.account("s"), cache_folder=tmp_path / "cache")


@pytest.fixture
def program() -> Any:
    made = dspy.Predict("question -> answer")
    made.demos = [dspy.Example(question=f"q{n}", answer="a long answer " * 20) for n in range(2)]
    return made


def marks(body: dict[str, Any]) -> list[str]:
    blocks = [*body["system"], *(block for message in body["messages"] for block in message["content"])]
    return [block["text"] for block in blocks if "cache_control" in block]


def test_what_calls_of_a_program_share_is_marked_and_the_cache_is_paid_at_its_price(
    model: RecordedLM, server: LoopbackAnthropic, program: Any
) -> None:
    with context_of(model):
        for question in ("a", "b", "c"):
            program(question=question)
    first, second, third = server.prompts
    assert marks(first.body) == marks(second.body) == marks(third.body)
    system, last_demo = marks(first.body)
    assert "Your input fields are" in system
    assert "a long answer" in last_demo
    assert "cache_control" not in first.body["messages"][-1]["content"][-1]
    assert [bool(usage["cache_read_input_tokens"]) for usage in server.usages] == [False, True, True]
    calls = list(read_calls(model.account.ledger.path))
    price = price_of(ModelChoice(ANTHROPIC_MODEL, "test")).price
    assert price is not None
    for call, usage in zip(calls, server.usages, strict=True):
        read, written = usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"]
        assert (call.prompt_cache_read, call.prompt_cache_write) == (read, written)
        assert call.input_tokens == usage["input_tokens"] + read + written
        assert call.cost_usd == pytest.approx(price.usd(call.input_tokens, call.output_tokens, read, written))
    assert calls[1].cost_usd is not None
    assert calls[0].cost_usd is not None
    assert calls[1].cost_usd < calls[0].cost_usd
    totals = model.account.totals()
    assert totals.prompt_cache_read == sum(usage["cache_read_input_tokens"] for usage in server.usages)


def test_without_demonstrations_the_instructions_are_marked(
    model: RecordedLM, server: LoopbackAnthropic, program: Any
) -> None:
    program.demos = []
    with context_of(model):
        program(question="a")
    (only,) = marks(server.prompts[0].body)
    assert "Your input fields are" in only


def test_a_mark_does_not_make_another_request_of_it(model: RecordedLM, server: LoopbackAnthropic, program: Any) -> None:
    with context_of(model):
        program(question="a")
        with model.account.stage(PROPOSAL):
            program(question="b")
        program(question="a")
    assert server.calls == 2
    assert "cache_control" not in str(server.prompts[1].body)
    assert None not in {call.key for call in read_calls(model.account.ledger.path) if not call.cached}
    assert model.account.totals().cached_calls == 1


def test_other_providers_and_ways_are_not_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    assert marked(ANTHROPIC_MODEL, "test", {}, messages) is not None
    assert marked("openai/gpt-5", "test", {}, messages) is None
    assert marked(ANTHROPIC_MODEL, "test", {"response_format": {"type": "json_object"}}, messages) is None
    assert marked(ANTHROPIC_MODEL, "test", {}, None) is None
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:1")
    assert marked(ANTHROPIC_MODEL, "test", {}, messages) is None


def test_an_answer_that_does_not_parse_is_asked_for_as_json(
    model: RecordedLM, server: LoopbackAnthropic, program: Any
) -> None:
    server.answer = lambda prompt: {"answer": "Paris"} if prompt.wants_json else "no form at all"
    with context_of(model):
        assert program(question="a").answer == "Paris"
    assert server.calls == 2
