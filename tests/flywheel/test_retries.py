"""What a RecordedLM does when calls fail in passing, against a loopback model."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import dspy
import pytest
from dspy.utils.exceptions import LMInvalidRequestError, LMServerError
from tests.loopback import LoopbackModel, Prompt

from flywheel.learning.choice import ModelChoice
from flywheel.learning.governor import Caps, Governor
from flywheel.learning.ledger import DeadlinePassed, Ledger, Limits, Totals
from flywheel.learning.lm import RecordedLM, context_of, open_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Timed:
    """Answers, and notes when."""

    def __init__(self) -> None:
        self.moments: list[float] = []

    def __call__(self, _: Prompt) -> dict[str, Any]:
        self.moments.append(time.monotonic())
        return {"answer": "x"}


@pytest.fixture
def server() -> Iterator[LoopbackModel]:
    with LoopbackModel(Timed()) as model:
        yield model


def opened(server: LoopbackModel, ledger: Ledger, folder: Path) -> RecordedLM:
    return open_model(ModelChoice("openai/loopback", "test", server.url), ledger.account("s"), cache_folder=folder)


def ask(model: RecordedLM, question: str) -> None:
    with context_of(model):
        dspy.Predict("question -> answer")(question=question)


def test_a_refusal_pauses_every_thread_and_is_no_failure(server: LoopbackModel, tmp_path: Path) -> None:
    governor = Governor(Caps(concurrency=4))
    with Ledger(tmp_path / "calls.jsonl", gate=governor) as ledger:
        model = opened(server, ledger, tmp_path)
        server.fail(429, times=1, retry_after=1)
        begun = time.monotonic()
        with ThreadPoolExecutor(4) as pool:
            first = pool.submit(ask, model, "refused")
            while governor.pace.rate is None:
                threading.Event().wait(0.005)
            list(pool.map(lambda number: ask(model, str(number)), range(3)))
            first.result()
        assert server.calls == 5
        assert isinstance(server.answer, Timed)
        assert min(server.answer.moments) - begun >= 1.0
        assert ledger.totals() == Totals(4, 0, 0, ledger.totals().input_tokens, ledger.totals().output_tokens, None)


def test_a_waiting_retry_holds_no_place(server: LoopbackModel, tmp_path: Path) -> None:
    with Ledger(tmp_path / "calls.jsonl", gate=Governor(Caps(concurrency=1))) as ledger:
        model = opened(server, ledger, tmp_path)
        # Without a retry-after, a server's failure is its caller's alone: it waits a second.
        server.fail_plainly(503)
        with ThreadPoolExecutor(2) as pool:
            failing = pool.submit(ask, model, "a")
            while server.calls < 1:
                threading.Event().wait(0.005)
            begun = time.monotonic()
            ask(model, "b")
            assert time.monotonic() - begun < 0.9
            failing.result()
        assert server.calls == 3


def test_what_fails_for_good_is_one_failed_call(server: LoopbackModel, tmp_path: Path) -> None:
    with Ledger(tmp_path / "calls.jsonl") as ledger:
        model = opened(server, ledger, tmp_path).copy(retries=2)
        server.fail(500)
        with pytest.raises(LMServerError):
            model("a")
        assert server.calls == 3
        server.fail(400)
        with pytest.raises(LMInvalidRequestError):
            model("b")
        assert server.calls == 4
        assert (ledger.totals().calls, ledger.totals().errors) == (2, 2)


def test_refusals_without_end_end_at_the_deadline(server: LoopbackModel, tmp_path: Path) -> None:
    with Ledger(tmp_path / "calls.jsonl", Limits(deadline=time.monotonic() + 1.5)) as ledger:
        model = opened(server, ledger, tmp_path)
        server.fail(429, retry_after=1)
        with pytest.raises(DeadlinePassed):
            model("a")
        assert 1 <= server.calls <= 3
