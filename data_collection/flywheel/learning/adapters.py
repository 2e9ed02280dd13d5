"""How fields are written for a model and read from its answers: DSPy's own chat form, its unchanging part made once.

For every call DSPy derives anew, through pydantic's JSON schemas, what it tells a model of the fields' form. That is
two fifths of what a call takes of the processor, and the same text as long as names and types of the fields are.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import dspy

from flywheel.learning.choice import EMBEDDED

# By the signature: what the text followed from, and the text.
_MADE: WeakKeyDictionary[type, tuple[tuple[Any, ...], str]] = WeakKeyDictionary()


class ChatAdapter(dspy.ChatAdapter):  # type: ignore[misc] # dspy is untyped
    """The same messages as dspy.ChatAdapter's; safe to use from any thread."""

    def format_field_structure(self, signature: type[dspy.Signature]) -> str:
        """What the model is told of the fields' form."""
        sides = signature.input_fields, signature.output_fields
        fields = tuple(tuple((name, field.annotation) for name, field in side.items()) for side in sides)
        made = _MADE.get(signature)
        if made is None or made[0] != fields:
            made = _MADE[signature] = fields, super().format_field_structure(signature)
        return made[1]


def adapter_of(model: str) -> Any:
    """How fields are written and read: schema-bound JSON for the embedded model, else chat (then JSON)."""
    return dspy.JSONAdapter() if model == EMBEDDED else ChatAdapter()
