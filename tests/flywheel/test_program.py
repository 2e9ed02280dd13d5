from __future__ import annotations

import dataclasses
import json
from typing import Any

import dspy
import pydantic
import pytest

from flywheel.base.errors import BadInputError, DamagedError
from flywheel.base.programs import Program, ProgramField, ProgramScores
from flywheel.data.signatures import BUILT_IN, Choice, Field, ListOf, Measure, Record, Signature
from flywheel.learning.program import build_program, fields_of, from_envelope, instructions_of, plain, to_envelope

BY_NAME = {signature.name: signature for signature in BUILT_IN}
GUIDANCE = BY_NAME["generate_guidance"]
COMPLETENESS = BY_NAME["validate_completeness"]
ITEM = {
    "title": "Log every reset", "description": "Write a line in auth.py", "priority": "low",
    "code_example": "log()", "estimated_effort": "1 hour",
}  # fmt: skip
FACTS: dict[str, Any] = {
    "adapter": "ChatAdapter", "model": "m", "model_snapshot": None, "model_parameters": {}, "optimizer": "miprov2",
    "seed": 0, "dataset_version": "v20260101_000000", "dataset_hash": "h", "run_id": "run_20260101_000000",
    "created": "2026-01-01T00:00:00+00:00", "scores": ProgramScores(0.4, 0.5, 25.0, (1.0, 40.0), 50),
}  # fmt: skip
SCALARS = Signature(
    name="all_kinds",
    inputs=(Field("text", "str", "A text"), Field("share", "float", "A share")),
    outputs=(
        Field("level", Choice(("high", "low")), "A word"),
        Field("grade", "int", "A grade", low=1, high=5),
        Field("parts", ListOf(Record((Field("name", "str", "A name"), Field("done", "bool", "Done?")))), "Parts"),
    ),
    instructions="Do it.",
    metric=(Measure("accuracy", "level", 1.0),),
    project=lambda _: None,
)


def tuned(signature: Signature, demo: dict[str, Any], instructions: str = "Do it well.") -> Any:
    program = build_program(signature)
    program.signature = program.signature.with_instructions(instructions)
    program.demos = [dspy.Example(**demo, augmented=True)]
    return program


def guidance_demo() -> dict[str, Any]:
    program = build_program(GUIDANCE)
    (item,) = program.signature.output_fields["guidance"].annotation.__args__
    findings = {"missing_requirements": ["Log every reset"], "correctness_issues": []}
    return {"review_findings": findings, "guidance": [item(**ITEM)], "explanation": "Start with it."}


@pytest.mark.parametrize("signature", [*BUILT_IN, SCALARS], ids=lambda s: s.name)
def test_programs_have_the_signatures_fields_and_words(signature: Signature) -> None:
    program = build_program(signature)
    assert list(program.signature.input_fields) == [f.name for f in signature.inputs]
    assert list(program.signature.output_fields) == [f.name for f in signature.outputs]
    assert instructions_of(program) == signature.instructions
    described = {f.name: f.description for f in (*signature.inputs, *signature.outputs)}
    for name, info in program.signature.fields.items():
        assert info.json_schema_extra["desc"] == described[name]


def adapter_of(fields: Any, name: str) -> pydantic.TypeAdapter[Any]:
    annotation: Any = fields[name].annotation
    return pydantic.TypeAdapter(annotation)


def test_kinds_become_types_that_check() -> None:
    outputs: Any = build_program(SCALARS).signature.output_fields
    with pytest.raises(pydantic.ValidationError):
        adapter_of(outputs, "level").validate_python("middling")
    parts = adapter_of(outputs, "parts").validate_python([{"name": "a", "done": True}])
    assert plain(parts) == [{"name": "a", "done": True}]
    assert "5" in outputs["grade"].json_schema_extra["constraints"]


def test_fields_are_listed_in_order_with_role_and_type() -> None:
    assert fields_of(COMPLETENESS)[:3] == (
        ProgramField("implementation", "input", "str", "What was done: a summary or a diff"),
        ProgramField("requirements", "input", "list[str]", "What was asked for"),
        ProgramField("is_complete", "output", "bool", COMPLETENESS.outputs[0].description),
    )


def test_an_envelope_comes_back_as_it_went() -> None:
    envelope = to_envelope(tuned(GUIDANCE, guidance_demo()), GUIDANCE, **FACTS)
    assert envelope.instructions == "Do it well."
    assert envelope.demos[0]["guidance"] == [ITEM]
    assert "augmented" not in envelope.demos[0]
    again = Program.from_object(json.loads(envelope.to_json()), "memory")
    program = from_envelope(again, GUIDANCE)
    assert instructions_of(program) == "Do it well."
    assert program.lm is None
    assert to_envelope(program, GUIDANCE, **FACTS) == envelope
    messages = dspy.ChatAdapter().format(program.signature, program.demos, {"review_findings": {}})
    assert "Log every reset" in messages[2]["content"]


def test_an_envelope_holds_no_key_and_nothing_of_the_run() -> None:
    program = tuned(COMPLETENESS, {"implementation": "i", "requirements": ["r"]})
    program.set_lm(dspy.LM("openai/x", api_key="sk-secret", api_base="http://internal/v1"))
    program.traces = [object()]
    text = to_envelope(program, COMPLETENESS, **FACTS).to_json()
    assert "sk-secret" not in text
    assert "internal" not in text


def test_what_json_cannot_hold_is_refused() -> None:
    program = tuned(COMPLETENESS, {"implementation": object(), "requirements": ["r"]})
    with pytest.raises(BadInputError, match="validate_completeness"):
        to_envelope(program, COMPLETENESS, **FACTS)


@pytest.fixture
def envelope() -> Program:
    demo = {"implementation": "i", "requirements": ["r"], "is_complete": True, "missing_requirements": []}
    return to_envelope(tuned(COMPLETENESS, {**demo, "explanation": "e"}), COMPLETENESS, **FACTS)


def test_another_signatures_program_is_refused(envelope: Program) -> None:
    with pytest.raises(BadInputError, match="not of validate_correctness"):
        from_envelope(envelope, BY_NAME["validate_correctness"])


@pytest.mark.parametrize(
    "change", [{"name": "complete"}, {"type": "str"}, {"role": "input"}], ids=["name", "type", "role"]
)
def test_other_fields_are_refused(envelope: Program, change: dict[str, str]) -> None:
    fields = list(envelope.fields)
    fields[2] = dataclasses.replace(fields[2], **change)
    with pytest.raises(BadInputError, match="other fields"):
        from_envelope(dataclasses.replace(envelope, fields=tuple(fields)), COMPLETENESS)


def test_fields_in_another_order_are_refused(envelope: Program) -> None:
    with pytest.raises(BadInputError, match="order"):
        from_envelope(dataclasses.replace(envelope, fields=envelope.fields[::-1]), COMPLETENESS)


@pytest.mark.parametrize(
    "change",
    [
        {"lm": {"model": "openai/x"}},
        {"traces": 1, "extra": 2},
        {"demos": [{"author": "x"}]},
        {"demos": []},
        {"signature": {"instructions": "Other.", "fields": []}},
        {"signature": None},
    ],
)
def test_a_state_that_disagrees_with_its_envelope_is_damaged(envelope: Program, change: dict[str, Any]) -> None:
    with pytest.raises(DamagedError):
        from_envelope(dataclasses.replace(envelope, state={**envelope.state, **change}), COMPLETENESS)
