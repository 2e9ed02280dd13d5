from __future__ import annotations

from typing import Any, Literal

import dspy
import pydantic
import pytest

from flywheel.base.errors import BadInputError
from flywheel.data.signatures import BUILT_IN
from flywheel.data.signatures.types import Choice, Field, ListOf, Measure, Record, Signature
from flywheel.learning.adoption import adopt
from flywheel.learning.program import build_program, fields_of

METRIC = (Measure("accuracy", "answer", 1.0),)


class Source(pydantic.BaseModel):
    title: str = pydantic.Field(description="Its title")
    pages: list[int]


class AnswerFAQQuestion(dspy.Signature):  # type: ignore[misc]  # DSPy is untyped
    """Answer from the sources."""

    question: str = dspy.InputField(desc="What is asked")
    sources: list[Source] = dspy.InputField()
    answer: Literal["yes", "no"] = dspy.OutputField(desc="The answer")
    confidence: float = dspy.OutputField(desc="How sure", ge=0, le=1)


SOURCE = Record((Field("title", "str", "Its title"), Field("pages", ListOf("int"), "pages")))


def test_names_types_descriptions_bounds_and_instructions_are_taken_over() -> None:
    assert adopt(AnswerFAQQuestion, metric=METRIC) == Signature(
        name="answer_faq_question",
        inputs=(
            Field("question", "str", "What is asked"),
            Field(
                "sources",
                ListOf(Record((Field("title", "str", "Its title"), Field("pages", ListOf("int"), "pages")))),
                "sources",
            ),
        ),
        outputs=(
            Field("answer", Choice(("yes", "no")), "The answer"),
            Field("confidence", "float", "How sure", low=0, high=1),
        ),
        instructions="Answer from the sources.",
        metric=METRIC,
    )


@pytest.mark.parametrize("signature", BUILT_IN, ids=lambda signature: signature.name)
def test_what_is_built_of_a_signature_is_adopted_as_the_same(signature: Signature) -> None:
    again = adopt(build_program(signature).signature, name=signature.name, metric=signature.metric)
    assert fields_of(again) == fields_of(signature)
    assert again.instructions == signature.instructions


@pytest.mark.parametrize("kind", [dict[str, int], Any, bytes, str | None, list, Literal[1, 2]])
def test_a_type_that_no_envelope_can_name_is_refused_by_name(kind: Any) -> None:
    made = dspy.make_signature({"q": (str, dspy.InputField()), "odd": (kind, dspy.OutputField())}, "Do it.")
    with pytest.raises(BadInputError, match="field odd"):
        adopt(made, metric=METRIC, name="x")
