"""Does an example's content have the types, bounds and inner consistency that its signature demands?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flywheel.data.signatures.types import SCALARS, Choice, ListOf, Record, type_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from flywheel.data.signatures.types import Field, Kind, Signature

Problem = tuple[str, str]


def problems(signature: Signature, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> Iterator[Problem]:
    """Every violation as (countable reason, detail); none for a sound example.

    Reasons: missing_field, unknown_field, wrong_type, empty_field, out_of_range, length_mismatch,
    contradictory_label.
    """
    yield from _side("inputs", signature.inputs, inputs)
    before_labels = list(_side("outputs", signature.outputs, outputs))
    yield from before_labels
    if not before_labels:
        yield from _label(signature, outputs)


def _side(name: str, fields: Sequence[Field], values: Mapping[str, Any]) -> Iterator[Problem]:
    for field in fields:
        if field.name not in values:
            yield "missing_field", f"{name}.{field.name}: expected {type_name(field.kind)}"
            continue
        yield from _value(f"{name}.{field.name}", field, field.kind, values[field.name])
        if field.one_per is not None:
            yield from _same_length(name, field, values)
    known = {field.name for field in fields}
    for extra in sorted(values.keys() - known):
        yield "unknown_field", f"{name}.{extra}: no field of the signature"


def _same_length(name: str, field: Field, values: Mapping[str, Any]) -> Iterator[Problem]:
    own, other = values[field.name], values.get(field.one_per or "")
    if isinstance(own, list) and isinstance(other, list) and len(own) != len(other):
        yield "length_mismatch", f"{name}.{field.name}: {len(own)} for {len(other)} {field.one_per}"


def _value(path: str, field: Field, kind: Kind, value: object) -> Iterator[Problem]:
    if isinstance(kind, ListOf):
        yield from _list(path, field, kind, value)
    elif isinstance(kind, Choice):
        if value not in kind.values:
            yield "wrong_type", f"{path}: expected one of {type_name(kind)}"
    elif isinstance(kind, Record):
        if isinstance(value, dict):
            yield from _side(path, kind.fields, value)
        else:
            yield "wrong_type", f"{path}: expected {type_name(kind)}, found {type(value).__name__}"
    else:
        yield from _scalar(path, field, kind, value)


def _list(path: str, field: Field, kind: ListOf, value: object) -> Iterator[Problem]:
    if not isinstance(value, list):
        yield "wrong_type", f"{path}: expected {type_name(kind)}, found {type(value).__name__}"
        return
    if len(value) < kind.min_items:
        yield "empty_field", f"{path}: expected at least {kind.min_items} item(s)"
    for index, item in enumerate(value):
        yield from _value(f"{path}[{index}]", field, kind.item, item)


def _scalar(path: str, field: Field, kind: str, value: object) -> Iterator[Problem]:
    expected = SCALARS[kind]
    fits = isinstance(value, expected) or (kind == "float" and isinstance(value, int))
    if not fits or (isinstance(value, bool) and kind != "bool"):
        yield "wrong_type", f"{path}: expected {kind}, found {type(value).__name__}"
    elif isinstance(value, str) and not value.strip() and not field.may_be_empty:
        yield "empty_field", f"{path}: empty"
    elif isinstance(value, int | float) and not isinstance(value, bool):
        low, high = field.low, field.high
        if (low is not None and value < low) or (high is not None and value > high):
            yield "out_of_range", f"{path}: {value} is not within {low}..{high}"


def _label(signature: Signature, outputs: Mapping[str, Any]) -> Iterator[Problem]:
    if signature.label is None or signature.faults is None:
        return
    label, faults = outputs[signature.label], outputs[signature.faults]
    if label == bool(faults):
        yield "contradictory_label", f"{signature.label} is {label}, yet {signature.faults} has {len(faults)} item(s)"
