"""How good a program's answer is: 0 (nothing right) to 1 (all right), higher is better, for every signature.

A metric is a weighted sum of the signature's measures, or the signature's own callable. Answers come from models, so
a measure never fails on an odd one: what has the wrong type earns 0. Labels come from checked examples.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flywheel.data.signatures.types import Choice, ListOf, Record
from flywheel.data.similarity import best_match, partial, ratio
from flywheel.learning.program import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flywheel.data.signatures.types import Field, Measure, Signature

SAME_TEXT = 0.6
NAMED = 0.75
_LEAST_WORDS = 2
_HUGE = 1e9
_EMPTY_WORDS = frozenset({"n/a", "none", "null", "todo", "tbd", "...", "-"})
_NAMING_FIELDS = ("title", "description")


@dataclass(frozen=True)
class Case:
    """What a measure looks at: the example's inputs and labels, the program's outputs, and the signature."""

    signature: Signature
    inputs: Mapping[str, Any]
    labels: Mapping[str, Any]
    outputs: Mapping[str, Any]

    def known(self, name: str) -> Any:
        """What the example says of a field: its label, or its value where it is an input."""
        return self.labels[name] if name in self.labels else self.inputs.get(name)

    def field(self, name: str) -> Field:
        """The signature's output field of that name."""
        return next(f for f in self.signature.outputs if f.name == name)


def _texts(value: Any) -> list[str] | None:
    """A list of texts as it is; None for anything else."""
    return value if isinstance(value, list) and all(isinstance(item, str) for item in value) else None


def accuracy(case: Case, measure: Measure) -> float:
    """1 when the output equals the label in type and value, else 0."""
    label, output = case.known(measure.against or measure.field), case.outputs.get(measure.field)
    return float(type(label) is type(output) and label == output)


def list_f1(case: Case, measure: Measure) -> float:
    """F1 of best-matched texts (each used once, matched from a likeness of 0.6); both empty is 1, one empty 0.

    A match counts as its likeness, so that word-for-word beats a paraphrase.
    """
    label, output = _texts(case.known(measure.against or measure.field)), _texts(case.outputs.get(measure.field))
    if label is None or output is None:
        return 0.0
    if not label or not output:
        return float(not label and not output)
    matched = sum(score for _, _, score in best_match(label, output, SAME_TEXT))
    return 2 * matched / (len(label) + len(output))


def rank_agreement(case: Case, measure: Measure) -> float:
    """Do the numbers order the items as the labels do? The share of concordant pairs among matched items.

    `against` names the texts that the numbers belong to, one each; they are matched as in `list_f1`. A pair that is
    tied in the labels says nothing and is left out; one tied in the output only counts half. Where fewer than two
    items match, or the labels tie throughout, there is no order to agree with: then the score is 1 less the mean
    distance of the numbers, over the range of the field (0 without any match). Numbers not one per text earn 0.
    """
    texts = measure.against or measure.field
    named, said = _texts(case.known(texts)), _texts(case.outputs.get(texts))
    label, output = _numbers(case.known(measure.field)), _numbers(case.outputs.get(measure.field))
    if named is None or said is None or label is None or output is None:
        return 0.0
    if len(named) != len(label) or len(said) != len(output):
        return 0.0
    if not named and not said:
        return 1.0
    pairs = [(label[i], output[j]) for i, j, _ in best_match(named, said, SAME_TEXT)]
    verdicts = [_agree(a, b) for a, b in itertools.combinations(pairs, 2) if a[0] != b[0]]
    return sum(verdicts) / len(verdicts) if verdicts else _closeness(pairs, case.field(measure.field))


def _numbers(value: Any) -> list[float] | None:
    fits = isinstance(value, list) and all(type(n) in {int, float} and abs(n) < _HUGE for n in value)
    return value if fits else None


def _agree(first: tuple[float, float], second: tuple[float, float]) -> float:
    product = (first[0] - second[0]) * (first[1] - second[1])
    return 0.5 if product == 0 else float(product > 0)


def _closeness(pairs: list[tuple[float, float]], field: Field) -> float:
    if not pairs:
        return 0.0
    span = (field.high if field.high is not None else 10) - (field.low if field.low is not None else 1)
    distance = sum(abs(a - b) for a, b in pairs) / len(pairs)
    return max(0.0, 1 - distance / span) if span > 0 else 0.0


def findings_coverage(case: Case, measure: Measure) -> float:
    """F1 of findings that an item names and items that name a finding; no findings and no items is 1.

    `against` names the findings: a list of texts, or a record of such lists. An item names a finding when its title
    or description holds it, or is like it (0.75 either way).
    """
    findings = _all_texts(case.known(measure.against or measure.field))
    items = case.outputs.get(measure.field)
    if not isinstance(items, list):
        return 0.0
    if not findings or not items:
        return float(not findings and not items)
    said = [_naming(item) for item in items]
    covered = sum(any(_names(finding, texts) for texts in said) for finding in findings) / len(findings)
    useful = sum(any(_names(finding, texts) for finding in findings) for texts in said) / len(said)
    return 2 * covered * useful / (covered + useful) if covered and useful else 0.0


