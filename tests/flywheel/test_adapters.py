"""The chat form that a run uses says what DSPy's own says, and works it out once."""

from __future__ import annotations

import gc
from typing import Any, Literal
from unittest.mock import patch

import dspy
import pydantic
import pytest

from flywheel.data.signatures import BUILT_IN
from flywheel.learning import adapters
from flywheel.learning.adapters import ChatAdapter
from flywheel.learning.program import build_program


def messages(adapter: Any, signature: Any, demos: Any = ()) -> Any:
    inputs = {name: f"<{name}>" for name in signature.input_fields}
    return adapter.format(signature, list(demos), inputs)


@pytest.mark.parametrize("signature", BUILT_IN, ids=lambda signature: signature.name)
def test_messages_are_those_of_dspy(signature: Any) -> None:
    made = build_program(signature).signature
    demo = dspy.Example(**{name: f"a {name}" for name in made.fields})
    changed = [made, made.with_instructions("Do it in another way."), made.delete(next(iter(made.output_fields)))]
    first = next(iter(made.input_fields))
    changed.append(made.with_updated_fields(first, desc="Something else"))
    for one in changed:
        for demos in ((), (demo,)):
            for _ in range(2):
                assert messages(ChatAdapter(), one, demos) == messages(dspy.ChatAdapter(), one, demos)
    # Envelopes name the adapter by its class, for readers that have only DSPy's.
    assert ChatAdapter.__name__ == dspy.ChatAdapter.__name__


def test_a_field_that_is_changed_in_its_place_is_noticed() -> None:
    signature = dspy.make_signature({"a": (str, dspy.InputField()), "b": (str, dspy.OutputField())}, "Do it.", "Odd")
    adapter = ChatAdapter()
    before = adapter.format_field_structure(signature)
    signature.output_fields["b"].annotation = Literal["x", "y"]
    after = adapter.format_field_structure(signature)
    assert after != before
    assert after == dspy.ChatAdapter().format_field_structure(signature)


def test_schemas_are_made_once_for_a_signature_and_forgotten_with_it() -> None:
    signature = dspy.make_signature(
        {"a": (str, dspy.InputField()), "b": (list[int], dspy.OutputField())}, "Do.", "Once"
    )
    adapter = ChatAdapter()
    with patch.object(pydantic.TypeAdapter, "json_schema", autospec=True, side_effect=schema) as made:
        for _ in range(3):
            adapter.format_field_structure(signature)
    assert made.call_count == 1
    known = len(adapters._MADE)
    del signature, made
    gc.collect()
    assert len(adapters._MADE) < known


schema = pydantic.TypeAdapter.json_schema
