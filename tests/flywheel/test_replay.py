"""A run that was killed goes on: with a second ledger on the same file, as a new process has one."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import dspy
import pytest
from dspy.utils.exceptions import LMAuthError, LMInvalidRequestError, LMServerError
from hypothesis import given
from hypothesis import strategies as st
from tests.loopback import LoopbackModel

from flywheel.base.errors import DamagedError
from flywheel.learning.call_facts import failure_kind, failure_of
from flywheel.learning.choice import ModelChoice
from flywheel.learning.ledger import BudgetExhausted, Call, DeadlinePassed, Ledger, Limits, read_calls
from flywheel.learning.lm import RecordedLM, context_of, open_model
from flywheel.learning.replay import ModelRefused, Replay, read_decisions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STAGE = "optimize"


@pytest.fixture
def server() -> Iterator[LoopbackModel]:
    with LoopbackModel(lambda prompt: {"answer": prompt.inputs["question"].upper()}) as model:
        yield model


class Life:
    """One process's life of a run: its ledger and its model, on the run's own files."""

    def __init__(self, folder: Path, server: LoopbackModel, limits: Limits | None = None) -> None:
        self.ledger = Ledger(folder / "calls.jsonl", limits)
        self._folder, self._server = folder, server
        self.turn_to("ask")

    def turn_to(self, signature: str) -> None:
        """Go on with a signature, which has a cache of its own."""
        self.model: RecordedLM = open_model(
            ModelChoice("openai/loopback", "test", self._server.url),
            self.ledger.account(signature),
            cache_folder=self._folder / "cache" / signature,
        ).copy(retries=0)

    def ask(self, question: str, stage: str = STAGE) -> str:
        adapter = dspy.ChatAdapter(use_json_adapter_fallback=False)
        with self.model.account.stage(stage), context_of(self.model), dspy.context(adapter=adapter):
            return str(dspy.Predict("question -> answer")(question=question).answer)

    def lines(self) -> list[Call]:
        return list(read_calls(self.ledger.path))


def test_spend_before_the_kill_counts_and_what_was_answered_is_free(server: LoopbackModel, tmp_path: Path) -> None:
    first = Life(tmp_path, server)
    assert [first.ask(q) for q in "ab"] == ["A", "B"]
    second = Life(tmp_path, server, Limits(max_calls=2))
    assert second.ledger.totals() == first.ledger.totals()
    assert [second.ask(q) for q in "ab"] == ["A", "B"], "a spent budget does not end a replay"
    with pytest.raises(BudgetExhausted):
        second.ask("c")
    assert server.calls == 2
    assert second.ledger.totals().calls == 2
    assert second.ledger.totals().cached_calls == 2


def test_what_another_signature_was_answered_is_asked_within_the_limits(server: LoopbackModel, tmp_path: Path) -> None:
    life = Life(tmp_path, server, Limits(max_calls=2))
    life.ask("a")
    life.turn_to("another")
    life.ask("a")
    assert (server.calls, life.ledger.totals().calls) == (2, 2)
    life.turn_to("third")
    with pytest.raises(BudgetExhausted):
        life.ask("a")
    assert server.calls == 2


def test_a_call_that_was_killed_before_its_line_is_counted_once(server: LoopbackModel, tmp_path: Path) -> None:
    first = Life(tmp_path, server)
    first.ask("a")
    first.ask("b")
    (tmp_path / "calls.jsonl").write_text("".join(f"{line}\n" for line in _texts(tmp_path)[:1]))
    second = Life(tmp_path, server)
    for question in "abb":
        second.ask(question)
    assert server.calls == 2
    assert second.ledger.totals().calls == 2
    assert second.ledger.totals().tokens == first.ledger.totals().tokens > 0
    assert [call.cached for call in second.lines()] == [False, True, False, True]


def _texts(folder: Path) -> list[str]:
    return (folder / "calls.jsonl").read_text().splitlines()


def test_a_failure_for_good_is_raised_again_without_a_call(server: LoopbackModel, tmp_path: Path) -> None:
    first = Life(tmp_path, server)
    server.fail(400, times=2)
    for _ in range(2):
        with pytest.raises(LMInvalidRequestError):
            first.ask("a")
    assert first.ask("a") == "A", "within one life it is asked again, as ever"
    second = Life(tmp_path, server)
    for _ in range(2):
        with pytest.raises(LMInvalidRequestError) as found:
            second.ask("a")
        assert found.value.status == 400
    assert second.ask("a") == "A"
    assert server.calls == 3
    assert second.ledger.totals().errors == 2


def test_a_stop_comes_again_at_the_same_request(server: LoopbackModel, tmp_path: Path) -> None:
    first = Life(tmp_path, server)
    first.ask("a")
    first.ledger.limits = Limits(deadline=time.monotonic() - 1)
    assert first.ask("a") == "A", "the cache answers past a deadline"
    with pytest.raises(DeadlinePassed):
        first.ask("b")
    first.ledger.limits = Limits()
    assert first.ask("b", "test") == "B"
    second = Life(tmp_path, server)
    assert second.ask("a") == "A"
    for question in "bc":
        with pytest.raises(DeadlinePassed, match="the run's time is over"):
            second.ask(question)
    assert second.ask("b", "test") == "B"
    assert second.ask("c", "test") == "C"
    assert server.calls == 3


def test_a_closed_ledger_admits_nothing(server: LoopbackModel, tmp_path: Path) -> None:
    life = Life(tmp_path, server)
    life.ledger.close()
    with pytest.raises(BaseException, match="the run has ended"):
        life.ask("a")
    assert server.calls == 0
    assert not list(read_decisions(tmp_path / "decisions.jsonl")), "an end is no decision"


@pytest.mark.parametrize(("status", "kind"), [(401, LMAuthError), (500, LMServerError)])
def test_the_first_call_of_a_resumed_run_is_its_preflight(
    server: LoopbackModel, tmp_path: Path, status: int, kind: type[Exception]
) -> None:
    life = Life(tmp_path, server)
    life.ledger.replay.unproven = True
    server.fail(status)
    for _ in range(2):
        with pytest.raises(ModelRefused) as found:
            life.ask("a")
        assert isinstance(found.value.error, kind)
    assert server.calls == 1
    server.heal()
    assert Life(tmp_path, server).ask("a") == "A", "it is not held against the request"


def test_a_refused_request_says_nothing_of_the_server(server: LoopbackModel, tmp_path: Path) -> None:
    life = Life(tmp_path, server)
    life.ledger.replay.unproven = True
    server.fail(400, times=1)
    with pytest.raises(LMInvalidRequestError):
        life.ask("a")
    assert life.ask("b") == "B"
    server.fail(500, times=1)
    with pytest.raises(LMServerError):
        life.ask("c")


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 529])
def test_a_failure_is_told_and_made_again_alike(server: LoopbackModel, tmp_path: Path, status: int) -> None:
    server.fail(status)
    with pytest.raises(dspy.utils.exceptions.LMError) as found:
        Life(tmp_path, server).ask("a")
    again = failure_of(failure_kind(found.value), "openai/loopback")
    assert (type(again), again.status) == (type(found.value), found.value.status)


def test_another_address_is_the_same_request(server: LoopbackModel, tmp_path: Path) -> None:
    Life(tmp_path, server).ask("a")
    with LoopbackModel(lambda _: {"answer": "?"}) as elsewhere:
        assert Life(tmp_path, elsewhere).ask("a") == "A"
        assert elsewhere.calls == 0


def test_what_was_decided_is_decided_alike(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    first = Replay((), path)
    assert first.decided("s", "late after trial 3", lambda: True) is True
    assert first.decided("s", "late after trial 3", lambda: False) is True
    assert first.decided("t", "late after trial 3", lambda: {"a": [1, None]}) == {"a": [1, None]}
    with path.open("a") as stream:
        stream.write('{"signature": "torn')
    second = Replay((), path)
    assert second.decided("s", "late after trial 3", lambda: False) is True
    assert second.decided("t", "late after trial 3", lambda: None) == {"a": [1, None]}
    path.write_text(json.dumps({"signature": "s"}) + "\n")
    with pytest.raises(DamagedError, match="line 1"):
        Replay((), path)


CALL: dict[str, Any] = {
    "time": "t", "stage": STAGE, "signature": "s", "model": "m", "input_tokens": 1, "output_tokens": 1, "cached": False,
    "cost_usd": None, "latency_ms": 1.0,
}  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([None, "LMServerError 500"])), max_size=20))
def test_failures_come_in_order_and_each_once(events: list[tuple[str, str | None]]) -> None:
    calls = [Call(**CALL, key=key, error=error) for key, error in events]
    replay = Replay(calls, _NOWHERE)
    for key in "abc":
        expected = [error for name, error in events if name == key and error]
        assert [replay.failure(key, "s") for _ in expected] == expected
        assert replay.failure(key, "s") is None
        assert replay.knows(key, "s", STAGE) is any(name == key and not error for name, error in events)
        assert replay.failure(key, "another") is None
        assert replay.knows(key, "another", STAGE) is False


class _Nowhere:
    """A path at which there is no file."""

    def is_file(self) -> bool:
        return False


_NOWHERE: Any = _Nowhere()
