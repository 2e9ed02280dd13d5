"""The interaction record: one JSON line for each production call, as the Rust adapter's serde writes it too.

The same records feed the A/B metrics and the training data. The only importer of orjson in serving.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

BASELINE_VERSION = "Baseline"
RECORD_ID = "record_id"
# A hundred years; a longer latency is a clock that jumped.
LONGEST_LATENCY_MS = 3.2e12


class Reason(StrEnum):
    """Why a line is no record; counted, never fatal."""

    NOT_JSON = "not_json"
    NOT_AN_OBJECT = "not_an_object"
    MISSING_KEY = "missing_key"
    WRONG_VALUE = "wrong_value"


class Tokens(NamedTuple):
    """What a call consumed; each at least 0."""

    input_tokens: int
    output_tokens: int
    total_tokens: int

    @classmethod
    def of(cls, input_tokens: int, output_tokens: int) -> Tokens:
        """With the total that the two make."""
        return cls(input_tokens, output_tokens, input_tokens + output_tokens)


NO_TOKENS = Tokens(0, 0, 0)


@dataclass(frozen=True, slots=True)
class Interaction:
    """One call. `module_version` is "Baseline" or {"Optimized": version}; `quality_score` 0 .. 1, higher is better.

    `latency_ms` and `cost_usd` are at least 0. `sampled` False says that input and output were left out on purpose;
    `extra` keeps the keys that this version does not know.
    """

    module_name: str
    module_version: str | dict[str, str]
    signature: str
    input: Mapping[str, Any]
    output: Mapping[str, Any]
    timestamp_ms: int
    latency_ms: float
    tokens: Tokens
    cost_usd: float
    model: str
    success: bool
    error: str | None
    metadata: Mapping[str, str]
    experiment_id: str | None = None
    variant: str | None = None
    unit_id: str | None = None
    quality_score: float | None = None
    sampled: bool | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_object(self) -> dict[str, Any]:
        """The record as the line has it; the optional keys are null where nothing is known."""
        return {
            "module_name": self.module_name,
            "module_version": self.module_version,
            "signature": self.signature,
            "input": self.input,
            "output": self.output,
            "timestamp_ms": self.timestamp_ms,
            "latency_ms": self.latency_ms,
            "tokens": self.tokens._asdict(),
            "cost_usd": self.cost_usd,
            "model": self.model,
            "success": self.success,
            "error": self.error,
            "metadata": self.metadata,
            "experiment_id": self.experiment_id,
            "variant": self.variant,
            "unit_id": self.unit_id,
            "quality_score": self.quality_score,
            "sampled": self.sampled,
            **self.extra,
        }


_CHECKED = tuple(name for name in Interaction.__dataclass_fields__ if name != "extra")
_OPTIONAL = frozenset({"experiment_id", "variant", "unit_id", "quality_score", "sampled"})
_REQUIRED = frozenset(_CHECKED) - _OPTIONAL
_KNOWN = frozenset(_CHECKED)
_TOKENS = frozenset(Tokens._fields)


def _is_text(value: object) -> bool:
    return type(value) is str


def _is_object(value: object) -> bool:
    return type(value) is dict


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_amount(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value <= LONGEST_LATENCY_MS  # type: ignore[operator]


def _is_version(value: object) -> bool:
    return value == BASELINE_VERSION or (type(value) is dict and value.keys() == {"Optimized"} and _is_texts(value))


def _is_texts(value: object) -> bool:
    return type(value) is dict and all(type(item) is str for item in value.values())


def _is_tokens(value: object) -> bool:
    return type(value) is dict and value.keys() >= _TOKENS and all(_is_count(value[name]) for name in _TOKENS)


def _is_quality(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1  # type: ignore[operator]


def _is_flag(value: object) -> bool:
    return type(value) is bool


def _or_none(check: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or check(value)


CHECKS: dict[str, Callable[[object], bool]] = {
    "module_name": _is_text,
    "module_version": _is_version,
    "signature": _is_text,
    "input": _is_object,
    "output": _is_object,
    "timestamp_ms": _is_count,
    "latency_ms": _is_amount,
    "tokens": _is_tokens,
    "cost_usd": _is_amount,
    "model": _is_text,
    "success": _is_flag,
    "error": _or_none(_is_text),
    "metadata": _is_texts,
    "experiment_id": _or_none(_is_text),
    "variant": _or_none(_is_text),
    "unit_id": _or_none(_is_text),
    "quality_score": _or_none(_is_quality),
    "sampled": _or_none(_is_flag),
}


def interaction(row: object) -> Interaction | Reason:
    """The record in a decoded line, or why it is none."""
    if type(row) is not dict:
        return Reason.NOT_AN_OBJECT
    if not row.keys() >= _REQUIRED:
        return Reason.MISSING_KEY
    known = {name: row[name] for name in _CHECKED if name in row}
    if not all(CHECKS[name](value) for name, value in known.items()):
        return Reason.WRONG_VALUE
    known["tokens"] = Tokens(*(row["tokens"][name] for name in Tokens._fields))
    return Interaction(**known, extra={name: row[name] for name in row.keys() - _KNOWN})


def parse(line: bytes) -> Interaction | Reason:
    """The record in one line, or why it is none; a torn line is `NOT_JSON`."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return Reason.NOT_JSON
    return interaction(row)


def decode_lines(lines: bytes) -> tuple[list[Any], int]:
    """The decoded lines, and how many of them were no JSON; blank ones don't count."""
    rows: list[Any] = []
    garbled = 0
    for line in lines.split(b"\n"):
        if line and not line.isspace():
            try:
                rows.append(orjson.loads(line))
            except orjson.JSONDecodeError:
                garbled += 1
    return rows, garbled


def _plain(value: object) -> str:
    """A stand-in for what JSON cannot carry, made without running the object's own code."""
    return f"<{type(value).__name__}>"


def encode(value: Mapping[str, Any]) -> bytes:
    """The line of a record's object, with its newline; NaN becomes null.

    Raises:
        ValueError: JSON cannot carry it (circular, nested too deeply).
    """
    try:
        return orjson.dumps(value, _plain, orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)
    except orjson.JSONEncodeError:
        return _encode_slowly(value)


def _encode_slowly(value: Mapping[str, Any]) -> bytes:
    """For lone surrogates (which become question marks) and integers beyond 64 bits."""
    try:
        text = json.dumps(value, default=_plain, skipkeys=True, allow_nan=False, ensure_ascii=False)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return text.encode("utf-8", "replace") + b"\n"
