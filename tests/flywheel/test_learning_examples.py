from __future__ import annotations

import pytest

from flywheel.base.errors import BadInputError
from flywheel.data.examples import Example, Metadata
from flywheel.data.signatures import BUILT_IN
from flywheel.learning.examples import all_to_dspy, to_dspy

COMPLETENESS = next(signature for signature in BUILT_IN if signature.name == "validate_completeness")
RECORD = Example(
    inputs={"implementation": "i", "requirements": ["r"]},
    outputs={"is_complete": False, "missing_requirements": ["r"], "explanation": "e"},
    metadata=Metadata.model_validate({"source": "git", "author": "somebody", "commit_sha": "abc"}),
    id="x1",
    split="train",
)


def test_examples_hold_the_signatures_fields_and_nothing_else() -> None:
    example = to_dspy(RECORD, COMPLETENESS)
    assert example.toDict() == {**RECORD.inputs, **RECORD.outputs}
    assert example.inputs().toDict() == RECORD.inputs
    assert example.labels().toDict() == RECORD.outputs


def test_the_order_is_kept() -> None:
    other = RECORD.model_copy(update={"inputs": {**RECORD.inputs, "implementation": "j"}})
    assert [e.implementation for e in all_to_dspy([RECORD, other], COMPLETENESS)] == ["i", "j"]


def test_a_missing_field_is_named() -> None:
    broken = RECORD.model_copy(update={"outputs": {"is_complete": False}})
    with pytest.raises(BadInputError, match="x1: missing_requirements, explanation missing"):
        to_dspy(broken, COMPLETENESS)
