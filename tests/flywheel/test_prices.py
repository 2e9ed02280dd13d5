from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import dspy
import pytest
from dspy.clients.costs import estimate_cost
from dspy.lm15 import Message, Response, Usage
from hypothesis import given
from hypothesis import strategies as st
from tests.loopback import LoopbackModel

from flywheel.base.errors import BadInputError, DamagedError
from flywheel.base.prices import Price, PriceTable
from flywheel.learning.choice import ANTHROPIC_MODEL, EMBEDDED, ModelChoice, choose_model
from flywheel.learning.ledger import Ledger, read_calls
from flywheel.learning.lm import context_of, open_model
from flywheel.learning.prices import OWN_MACHINE, OWN_TABLE, cost_of, price_of

if TYPE_CHECKING:
    from pathlib import Path

TOKENS = st.integers(0, 10**6)


def table(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


@given(TOKENS, TOKENS, TOKENS, TOKENS)
def test_a_call_costs_its_parts(plain: int, out: int, read: int, written: int) -> None:
    price = Price(input=2.0, output=10.0, cached_input=0.5, cache_write=4.0)
    expected = (2 * plain + 0.5 * read + 4 * written + 10 * out) / 1e6
    assert price.usd(plain + read + written, out, read, written) == pytest.approx(expected)
    everywhere = Price(input=2.0, output=10.0)
    assert everywhere.usd(plain + read + written, out, read, written) == pytest.approx(
        everywhere.usd(plain + read + written, out)
    )


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"openai/x": {"input": -1, "output": 1}}, r"openai/x: input: -1: "),
        ({"openai/x": {"input": "1", "output": 1}}, r"openai/x: input: '1': "),
        ({"openai/x": {"input": 1}}, r"openai/x: output: .*[Ff]ield required"),
        ({"openai/x": {"input": 1, "output": 1, "cached": 1}}, r"openai/x: cached: 1: "),
        ({"openai/x": {"input": 1, "output": True}}, r"openai/x: output: True: "),
        ({"openai/x": 3}, r"openai/x: 3: "),
    ],
)
def test_a_bad_price_is_named(tmp_path: Path, value: Any, words: str) -> None:
    path = table(tmp_path / "prices.json", value)
    with pytest.raises(BadInputError, match=words):
        PriceTable.read(path)


def test_a_table_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no_such"):
        choose_model("openai/x", {}, prices=str(tmp_path / "no_such"))
    (tmp_path / "p.json").write_text("[]")
    with pytest.raises(DamagedError, match="prices such as"):
        choose_model("openai/x", {"FLYWHEEL_PRICES": str(tmp_path / "p.json")})


def test_the_order_of_prices(tmp_path: Path) -> None:
    own = table(tmp_path / "prices.json", {ANTHROPIC_MODEL: {"input": 1.0, "output": 2.0}})
    told = price_of(choose_model(ANTHROPIC_MODEL, {}, prices=str(own)))
    assert told == price_of(choose_model(ANTHROPIC_MODEL, {"FLYWHEEL_PRICES": str(own)}))
    assert told.source == OWN_TABLE
    assert told.price == Price(input=1.0, output=2.0)
    listed = price_of(ModelChoice(ANTHROPIC_MODEL, "test"))
    assert "price list" in listed.source
    assert listed.price is not None
    assert listed.price.cached_input is not None
    assert listed.price.cached_input < listed.price.input < listed.price.output
    assert price_of(ModelChoice(EMBEDDED, "test")).source == OWN_MACHINE
    nobody = price_of(choose_model("openai/nobody-knows", {}, prices=str(own)))
    assert nobody.price is None
    assert nobody.source.startswith("unknown price")


@given(TOKENS, TOKENS, TOKENS, TOKENS)
def test_the_listed_price_is_the_one_that_dspy_reckons_with(plain: int, out: int, read: int, written: int) -> None:
    usage = Usage(input_tokens=plain, output_tokens=out, cache_read_tokens=read, cache_write_tokens=written)
    name = ANTHROPIC_MODEL.partition("/")[2]
    message = Message.assistant("x")
    response = Response(id=None, model=name, message=message, finish_reason="stop", usage=usage)
    cost, _ = estimate_cost(response, provider="anthropic", requested_model=name)
    price = price_of(ModelChoice(ANTHROPIC_MODEL, "test")).price
    assert price is not None
    assert cost == pytest.approx(price.usd(plain + read + written, out, read, written))


def test_a_price_needs_tokens_to_be_told() -> None:
    entry = {"usage": {}, "cost": 3.0, "response": SimpleNamespace()}
    assert cost_of(entry, "openai/x", Price(input=1, output=1)) is None
    assert cost_of(entry, "openai/x", Price(input=0, output=0)) == 0.0
    assert cost_of(entry, "openai/x", None) == 3.0


def test_an_own_price_and_the_providers_prompt_cache_reach_the_ledger(tmp_path: Path) -> None:
    usage = {
        "prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1010,
        "prompt_tokens_details": {"cached_tokens": 800},
    }  # fmt: skip
    message = {"role": "assistant", "content": "[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]"}
    body = {"id": "x", "object": "chat.completion", "created": 0, "model": "x", "usage": usage}
    body["choices"] = [{"index": 0, "finish_reason": "stop", "message": message}]
    choice = {"input": 10.0, "output": 20.0, "cached_input": 1.0}
    own = table(tmp_path / "prices.json", {"openai/x": choice})
    with LoopbackModel(lambda _: "") as server, Ledger(tmp_path / "calls.jsonl") as ledger:
        server.garble(json.dumps(body).encode())
        chosen = choose_model("openai/x", {}, api_base=server.url, prices=str(own))
        model = open_model(chosen, ledger.account("s"), cache_folder=tmp_path / "cache")
        with context_of(model):
            for _ in range(2):
                dspy.Predict("question -> answer")(question="a")
        assert server.calls == 1
    first, hit = read_calls(tmp_path / "calls.jsonl")
    assert (first.input_tokens, first.prompt_cache_read, first.prompt_cache_write) == (1000, 800, 0)
    assert first.cost_usd == pytest.approx((200 * 10 + 800 * 1 + 10 * 20) / 1e6)
    assert (hit.cached, hit.cost_usd, hit.prompt_cache_read) == (True, 0.0, 0)
    # What the answer took the first time is known of the hit as well: expense.py weighs programs by it.
    costs = {cost_of(entry, model.model, model.price) for entry in model.history}
    assert costs == {first.cost_usd}
