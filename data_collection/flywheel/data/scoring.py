"""The quality score of an example, 0-100, higher is better: what a careful reader would hold against it.

Four criteria of the system's specification, each 0-1, weighted here. No model takes part, so the score is the same
on every machine; it judges form and inner agreement, never whether a label is true.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flywheel.data.duplicates import input_text, near_pairs, text_of
from flywheel.data.signatures.types import ListOf

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from flywheel.data.examples import Example
    from flywheel.data.signatures.types import Signature

WEIGHTS = {"completeness": 0.35, "clarity": 0.30, "relevance": 0.25, "diversity": 0.10}
ENOUGH_WORDS = 4
FEWEST_WORDS = 3
# Similarity of normalised inputs to the nearest other example: no loss up to the first, all of it at the second.
COMMON_SIMILARITY, REPEAT_SIMILARITY = 0.60, 0.95
# Share of an output's content words that its inputs know; explanations need room for words of their own.
ENOUGH_OVERLAP = 0.35

_PLACEHOLDER = re.compile(
    r"\b(?:todo|tbd|fixme|lorem ipsum|foo ?bar|xxx+|asdf\w*|placeholder|insert \w+ here)\b|\?\?\?|\.{6,}"
)
_WORD = re.compile(r"[a-z][a-z0-9]{2,}")
_STOP = frozenset(
    [
        "the",
        "and",
        "for",
        "not",
        "are",
        "was",
        "were",
        "that",
        "this",
        "with",
        "from",
        "its",
        "but",
        "all",
        "has",
        "have",
        "does",
    ]
)


@dataclass(frozen=True)
class Quality:
    """The criteria of one example, each 0-1, higher is better."""

    completeness: float
    clarity: float
    relevance: float
    diversity: float

    @property
    def total(self) -> float:
        """The weighted score, 0-100."""
        return round(100 * sum(weight * float(getattr(self, name)) for name, weight in WEIGHTS.items()), 1)


def score(signature: Signature, example: Example, nearest: float = 0.0) -> Quality:
    """Judge one schema-valid example; `nearest` is its similarity (0-1) to the most alike other one."""
    return Quality(
        completeness=_completeness(signature, example),
        clarity=_clarity(signature, example),
        relevance=_relevance(signature, example.inputs, example.outputs),
        diversity=_falling(nearest, COMMON_SIMILARITY, REPEAT_SIMILARITY),
    )


def score_missing(signature: Signature, examples: Sequence[Example]) -> list[Example]:
    """The examples, each with a quality_score: those that have one keep it, the others are judged among all."""
    if all(example.metadata.quality_score is not None for example in examples):
        return list(examples)
    nearest = [0.0] * len(examples)
    texts = [input_text(signature, example.inputs) for example in examples]
    for pair in near_pairs(texts, COMMON_SIMILARITY):
        for position in (pair.older, pair.newer):
            nearest[position] = max(nearest[position], pair.ratio)
    return [
        example
        if example.metadata.quality_score is not None
        else example.with_metadata(quality_score=score(signature, example, alike).total)
        for example, alike in zip(examples, nearest, strict=True)
    ]


def _falling(value: float, full: float, none: float) -> float:
    return min(1.0, max(0.0, (none - value) / (none - full)))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def _completeness(signature: Signature, example: Example) -> float:
    """How much of it is there: optional inputs filled, outputs of some length, metadata known."""
    inputs = [bool(text_of(example.inputs[field.name]).strip()) for field in signature.inputs]
    prose = [len(example.outputs[f.name].split()) / ENOUGH_WORDS for f in signature.outputs if f.kind == "str"]
    known = [example.metadata.source, example.metadata.category, example.metadata.difficulty]
    terms = [*map(float, inputs), *(min(1.0, words) for words in prose), *(float(item is not None) for item in known)]
    return sum(terms) / len(terms)


def _clarity(signature: Signature, example: Example) -> float:
    """How much its texts read as written on purpose; the worst one counts as much as all others together."""
    marks = []
    for fields, values in ((signature.inputs, example.inputs), (signature.outputs, example.outputs)):
        for field in fields:
            prose = field.kind == "str" or field.kind == ListOf("str", getattr(field.kind, "min_items", 0))
            marks += [_readable(text, FEWEST_WORDS if prose else 0) for text in _strings(values[field.name]) if text]
    return (sum(marks) / len(marks) + min(marks)) / 2 if marks else 0.0


def _readable(text: str, least: int) -> float:
    words = text.lower().split()
    if _PLACEHOLDER.search(text.lower()):
        return 0.0
    marks = [min(1.0, len(words) / least) if least else 1.0]
    marks.append(min(1.0, 2 * sum(c.isalpha() or c.isspace() for c in text) / len(text)))
    if len(words) >= 2 * ENOUGH_WORDS:
        marks.append(min(1.0, 3 * len(set(words)) / len(words)))
    return min(marks)


def _content(value: Any) -> set[str]:
    return {word for word in _WORD.findall(text_of(value).lower()) if word not in _STOP}


def _relevance(signature: Signature, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> float:
    """Do the outputs speak of what the inputs say? Mean over outputs with text of their word overlap, saturating."""
    known = _content(inputs)
    marks = []
    for field in signature.outputs:
        said = _content(list(_strings(outputs[field.name])))
        if said:
            marks.append(min(1.0, len(said & known) / len(said) / ENOUGH_OVERLAP))
    return sum(marks) / len(marks) if marks else 1.0
