from __future__ import annotations

import copy
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dspy
import pytest
from dspy.utils.exceptions import LMAuthError
from tests.loopback import LoopbackModel, Prompt, Skilled

from flywheel.base.errors import BadInputError, ModelError
from flywheel.learning.choice import ANTHROPIC_MODEL, EMBEDDED, ModelChoice, choose_model
from flywheel.learning.ledger import Account, BudgetExhausted, Ledger, Limits, read_calls
from flywheel.learning.lm import RecordedLM, adapter_for, context_of, open_model, parameters_of
from flywheel.learning.preflight import preflight

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SCRIPTS = Path(__file__).resolve().parents[2] / "data_collection"
SECRET = "sk-ant-very-secret-0123456789"  # noqa: S105 - made up


def paris(prompt: Prompt) -> dict[str, Any]:
    return {"answer": f"Paris {len(prompt.question)}"}


@pytest.fixture
def server() -> Iterator[LoopbackModel]:
    with LoopbackModel(paris) as model:
        yield model


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "calls.jsonl") as opened:
        yield opened


@pytest.fixture
def account(ledger: Ledger) -> Account:
    return ledger.account("ask")


@pytest.fixture
def model(server: LoopbackModel, account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RecordedLM:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    return open_model(ModelChoice("openai/loopback", "test", server.url), account, cache_folder=tmp_path / "cache")


@pytest.fixture
def program() -> Any:
    return dspy.Predict("question -> answer")


@pytest.mark.parametrize(
    ("flag", "environment", "name"),
    [
        ("openai/a", {"FLYWHEEL_MODEL": "openai/b", "ANTHROPIC_API_KEY": "k"}, "openai/a"),
        (None, {"FLYWHEEL_MODEL": "openai/b", "ANTHROPIC_API_KEY": "k"}, "openai/b"),
        (None, {"ANTHROPIC_API_KEY": "k"}, ANTHROPIC_MODEL),
        (None, {}, EMBEDDED),
        (None, {"FLYWHEEL_MODEL": "", "ANTHROPIC_API_KEY": ""}, EMBEDDED),
        ("embedded", {"ANTHROPIC_API_KEY": "k"}, EMBEDDED),
        ("qwen", {"FLYWHEEL_API_BASE": "http://127.0.0.1:1/v1"}, "openai/qwen"),
    ],
)
def test_the_order_of_choice(flag: str | None, environment: dict[str, str], name: str) -> None:
    choice = choose_model(flag, environment)
    assert choice.name == name
    assert name in choice.describe()


def test_the_embedded_model_is_no_fallback_where_a_model_is_required() -> None:
    with pytest.raises(ModelError, match="ANTHROPIC_API_KEY"):
        choose_model(None, {}, require_model=True)
    assert choose_model(EMBEDDED, {}, require_model=True).embedded


@pytest.mark.parametrize(
    ("flag", "environment"),
    [("qwen", {}), ("openai/", {}), (None, {"FLYWHEEL_API_BASE": "http://x/v1"}), ("a/b", {"FLYWHEEL_API_BASE": "x"})],
)
def test_half_a_choice_is_refused(flag: str | None, environment: dict[str, str]) -> None:
    with pytest.raises(BadInputError):
        choose_model(flag, environment)


def test_choosing_imports_no_dspy() -> None:
    code = "import sys, flywheel.learning.choice; sys.exit('dspy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS, check=False).returncode == 0


def test_calls_and_hits_are_recorded(model: RecordedLM, server: LoopbackModel, account: Account, program: Any) -> None:
    server.latency = 0.05
    with account.stage("evaluate"), context_of(model):
        assert program(question="a").answer == program(question="a").answer
    assert server.calls == 1
    first, hit = read_calls(account.ledger.path)
    assert (first.stage, first.signature, first.model, first.error) == ("evaluate", "ask", "openai/loopback", None)
    assert first.input_tokens > 0
    assert first.output_tokens > 0
    assert first.latency_ms is not None
    assert first.latency_ms >= 50
    assert first.cost_usd is None
    assert (hit.cached, hit.cost_usd, hit.latency_ms, hit.input_tokens) == (True, 0.0, None, 0)


def test_answers_without_usage_count_as_calls(model: RecordedLM, server: LoopbackModel, program: Any) -> None:
    server.usage = False
    with context_of(model):
        program(question="a")
    assert model.account.totals().calls == 1


def test_every_thread_and_copy_records_in_one_account(model: RecordedLM, server: LoopbackModel, program: Any) -> None:
    program.set_lm(model)
    examples = [dspy.Example(question=str(n), answer="x").with_inputs("question") for n in range(12)]
    evaluate = dspy.Evaluate(devset=examples, metric=lambda *_: 1.0, num_threads=4, display_progress=False)
    with model.account.stage("evaluate"), context_of(model.copy(rollout_id=1, temperature=1.0)):
        evaluate(copy.deepcopy(program))
        evaluate(dspy.Predict("question -> answer"))
    assert server.calls == model.account.totals("evaluate").calls == 24


def test_failures_are_recorded_without_the_providers_words(model: RecordedLM, server: LoopbackModel) -> None:
    server.fail(401, f"Incorrect API key provided: {SECRET}")
    with pytest.raises(LMAuthError), context_of(model):
        dspy.Predict("question -> answer")(question="a")
    assert model.account.totals().errors == 1
    text = model.account.ledger.path.read_text()
    assert "LMAuthError 401" in text
    assert SECRET not in text


@pytest.mark.parametrize("threads", [1, 4])
def test_a_spent_budget_ends_an_evaluation(
    server: LoopbackModel, tmp_path: Path, threads: int, program: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    examples = [dspy.Example(question=str(n), answer="x").with_inputs("question") for n in range(40)]
    with Ledger(tmp_path / "calls.jsonl", Limits(max_calls=10)) as ledger:
        choice = ModelChoice("openai/loopback", "test", server.url)
        model = open_model(choice, ledger.account("s"), cache_folder=tmp_path / "cache")
        evaluate = dspy.Evaluate(devset=examples, metric=lambda *_: 1.0, num_threads=threads, display_progress=False)
        with pytest.raises(BudgetExhausted), context_of(model):
            evaluate(program)
        time.sleep(0.2)
    assert server.calls == 10


def test_runs_do_not_share_answers(server: LoopbackModel, account: Account, tmp_path: Path, program: Any) -> None:
    for run in ("one", "two", "one"):
        choice = ModelChoice("openai/loopback", "test", server.url)
        with context_of(open_model(choice, account, cache_folder=tmp_path / run)):
            program(question="a")
    assert server.calls == 2
    assert account.totals().cached_calls == 1


def test_anthropic_models_are_not_sent_their_own_temperature(account: Account, tmp_path: Path) -> None:
    body = b'{"id":"m","type":"message","role":"assistant","model":"x","stop_reason":"end_turn","content":[{"type":"text","text":"hi"}],"usage":{"input_tokens":3,"output_tokens":1}}'  # noqa: E501
    with LoopbackModel(paris) as server:
        server.garble(body)
        choice = ModelChoice(ANTHROPIC_MODEL, "test", server.url)
        model = open_model(choice, account, cache_folder=tmp_path / "cache")
        warm = model.copy(api_key="k", rollout_id=1, temperature=1.0)
        assert warm("hello") == ["hi"]
        assert warm("hello", temperature=0.5) == ["hi"]
        assert "temperature" not in server.prompts[0].body
        assert server.prompts[1].body["temperature"] == 0.5
    assert account.totals().cost_usd is not None


def test_the_preflight_is_one_real_call(model: RecordedLM, server: LoopbackModel) -> None:
    preflight(model)
    assert server.calls == 1
    preflight(model)
    assert server.calls == 2
    assert model.account.totals("preflight").calls == 2


def garbled(server: LoopbackModel) -> None:
    server.garble()


@pytest.mark.parametrize(
    ("fault", "words", "calls"),
    [
        (lambda s: s.fail(401, SECRET), "refuses the key", 1),
        (lambda s: s.fail(403, SECRET), "refuses the key", 1),
        (lambda s: s.fail(402), "payment", 1),
        (lambda s: s.fail(404), "does not know", 1),
        (lambda s: s.fail(400), "refuses the request", 1),
        (lambda s: s.fail(429), "rate limit", 2),
        (lambda s: s.fail(500), "the server fails", 2),
        (garbled, "no model server", 1),
        (lambda s: setattr(s, "answer", lambda _: "no form at all"), "not in the form", 1),
        (lambda s: setattr(s, "answer", lambda _: ""), "not in the form", 1),
        (lambda s: setattr(s, "answer", lambda _: {"answer": " "}), "empty", 1),
    ],
)
def test_a_model_that_does_not_work_fails_the_preflight(
    model: RecordedLM, server: LoopbackModel, fault: Callable[[LoopbackModel], None], words: str, calls: int
) -> None:
    fault(server)
    started = time.monotonic()
    with pytest.raises(ModelError, match=words) as caught:
        preflight(model)
    assert SECRET not in str(caught.value)
    assert server.calls == calls
    assert time.monotonic() - started < 10


def test_a_passing_fault_does_not_fail_the_preflight(model: RecordedLM, server: LoopbackModel) -> None:
    server.fail(503, times=1)
    preflight(model)
    assert server.calls == 2


def test_a_server_that_hangs_fails_the_preflight_in_time(model: RecordedLM, server: LoopbackModel) -> None:
    server.hang()
    with pytest.raises(ModelError, match="cannot be reached or does not answer"):
        preflight(model, answer_seconds=0.5)


@pytest.mark.parametrize("name", ["openai/x", ANTHROPIC_MODEL])
def test_nobody_listening_and_no_key(
    name: str, account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    dead = open_model(ModelChoice("openai/x", "test", "http://127.0.0.1:9/v1"), account, cache_folder=tmp_path / "c")
    with pytest.raises(ModelError, match="cannot be reached"):
        preflight(dead)
    with pytest.raises(ModelError, match="no key is set"):
        preflight(open_model(ModelChoice(name, "test"), account, cache_folder=tmp_path / "c"))


def test_a_money_limit_needs_a_known_price(server: LoopbackModel, tmp_path: Path) -> None:
    with Ledger(tmp_path / "calls.jsonl", Limits(max_cost_usd=1)) as ledger:
        choice = ModelChoice("openai/loopback", "test", server.url)
        with pytest.raises(ModelError, match="price is not known"):
            preflight(open_model(choice, ledger.account("s"), cache_folder=tmp_path / "c"))


def test_what_an_envelope_tells_of_a_model(model: RecordedLM) -> None:
    assert parameters_of(model.copy(temperature=0.5)) == {"temperature": 0.5}
    assert type(adapter_for(model)).__name__ == "ChatAdapter"


def test_the_loopback_model_speaks_json_and_learns_from_demos(model: RecordedLM, server: LoopbackModel) -> None:
    server.answer = Skilled(lambda _: {"answer": "right"}, lambda _: {"answer": "wrong"}, base=0.0, per_demo=1.0)
    program = dspy.Predict("question -> answer")
    with dspy.context(lm=model, adapter=dspy.JSONAdapter()):
        assert program(question="a").answer == "wrong"
        program.demos = [dspy.Example(question="b", answer="c")]
        assert program(question="a").answer == "right"
    assert server.prompts[0].inputs == {"question": "a"}
