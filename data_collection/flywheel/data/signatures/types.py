"""What a signature is: ordered typed fields, instructions, a metric, a gate, and a projection from scenarios."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flywheel.data.scenario import DIFFICULTIES, DIFFICULTY_TARGET

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flywheel.data.scenario import Scenario

SCALARS: dict[str, type] = {"str": str, "bool": bool, "int": int, "float": float}
MEASURES = frozenset({"accuracy", "list_f1", "rank_agreement", "findings_coverage", "well_formed"})
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


@dataclass(frozen=True)
class ListOf:
    """A list of one kind of item; `min_items` 0 lets it be empty."""

    item: Kind
    min_items: int = 0


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    values: tuple[str, ...]


@dataclass(frozen=True)
class Record:
    """An object with fields of its own."""

    fields: tuple[Field, ...]


Kind = str | ListOf | Choice | Record


@dataclass(frozen=True)
class Field:
    """One named input or output.

    `low` and `high` bound its integers, `may_be_empty` allows an empty string, `one_per` names the list field of the
    same side that it must be as long as.
    """

    name: str
    kind: Kind
    description: str
    low: int | None = None
    high: int | None = None
    may_be_empty: bool = False
    one_per: str | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            msg = f"field name {self.name!r}: lower-case letters, digits and _ only"
            raise ValueError(msg)
        if isinstance(self.kind, str) and self.kind not in SCALARS:
            msg = f"field {self.name}: type {self.kind!r} is none of {', '.join(SCALARS)}, ListOf, Choice, Record"
            raise ValueError(msg)


def type_name(kind: Kind) -> str:
    """The kind in words that any language's reader understands: `list[str]`, `{title: str, ...}`, `high | low`."""
    if isinstance(kind, ListOf):
        return f"list[{type_name(kind.item)}]"
    if isinstance(kind, Choice):
        return " | ".join(kind.values)
    if isinstance(kind, Record):
        return "{" + ", ".join(f"{f.name}: {type_name(f.kind)}" for f in kind.fields) + "}"
    return kind


@dataclass(frozen=True)
class Measure:
    """One term of a metric: how well an output field agrees with its label (0-1, higher is better).

    `name` is one of MEASURES, computed in learning/metrics.py; `against` names the input or output field that the
    measure compares with, where that is not the field's own label.
    """

    name: str
    field: str
    weight: float
    against: str | None = None

    def __post_init__(self) -> None:
        if self.name not in MEASURES:
            msg = f"measure {self.name!r} is none of {', '.join(sorted(MEASURES))}"
            raise ValueError(msg)
        if not 0 < self.weight <= 1:
            msg = f"measure {self.name} on {self.field}: weight {self.weight} is not in (0, 1]"
            raise ValueError(msg)


@dataclass(frozen=True)
class Gate:
    """Quality thresholds of a signature's examples; the built-in ones' stand on top of quality_gates.py.

    `min_quality` is 0-100. `difficulty` holds target shares that sum to 1; `tolerance` is how far a share may be off,
    in points / 100. With `check_label`, the signature's `label_share` is held to the same tolerance.
    """

    min_quality: float = 70.0
    difficulty: Mapping[str, float] = field(default_factory=lambda: dict(DIFFICULTY_TARGET))
    check_label: bool = False
    tolerance: float = 0.10
    min_categories: int = 3
    max_source_share: float = 0.80

    def __post_init__(self) -> None:
        _check_range("min_quality", self.min_quality, 0, 100)
        _check_range("tolerance", self.tolerance, 0, 1)
        _check_range("max_source_share", self.max_source_share, 0, 1)
        shares = self.difficulty
        if (
            shares.keys() - set(DIFFICULTIES)
            or min(shares.values(), default=0) < 0
            or abs(sum(shares.values()) - 1) > 1e-9
        ):
            msg = f"gate: difficulty {dict(shares)}: shares of {', '.join(DIFFICULTIES)} that sum to 1"
            raise ValueError(msg)


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        msg = f"gate: {name} {value} is not within {low}..{high}"
        raise ValueError(msg)


def says_nothing(scenario: Scenario) -> None:
    """The projection of a signature that commits and templates say nothing about."""
    del scenario


@dataclass(frozen=True)
class Signature:
    """A task for a language model, and everything the system needs to collect, judge and optimize it.

    `metric` is a tuple of measures whose weights sum to 1, or a callable (inputs, labels, outputs) -> 0-1, higher is
    better. `project` turns a scenario into (inputs, outputs) or None; without it, examples are the user's own. `label`
    is the boolean output that splits are stratified by, where there is one; collectors aim at a share of `label_share`
    true; `faults` is the list output that is empty exactly when the label is true. A gate of None means the table on
    top of quality_gates.py. `judge` is what a model that judges answers (--judge) is to look for; empty asks for none.
    """

    name: str
    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    instructions: str
    metric: tuple[Measure, ...] | Callable[[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]], float]
    project: Callable[[Scenario], tuple[dict[str, Any], dict[str, Any]] | None] = says_nothing
    label: str | None = None
    label_share: float = 0.5
    faults: str | None = None
    gate: Gate | None = None
    judge: str = ""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            msg = f"signature name {self.name!r}: lower-case letters, digits and _ only, starting with a letter"
            raise ValueError(msg)
        fields = [f.name for f in (*self.inputs, *self.outputs)]
        if not self.inputs or not self.outputs or len(set(fields)) < len(fields):
            msg = f"signature {self.name}: needs inputs and outputs, all of different names"
            raise ValueError(msg)
        for name in (self.label, self.faults):
            if name is not None and name not in {f.name for f in self.outputs}:
                msg = f"signature {self.name}: {name!r} is no output"
                raise ValueError(msg)
        self._check_label()
        self._check_metric(set(fields))

    def _check_label(self) -> None:
        kinds = {field.name: field.kind for field in self.outputs}
        if self.label is not None and kinds[self.label] != "bool":
            msg = f"signature {self.name}: the label {self.label!r} is no bool"
            raise ValueError(msg)
        if self.faults is not None and not isinstance(kinds[self.faults], ListOf):
            msg = f"signature {self.name}: the faults {self.faults!r} are no list"
            raise ValueError(msg)
        if not 0 <= self.label_share <= 1:
            msg = f"signature {self.name}: label_share {self.label_share} is not within 0..1"
            raise ValueError(msg)

    def _check_metric(self, fields: set[str]) -> None:
        if callable(self.metric):
            return
        total = sum(measure.weight for measure in self.metric)
        if abs(total - 1) > 1e-9:
            msg = f"signature {self.name}: the metric's weights sum to {total:g}, not 1"
            raise ValueError(msg)
        for measure in self.metric:
            for name in (measure.field, measure.against or measure.field):
                if name not in fields:
                    msg = f"signature {self.name}: the metric names {name!r}, which is no field"
                    raise ValueError(msg)
