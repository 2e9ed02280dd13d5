"""Near-duplicates among examples: which share so much input text that they must not count twice or be split apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flywheel.data.similarity import similar_pairs, sorted_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flywheel.data.examples import Example
    from flywheel.data.signatures.types import Signature


def text_of(value: Any) -> str:
    """All text of a JSON value, in order, for comparing."""
    if isinstance(value, dict):
        return " ".join(text_of(item) for item in value.values())
    if isinstance(value, list):
        return " ".join(text_of(item) for item in value)
    return str(value)


def input_text(signature: Signature, inputs: Mapping[str, Any]) -> str:
    """The inputs in the signature's order as one normalised text."""
    return sorted_words(" ".join(text_of(inputs[field.name]) for field in signature.inputs))


@dataclass(frozen=True)
class Near:
    """Two examples by position, `older` before `newer`, whose inputs are alike; ratio 0-1, 1 = the same."""

    older: int
    newer: int
    ratio: float


def near_pairs(texts: Sequence[str], threshold: float, start: int = 0) -> list[Near]:
    """Pairs of texts at least `threshold` alike, where the newer stands at `start` or later, in order of `newer`."""
    pairs = similar_pairs(texts, threshold, start)
    return sorted((Near(i, j, r) for i, j, r in pairs), key=lambda pair: (pair.newer, pair.older))


def label_of(signature: Signature, example: Example) -> object:
    """The label that tells a contrast pair from a repeat; None where the signature has none."""
    return example.outputs[signature.label] if signature.label is not None else None


def repeats(
    signature: Signature, examples: Sequence[Example], pairs: Sequence[Near], start: int = 0
) -> dict[int, Near]:
    """Which examples (from `start` on) repeat an earlier kept one, and which one.

    Two alike inputs with different labels are a contrast pair, worth keeping; with the same label the newer is a
    repeat. An example that only resembles a repeat, not what was kept, stays.
    """
    dropped: dict[int, Near] = {}
    for pair in pairs:
        if pair.older in dropped or pair.newer in dropped or pair.newer < start:
            continue
        if label_of(signature, examples[pair.older]) == label_of(signature, examples[pair.newer]):
            dropped[pair.newer] = pair
    return dropped
