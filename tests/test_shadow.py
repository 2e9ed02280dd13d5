"""Recorded calls replayed through both programs before any user meets the candidate, against a real loopback model."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.loopback import LoopbackModel, Prompt
from tests.rollouts import SIGNATURE, Desk

from ab_testing_framework import main
from flywheel.base.errors import BadInputError, DamagedError
from flywheel.base.programs import ProgramScores, publish
from flywheel.data.signatures import extract_requirements
from flywheel.learning.pairwise import sign_p
from flywheel.learning.program import build_program, to_envelope
from flywheel.serving.records import Interaction, Tokens
from flywheel.serving.telemetry import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from flywheel.data.signatures.types import Signature

EXP = ("--experiment-id", "exp")
GOOD = {"requirements": ["Log every login"], "priorities": [9]}


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    for name in ("FLYWHEEL_MODEL", "FLYWHEEL_API_BASE", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return Desk(tmp_path, capsys)


@pytest.fixture
def model() -> Iterator[LoopbackModel]:
    with LoopbackModel(asked(lambda _: GOOD)) as model:
        yield model


def asked(answer: Callable[[Prompt], Any]) -> Callable[[Prompt], Any]:
    """What the model says to programs; whether it is there at all is asked first, with a question of its own."""
    return lambda prompt: {"answer": "Paris"} if prompt.outputs == ["answer"] else answer(prompt)


def signature() -> Signature:
    return extract_requirements.SIGNATURE


def program(desk: Desk, words: str) -> Path:
    """A stored program whose instructions say which one it is."""
    made = build_program(signature())
    made.signature = made.signature.with_instructions(words)
    envelope = to_envelope(
        made,
        signature(),
        adapter="ChatAdapter",
        model="openai/loopback",
        model_snapshot=None,
        model_parameters={},
        optimizer="mipro",
        seed=0,
        dataset_version="v20260101_000000",
        dataset_hash="h",
        run_id="run_20260101_000000",
        created="2026-01-01T00:00:00+00:00",
        scores=ProgramScores(0.4, 0.5, 25.0, (1.0, 40.0), 50),
    )
    return publish(desk.root / "programs", envelope, desk.clock().date)


def record(desk: Desk, count: int, *, version: str = "other", quality: float | None = 0.9, **changes: Any) -> None:
    recorder = Recorder(desk.root / "telemetry", sample_percent=100, flush_seconds=3600)
    for number in range(count):
        call = {
            "module_name": SIGNATURE,
            "module_version": {"Optimized": version},
            "signature": SIGNATURE,
            "input": {"user_intent": f"Log logins of app {number}", "context": "A web shop", "trace": "x"},
            "output": GOOD,
            "timestamp_ms": desk.clock.wall_ms + number,
            "latency_ms": 5.0,
            "tokens": Tokens.of(1, 1),
            "cost_usd": 0.0,
            "model": "m",
            "success": True,
            "error": None,
            "metadata": {},
            "unit_id": f"user-{number}",
            "quality_score": quality,
        }
        recorder.record(Interaction(**{**call, **changes}))
    recorder.flush()


def start(desk: Desk, model: LoopbackModel, *more: str, candidates: int = 1) -> tuple[int, Any]:
    baseline = program(desk, "Be the baseline.")
    named = [str(program(desk, f"Be candidate {n}.")) for n in range(1, candidates + 1)]
    flags = [item for path in named for item in ("--candidate", path)]
    ask = ("--model", "openai/loopback", "--api-base", model.url, *desk.folders)
    desk.capsys.readouterr()
    code = main(["start", *EXP, "--signature", SIGNATURE, "--baseline", str(baseline), *flags, *ask, *more], desk.clock)
    return code, json.loads(desk.capsys.readouterr().out)


def candidate_asks(prompt: Prompt, number: int = 1) -> bool:
    return f"Be candidate {number}." in prompt.system


def test_a_harmless_candidate_goes_on_with_its_report(desk: Desk, model: LoopbackModel) -> None:
    record(desk, 15)
    code, shown = start(desk, model, "--shadow", "12")
    assert (code, shown["status"], desk.share()) == (0, "running", 10)
    report = desk.record()["shadow"]
    assert shown["shadow"] == report
    assert (report["records"], report["model"], report["harmful"], report["stopped"]) == (
        12,
        "openai/loopback",
        {},
        None,
    )
    found = report["candidates"]["candidate"]
    assert (found["pairs"], found["labelled"], found["agreement"]) == (12, 12, 1.0)
    assert found["score"] == {"baseline": 1.0, "candidate": 1.0}
    assert found["error_rate"] == {"baseline": 0.0, "candidate": 0.0}
    # The newest inputs, each by both programs, and nothing from a cache; one call more asks whether the model answers.
    given = [prompt.inputs["user_intent"] for prompt in model.prompts if "user_intent" in prompt.inputs]
    assert sorted(given) == sorted([f"Log logins of app {n}" for n in range(3, 15)] * 2)
    assert report["lm_calls"] == model.calls == 25


def test_the_programs_take_turns_at_being_first(desk: Desk, model: LoopbackModel) -> None:
    record(desk, 10)
    start(desk, model, "--shadow", "10")
    first: dict[str, bool] = {}
    for prompt in model.prompts:
        if "user_intent" in prompt.inputs:
            first.setdefault(prompt.inputs["user_intent"], candidate_asks(prompt))
    assert 2 <= sum(first.values()) <= 8


def test_a_candidate_whose_answers_cannot_be_read_is_refused(desk: Desk, model: LoopbackModel) -> None:
    record(desk, 15, quality=None)
    model.answer = asked(lambda prompt: "no fields at all" if candidate_asks(prompt) else GOOD)
    code, shown = start(desk, model, "--shadow", "15")
    assert (code, shown["status"], shown["final_status"]) == (1, "failed", "failed")
    assert shown["shadow"]["harmful"] == {"candidate": ["error_rate_delta > 0.05"]}
    assert shown["shadow"]["candidates"]["candidate"]["error_rate"] == {"baseline": 0.0, "candidate": 1.0}
    assert shown["shadow"]["candidates"]["candidate"]["labelled"] == 0
    assert desk.record()["history"][-1]["reason"] == "shadow: candidate: error_rate_delta > 0.05"
    # No user met it, and the signature is free for another.
    assert not desk.routing_path.exists()
    model.answer = asked(lambda _: GOOD)
    other = program(desk, "Be better.")
    names = ("--signature", SIGNATURE, "--baseline", str(program(desk, "b")), "--candidate", str(other))
    desk.run("start", "--experiment-id", "next", *names)


def test_a_model_that_fails_for_both_is_no_reason(desk: Desk, model: LoopbackModel) -> None:
    record(desk, 15)
    model.answer = asked(lambda _: "no fields at all")
    code, shown = start(desk, model, "--shadow", "15")
    assert (code, shown["status"], shown["shadow"]["harmful"]) == (0, "running", {})
    assert shown["shadow"]["candidates"]["candidate"]["agreement"] is None


def test_a_slow_candidate_is_refused(desk: Desk, model: LoopbackModel) -> None:
    record(desk, 12)

    def answer(prompt: Prompt) -> Any:
        if candidate_asks(prompt):
            time.sleep(0.15)
        return GOOD

    model.answer = asked(answer)
    settings = desk.root / "config.json"
    settings.write_text(json.dumps({"latency_delta_ms": 50}))
    code, shown = start(desk, model, "--shadow", "12", "--config", str(settings))
    assert (code, shown["shadow"]["harmful"]) == (1, {"candidate": ["latency_delta_ms > 50"]})


def test_worse_answers_than_labels_of_others_are_refused_and_than_the_baselines_own_are_not(
    desk: Desk, model: LoopbackModel
) -> None:
    record(desk, 15)
    wrong = {"requirements": ["Paint it blue"], "priorities": [1]}
    model.answer = asked(lambda prompt: wrong if candidate_asks(prompt) else GOOD)
    code, shown = start(desk, model, "--shadow", "15")
    assert (code, shown["shadow"]["harmful"]) == (1, {"candidate": ["quality_score < 0.70"]})
    for path in (desk.root / "telemetry").glob("*.jsonl"):
        path.unlink()
    record(desk, 15, module_version="Baseline")
    desk.run("reset")
    code, shown = start(desk, model, "--shadow", "15")
    found = shown["shadow"]["candidates"]["candidate"]
    assert (code, found["labelled"], found["score"]["candidate"]) == (0, 0, None)
    assert found["agreement"] < 0.5


def test_of_several_a_harmful_one_is_named(desk: Desk, model: LoopbackModel) -> None:
    record(desk, 20)
    model.answer = asked(lambda prompt: "nothing" if candidate_asks(prompt, 2) else GOOD)
    code, shown = start(desk, model, "--shadow", "20", candidates=2)
    assert (code, list(shown["shadow"]["harmful"])) == (1, ["candidate_2"])
    assert set(shown["shadow"]["candidates"]) == {"candidate", "candidate_2"}


def refused(desk: Desk, model: LoopbackModel, *more: str) -> str:
    with pytest.raises(BadInputError) as caught:
        start(desk, model, *more)
    assert not desk.routing_path.exists()
    return str(caught.value)


def test_too_few_recorded_calls_are_told(desk: Desk, model: LoopbackModel) -> None:
    record(desk, 15, input={})
    record(desk, 3)
    assert "3 of 3 recorded calls can be replayed, at least 10" in refused(desk, model, "--shadow", "50")
    assert model.calls == 0


def test_inputs_that_do_not_fit_are_left_out(desk: Desk, model: LoopbackModel) -> None:
    record(desk, 12)
    for number in range(5):
        record(desk, 1, input={"user_intent": number, "context": "a number is no text"})
        record(desk, 1, input={"context": f"no intent {number}"})
    record(desk, 3, signature="validate_intent")
    _, shown = start(desk, model, "--shadow", "50")
    assert shown["shadow"]["records"] == 12


def test_a_limit_ends_the_replay_with_what_it_has(desk: Desk, model: LoopbackModel) -> None:
    record(desk, 15)
    assert "limit" in refused(desk, model, "--shadow", "15", "--max-calls", "9")
    code, shown = start(desk, model, "--shadow", "15", "--max-calls", "27")
    assert code == 0
    assert 10 <= shown["shadow"]["candidates"]["candidate"]["pairs"] < 15
    assert shown["shadow"]["stopped"]
    assert shown["shadow"]["lm_calls"] <= 27


def test_what_cannot_be_replayed_is_refused(desk: Desk, model: LoopbackModel) -> None:
    record(desk, 15)
    ask = ("--model", "openai/loopback", "--api-base", model.url, "--shadow", "12", *desk.folders)
    modules = ("--baseline", str(desk.module("b")), "--candidate", str(desk.module("c")))
    with pytest.raises(DamagedError, match=r"b\.json: not a program envelope"):
        main(["start", *EXP, "--signature", SIGNATURE, *modules, *ask], desk.clock)
    desk.start()
    join = ("--join", "--candidate", str(desk.module("late")))
    with pytest.raises(BadInputError, match="of its own"):
        main(["start", *EXP, "--signature", SIGNATURE, *join, *ask], desk.clock)


@given(st.integers(0, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_sign_test_is_exact(counts: tuple[int, int]) -> None:
    against, pairs = counts
    assert sign_p(0, pairs) == 1
    assert 0 < sign_p(against, pairs) <= 1
    assert sign_p(against, pairs) + sign_p(pairs - against + 1, pairs) == pytest.approx(1)
