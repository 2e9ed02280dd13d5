"""What `render` prints is what a call sends, for every program in the golden file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dspy
import pytest
from tests.loopback import LoopbackModel
from tests.vectors import generate_rendering

from flywheel.base.errors import BadInputError
from flywheel.base.programs import Program
from flywheel.data.signatures import BUILT_IN
from flywheel.learning.program import from_envelope, plain_envelope
from flywheel.learning.rendering import ADAPTERS, placeholders, render_call

GOLDEN = Path(__file__).resolve().parents[1] / "vectors" / "rendering.json"
CASES: list[dict[str, Any]] = json.loads(GOLDEN.read_text())
BY_NAME = {signature.name: signature for signature in BUILT_IN}


def test_the_golden_file_is_what_the_generator_writes() -> None:
    assert GOLDEN.read_text() == generate_rendering.text()
    assert len(CASES) == 3 * len(BUILT_IN)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_call_sends_exactly_the_rendered_messages(case: dict[str, Any]) -> None:
    envelope = Program.from_object(case["program"], case["name"])
    signature = BY_NAME[envelope.signature]
    assert render_call(envelope, signature, case["inputs"]) == case["messages"]
    with LoopbackModel(lambda _: {}) as model:
        lm = dspy.LM("openai/loopback", api_base=model.url, api_key="k", cache=False, num_retries=0)
        adapter = ADAPTERS[envelope.adapter]()
        program = from_envelope(envelope, signature)
        with (
            dspy.context(lm=lm, adapter=adapter, warn_on_type_mismatch=False),
            pytest.raises(dspy.utils.exceptions.AdapterParseError),
        ):
            program(**case["inputs"])
        assert model.prompts[0].body["messages"] == case["messages"]


def test_the_order_in_which_inputs_are_given_does_not_matter() -> None:
    case = next(case for case in CASES if len(case["inputs"]) > 2)
    envelope = Program.from_object(case["program"], case["name"])
    turned = dict(reversed(case["inputs"].items()))
    assert render_call(envelope, BY_NAME[envelope.signature], turned) == case["messages"]


def test_inputs_of_another_signature_are_refused() -> None:
    signature = BY_NAME["extract_requirements"]
    for inputs in ({}, {"user_intent": "x"}, {"user_intent": "x", "context": "", "more": 1}):
        with pytest.raises(BadInputError, match="takes exactly user_intent, context"):
            render_call(plain_envelope(signature), signature, inputs)


def test_an_unknown_adapter_is_named() -> None:
    signature = BY_NAME["extract_requirements"]
    with pytest.raises(BadInputError, match="adapter 'Mine' is none of ChatAdapter, JSONAdapter"):
        render_call(plain_envelope(signature, adapter="Mine"), signature, placeholders(signature))
