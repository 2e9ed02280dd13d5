"""Our records as DSPy examples: the signature's fields only, since DSPy shows all others to the model in demos."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dspy

from flywheel.base.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flywheel.data.examples import Example
    from flywheel.data.signatures.types import Signature


def to_dspy(example: Example, signature: Signature) -> Any:
    """The record as a `dspy.Example` whose inputs are set; source, author and the like stay out.

    Raises:
        BadInputError: it lacks a field of the signature.
    """
    sides = ((signature.inputs, example.inputs), (signature.outputs, example.outputs))
    values = {field.name: side.get(field.name) for fields, side in sides for field in fields}
    missing = [name for name, value in values.items() if value is None]
    if missing:
        msg = f"example {example.id or '(no id)'}: {', '.join(missing)} missing, of signature {signature.name}"
        raise BadInputError(msg)
    return dspy.Example(**values).with_inputs(*(field.name for field in signature.inputs))


def all_to_dspy(examples: Iterable[Example], signature: Signature) -> list[Any]:
    """Each record as a `dspy.Example`, in order."""
    return [to_dspy(example, signature) for example in examples]
