"""A `dspy.Signature` of a user's own as one of ours, for a signature file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import pydantic

from flywheel.base.errors import BadInputError
from flywheel.data.signatures.types import SCALARS, Choice, Field, Kind, ListOf, Record, Signature

if TYPE_CHECKING:
    from collections.abc import Mapping

    import dspy

_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_KINDS = {kind: name for name, kind in SCALARS.items()}


def adopt(signature: type[dspy.Signature], **more: Any) -> Signature:
    """The class as a Signature: its fields with their descriptions, its docstring as instructions.

    `more` are the other fields of `Signature`: `metric`, which must be given, and for example `name` (else the class's
    name in lower case, words apart), `label`, `gate` and `project`.

    Raises:
        BadInputError: a field of a type that no envelope can name.
    """
    named = {
        "name": _WORD_START.sub("_", signature.__name__).lower(),
        "inputs": tuple(_field(name, info) for name, info in signature.input_fields.items()),
        "outputs": tuple(_field(name, info) for name, info in signature.output_fields.items()),
        "instructions": signature.instructions,
    }
    return Signature(**{**named, **more})


def _field(name: str, info: Any) -> Field:
    extra: Mapping[str, Any] = info.json_schema_extra or {}
    described = extra.get("desc") or info.description or name
    # DSPy describes an undescribed field as "${name}".
    text = name.replace("_", " ") if described == f"${{{name}}}" else str(described)
    bounds = {key: value for part in info.metadata for key, value in _bound(part)}
    return Field(name, _kind(info.annotation, name), text, **bounds)


def _bound(part: Any) -> list[tuple[str, Any]]:
    found = ((ours, getattr(part, theirs, None)) for ours, theirs in (("low", "ge"), ("high", "le")))
    return [(ours, value) for ours, value in found if value is not None]


def _kind(annotation: Any, name: str) -> Kind:
    """The kind that stands for a Python type: the inverse of `program.python_type`."""
    if annotation in _KINDS:
        return _KINDS[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is list and arguments:
        return ListOf(_kind(arguments[0], name))
    if origin is Literal and all(isinstance(value, str) for value in arguments):
        return Choice(arguments)
    if origin is None and isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return Record(tuple(_field(inner, info) for inner, info in annotation.model_fields.items()))
    msg = (
        f"field {name}: type {annotation!r} cannot be kept in a program that other languages read; use str, bool, int, "
        "float, Literal of strings, list[...] of these, or a pydantic model of them"
    )
    raise BadInputError(msg)
