"""Our signatures as DSPy programs, and programs as envelopes that another language can read without DSPy.

DSPy's own state holds neither the fields' names nor their types, and it loads into a different signature without a
word; the envelope names them, and `from_envelope` refuses what does not match. Nothing is ever pickled.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import dspy
import pydantic

from flywheel.base.errors import BadInputError, DamagedError
from flywheel.base.programs import Program, ProgramField, ProgramScores
from flywheel.data.signatures.types import SCALARS, Choice, ListOf, Record, type_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from flywheel.data.signatures.types import Field, Kind, Signature

PLAIN = "plain"
_STATE_KEYS = frozenset({"traces", "train", "demos", "signature", "lm"})
_DEMO_MARKS = frozenset({"augmented"})


def python_type(kind: Kind, name: str = "Item") -> Any:
    """The Python type of a kind: the one table by which names of types become types."""
    if isinstance(kind, ListOf):
        return list[python_type(kind.item, name)]  # type: ignore[misc] # built at run time
    if isinstance(kind, Choice):
        return Literal[kind.values]
    if isinstance(kind, Record):
        return _record_type(kind, name)
    return SCALARS[kind]


def _record_type(kind: Record, name: str) -> type[pydantic.BaseModel]:
    fields: dict[str, Any] = {
        f.name: (python_type(f.kind, _title(f.name)), pydantic.Field(description=f.description)) for f in kind.fields
    }
    made: type[pydantic.BaseModel] = pydantic.create_model(_title(name), **fields)
    return made


def _title(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _typed(field: Field, make: Any) -> tuple[Any, Any]:
    """The field for DSPy; bounds of a number go into its prompt, but an answer outside them still parses."""
    bounds = {"ge": field.low, "le": field.high} if field.kind in {"int", "float"} else {}
    given = {key: value for key, value in bounds.items() if value is not None}
    return python_type(field.kind, field.name), make(desc=field.description, **given)


def build_program(signature: Signature) -> Any:
    """A fresh `dspy.Predict` for the signature, without demos."""
    fields = {f.name: _typed(f, dspy.InputField) for f in signature.inputs}
    fields |= {f.name: _typed(f, dspy.OutputField) for f in signature.outputs}
    return dspy.Predict(dspy.make_signature(fields, signature.instructions, _title(signature.name)))


def fields_of(signature: Signature) -> tuple[ProgramField, ...]:
    """The signature's fields as an envelope lists them, in order."""
    sides = (("input", signature.inputs), ("output", signature.outputs))
    return tuple(
        ProgramField(field.name, role, type_name(field.kind), field.description)
        for role, fields in sides
        for field in fields
    )


def plain(value: Any) -> Any:
    """The value as JSON holds it: DSPy's and pydantic's objects become dicts, tuples lists."""
    if isinstance(value, pydantic.BaseModel):
        return value.model_dump(mode="json")
    if hasattr(value, "toDict"):
        return plain(value.toDict())
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def _state(program: Any) -> dict[str, Any]:
    """DSPy's own state without what belongs to the run that made it: traces, training data, model settings."""
    state: dict[str, Any] = plain({**program.dump_state(), "traces": [], "train": [], "lm": None})
    return state


def _demos(state: Mapping[str, Any], names: Iterable[str]) -> tuple[dict[str, Any], ...]:
    known = set(names)
    return tuple({name: value for name, value in demo.items() if name in known} for demo in state["demos"])


def instructions_of(program: Any) -> str:
    """The instructions that the program runs with."""
    return str(program.signature.instructions)


def to_envelope(program: Any, signature: Signature, **facts: Any) -> Program:
    """The program in its envelope; `facts` are the other fields of `Program`, from adapter to scores.

    Raises:
        BadInputError: something in its demos is not JSON.
    """
    fields = fields_of(signature)
    state = _state(program)
    try:
        state = json.loads(json.dumps(state, allow_nan=False))
    except (TypeError, ValueError) as error:
        msg = f"the program for {signature.name} holds what JSON cannot: {error}"
        raise BadInputError(msg) from error
    return Program(
        signature=signature.name,
        fields=fields,
        instructions=state["signature"]["instructions"],
        demos=_demos(state, (field.name for field in fields)),
        state=state,
        **facts,
    )


def plain_envelope(signature: Signature, **facts: Any) -> Program:
    """The program that no optimizer has touched, as an envelope; `facts` as for `to_envelope`, where they matter."""
    unknown: dict[str, Any] = {
        **dict.fromkeys(("model", "dataset_version", "dataset_hash", "run_id", "created"), ""),
        "adapter": "ChatAdapter",
        "model_snapshot": None,
        "model_parameters": {},
        "seed": 0,
        "scores": ProgramScores(baseline=0.0, optimized=0.0, improvement_percent=None, improvement_ci=None, n_test=0),
    }
    return to_envelope(build_program(signature), signature, optimizer=PLAIN, **{**unknown, **facts})


def from_envelope(envelope: Program, signature: Signature) -> Any:
    """The program that the envelope holds, ready to run.

    Raises:
        BadInputError: it was made for another signature, or for other fields of this one.
        DamagedError: its parts contradict each other.
    """
    _refuse_other_fields(envelope, signature)
    state = envelope.state
    _refuse_damaged(envelope, state)
    program = build_program(signature)
    program.load_state(json.loads(json.dumps(state)))
    return program


def _shape(fields: Iterable[ProgramField]) -> list[tuple[str, str, str]]:
    return [(field.role, field.name, field.type) for field in fields]


def _refuse_other_fields(envelope: Program, signature: Signature) -> None:
    if envelope.signature != signature.name:
        msg = f"a program of {envelope.signature}, not of {signature.name}"
        raise BadInputError(msg)
    found, expected = _shape(envelope.fields), _shape(fields_of(signature))
    if found != expected:
        different = [f"{role} {name}: {kind}" for role, name, kind in found if (role, name, kind) not in expected]
        what = "; ".join(different) or "order or missing fields"
        msg = f"a program of {signature.name} with other fields than the signature has now ({what}); optimize it again"
        raise BadInputError(msg)


def _refuse_damaged(envelope: Program, state: dict[str, Any]) -> None:
    names = {field.name for field in envelope.fields}
    try:
        sound = (
            state.keys() == _STATE_KEYS
            and state["lm"] is None
            and len(state["signature"]["fields"]) == len(envelope.fields)
            and state["signature"]["instructions"] == envelope.instructions
            and all(demo.keys() <= names | _DEMO_MARKS for demo in state["demos"])
            and _demos(state, names) == envelope.demos
        )
    except (KeyError, TypeError, AttributeError):
        sound = False
    if not sound:
        msg = f"the program of {envelope.signature}: its state does not agree with its fields, instructions and demos"
        raise DamagedError(msg)
