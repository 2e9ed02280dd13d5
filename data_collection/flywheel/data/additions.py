"""Putting a batch of examples into a dataset: what is new, what repeats, which split each belongs to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flywheel.data.duplicates import Near, input_text, label_of, near_pairs, repeats
from flywheel.data.examples import Example, canonical, example_id
from flywheel.data.publishing import write_version, writer_lock
from flywheel.data.scoring import score_missing
from flywheel.data.split_file import append_splits, read_splits
from flywheel.data.splits import Groups, Member, assign, default_fractions
from flywheel.data.store import load, newest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from flywheel.data.metadata import DatasetMetadata
    from flywheel.data.publishing import Batch
    from flywheel.data.signatures.types import Signature

NEAR = 0.85
SYNTHETIC = "synthetic"


@dataclass
class Added:
    """The outcome: the version that now is the latest (None: none yet), how many were new, why others were not."""

    metadata: DatasetMetadata | None
    new: int
    offered: int
    refused: Counter[str] = field(default_factory=Counter)


def add_examples(
    root: Path,
    signature: Signature,
    offered: Sequence[Example],
    batch: Batch,
    *,
    onto_latest: bool,
    fractions: Sequence[float] | None = None,
) -> Added:
    """Make a new version of `offered`, onto the latest one or (`onto_latest` False) by themselves.

    Examples must be schema-valid; they get ids, scores and splits. Nothing new makes no version. An example whose
    inputs are nearly those of a stored one with the same label is refused (`duplicate`); one that would tie groups of
    different splits together is refused (`bridges_splits`).
    """
    with writer_lock(root, signature.name):
        base = newest(root, signature.name) if onto_latest else None
        parent, stored = load(root, signature.name, base) if base is not None else (None, [])
        refused: Counter[str] = Counter()
        examples = [*stored, *_fresh(signature, offered, {e.id for e in stored}, batch.source, refused)]
        start = len(stored)
        texts = [input_text(signature, e.inputs) for e in examples]
        pairs = near_pairs(texts, NEAR, start)
        repeated = repeats(signature, examples, pairs, start)
        refused["duplicate"] += len(repeated)
        recorded = read_splits(root, signature.name)
        groups = Groups(recorded)
        kept = _tie(examples, pairs, set(repeated), groups, start, refused)
        new = len(kept) - start
        if new == 0:
            return Added(parent, 0, len(offered), +refused)
        scored = score_missing(signature, [examples[i] for i in kept])
        decided = _decide(signature, scored, groups, fractions)
        append_splits(root, signature.name, {g: s for g, s in decided.items() if g not in recorded}, batch.moment)
        placed = [e.model_copy(update={"split": decided[_group(e)]}) for e in scored]
        metadata = write_version(root, signature, placed, batch, parent)
    return Added(metadata, new, len(offered), +refused)


def _fresh(
    signature: Signature, offered: Sequence[Example], known: set[str | None], source: str, refused: Counter[str]
) -> list[Example]:
    """The offered examples that are not stored yet, with id, source and group, in order of their ids.

    Of equal ones with different metadata it takes the same one in whatever order they come.
    """
    found: dict[str, Example] = {}
    keyed = [(example_id(signature.name, e.inputs, e.outputs), e) for e in offered]
    for key, example in sorted(keyed, key=lambda pair: (pair[0], canonical(pair[1].metadata.model_dump()))):
        if key in known or key in found:
            refused["duplicate"] += 1
            continue
        metadata = {"source": example.metadata.source or source, "group": example.metadata.group or f"example:{key}"}
        found[key] = example.with_metadata(**metadata).model_copy(update={"id": key, "signature": None})
    return list(found.values())


def _group(example: Example) -> str:
    group = example.metadata.group
    if group is None:
        msg = f"example {example.id} has no group"
        raise ValueError(msg)
    return group


def _tie(
    examples: Sequence[Example],
    pairs: Sequence[Near],
    dropped: set[int],
    groups: Groups,
    start: int,
    refused: Counter[str],
) -> list[int]:
    """The positions to keep, with every kept example's group joined to those of its near-duplicates."""
    alike: dict[int, list[int]] = {}
    for pair in pairs:
        alike.setdefault(pair.newer, []).append(pair.older)
    kept = list(range(start))
    members = set(kept)
    for position in range(start, len(examples)):
        if position in dropped:
            continue
        neighbours = [_group(examples[i]) for i in alike.get(position, []) if i in members]
        if groups.join([_group(examples[position]), *neighbours]):
            kept.append(position)
            members.add(position)
        else:
            refused["bridges_splits"] += 1
    return kept


def _decide(
    signature: Signature, examples: Sequence[Example], groups: Groups, fractions: Sequence[float] | None
) -> dict[str, str]:
    """The split of every group among `examples`, by each name that a group goes by: the recorded one, or a new one."""
    members = []
    for example in examples:
        stratum = f"{label_of(signature, example)}/{example.metadata.difficulty}"
        members.append(Member(groups.find(_group(example)), stratum, example.metadata.source != SYNTHETIC))
    known = {m.group: split for m in members if (split := groups.split(m.group)) is not None}
    decided = {**known, **assign(members, known, fractions or default_fractions(len(members)), signature.name)}
    return {name: decided[groups.find(name)] for name in map(_group, examples)}