def _all_texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value] if value.strip() else []
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for part in parts for text in _all_texts(part)]


def _naming(item: Any) -> list[str]:
    texts = [item.get(name) for name in _NAMING_FIELDS] if isinstance(item, dict) else [item]
    return [text for text in texts if isinstance(text, str)]


def _names(finding: str, texts: list[str]) -> bool:
    return any(ratio(finding, text) >= NAMED or partial(finding, text) >= NAMED for text in texts)


def well_formed(case: Case, measure: Measure) -> float:
    """Mean soundness of a list's records; a list out of order, by its first choice field, loses a quarter.

    A record's soundness is the share of its fields that have their type, and something to say where they must not be
    empty: a choice is one of its words (most urgent first), a text two words that are no placeholder. An empty list
    is sound only where the signature allows it.
    """
    kind, items = case.field(measure.field).kind, case.outputs.get(measure.field)
    if not isinstance(kind, ListOf) or not isinstance(kind.item, Record) or not isinstance(items, list):
        return 0.0
    if not items:
        return float(kind.min_items == 0)
    fields = kind.item.fields
    mean = sum(_soundness(item, fields) for item in items) / len(items)
    return mean * (1.0 if _in_order(items, fields) else 0.75)


def _soundness(item: Any, fields: tuple[Field, ...]) -> float:
    if not isinstance(item, dict):
        return 0.0
    return sum(_sound(item.get(field.name), field) for field in fields) / len(fields)


def _sound(value: Any, field: Field) -> bool:
    if isinstance(field.kind, Choice):
        return value in field.kind.values
    if field.kind != "str":
        return value is not None
    if not isinstance(value, str):
        return False
    said = value.strip()
    return field.may_be_empty or (said.casefold() not in _EMPTY_WORDS and len(said.split()) >= _LEAST_WORDS)


def _in_order(items: list[Any], fields: tuple[Field, ...]) -> bool:
    choice = next((field for field in fields if isinstance(field.kind, Choice)), None)
    if choice is None or not isinstance(choice.kind, Choice):
        return True
    words = choice.kind.values
    found = [item.get(choice.name) for item in items if isinstance(item, dict)]
    ranks = [words.index(word) for word in found if word in words]
    return ranks == sorted(ranks)


_MEASURES: dict[str, Callable[[Case, Measure], float]] = {
    "accuracy": accuracy,
    "list_f1": list_f1,
    "rank_agreement": rank_agreement,
    "findings_coverage": findings_coverage,
    "well_formed": well_formed,
}


def score(
    signature: Signature, inputs: Mapping[str, Any], labels: Mapping[str, Any], outputs: Mapping[str, Any]
) -> float:
    """How good `outputs` are, 0-1, by the signature's metric.

    Raises:
        ValueError: the signature's own callable returns what is no number from 0 to 1.
    """
    if callable(signature.metric):
        value = signature.metric(inputs, labels, outputs)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            msg = f"metric of {signature.name} returned {value!r}; expected a number from 0 to 1"
            raise ValueError(msg)
        return float(value)
    total = sum(measure.weight * value for measure, value in parts(signature, inputs, labels, outputs))
    return min(max(total, 0.0), 1.0)


def parts(
    signature: Signature, inputs: Mapping[str, Any], labels: Mapping[str, Any], outputs: Mapping[str, Any]
) -> list[tuple[Measure, float]]:
    """Each measure of the signature's metric with its score 0-1; none of a callable one."""
    if callable(signature.metric):
        return []
    case = Case(signature, inputs, labels, outputs)
    return [(measure, _MEASURES[measure.name](case, measure)) for measure in signature.metric]


def sides(signature: Signature, gold: Any, prediction: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The inputs, labels and outputs of a DSPy example and what a program answered; nothing answered is no output."""
    known, said = plain(gold), plain(prediction) if prediction is not None else {}
    outputs = [f.name for f in signature.outputs]
    return (
        {f.name: known.get(f.name) for f in signature.inputs},
        {name: known.get(name) for name in outputs},
        {name: said.get(name) for name in outputs if isinstance(said, dict)},
    )


def build_metric(signature: Signature) -> Callable[..., float]:
    """The signature's metric as DSPy calls it: (gold example, prediction, trace) to 0-1, higher is better."""

    def metric(gold: Any, prediction: Any, trace: Any = None) -> float:
        del trace
        return score(signature, *sides(signature, gold, prediction))

    return metric
