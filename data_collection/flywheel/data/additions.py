"""Putting a batch of examples into a dataset: what is new, what repeats, which split each belongs to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flywheel.base.errors import BadInputError
from flywheel.data.admission import Dataset, admit, group_of, origins, within_share
from flywheel.data.duplicates import label_of
from flywheel.data.examples import Example, canonical, example_id
from flywheel.data.publishing import Batch, write_version, writer_lock
from flywheel.data.refusals import DUPLICATE, PURGED, Refusal, append_refusals
from flywheel.data.scoring import score_missing
from flywheel.data.split_file import append_splits, read_record
from flywheel.data.splits import Groups, Member, assign, default_fractions, newest_to_test
from flywheel.data.store import load, newest, versions
from flywheel.data.target import inputs_digest
from flywheel.data.test_uses import reveal, settle
from flywheel.data.tombstones import Purged, purged

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from flywheel.data.metadata import DatasetMetadata
    from flywheel.data.signatures.types import Signature

SYNTHETIC = "synthetic"


@dataclass
class Added:
    """The outcome: the version that now is the latest (None: none yet), how many were new, why others were not.

    `retired` is how many groups of a used-up test split moved into train.
    """

    metadata: DatasetMetadata | None
    new: int
    offered: int
    refused: Counter[str] = field(default_factory=Counter)
    retired: int = 0


@dataclass(frozen=True)
class Sharing:
    """How new groups are split: shares of train, val and test (None: by size), and whether the newest go to test.

    Newest by when a commit was written or a call was made; synthetic examples have no such time.
    """

    fractions: Sequence[float] | None = None
    temporal: bool = False


DEFAULT_SHARING = Sharing()


def add_examples(
    root: Path,
    signature: Signature,
    offered: Sequence[Example],
    batch: Batch,
    *,
    onto_latest: bool,
    sharing: Sharing = DEFAULT_SHARING,
) -> Added:
    """Make a new version of `offered`, onto the latest one or (`onto_latest` False) by themselves.

    Examples must be schema-valid; they get ids, scores and splits. Nothing new makes no version, unless splits moved
    because a test generation retired. An example whose inputs are nearly those of a stored one with the same label is
    refused (`duplicate`), so is one that would tie groups of different splits together (`bridges_splits`), one of a
    group that has its share (`group_over_share`), and one that was purged.
    """
    with writer_lock(root, signature.name):
        retired = settle(root, signature.name, batch.moment)
        base = newest(root, signature.name) if onto_latest else None
        parent, stored = load(root, signature.name, base) if base is not None else (None, [])
        refused: list[Refusal] = []
        gone = purged(root, signature.name)
        fresh = _fresh(signature, offered, {e.id for e in stored}, gone, batch.source, refused)
        record = read_record(root, signature.name)
        groups = Groups(record.splits, record.parts)
        before = {name: groups.find(name) for name in record.splits}
        dataset = Dataset(signature, stored, _elsewhere(root, signature.name, stored))
        scored = score_missing(signature, [*stored, *admit(dataset, fresh, groups, refused)])
        new = sorted(within_share(scored, len(stored), groups, refused), key=lambda e: str(e.id))
        placed, decided = _placed(signature, [*stored, *new], groups, sharing)
        outcome = Added(parent, len(new), len(offered), Counter(refusal.reason for refusal in refused), retired)
        if new or [e.split for e in stored] != [e.split for e in placed]:
            parts = {name: groups.find(name) for name in decided.keys() | before.keys()}
            changed = {name: groups.split(name) or decided[name] for name in parts if parts[name] != before.get(name)}
            append_splits(root, signature.name, changed, batch.moment, parts=parts)
            outcome.metadata = write_version(root, signature, placed, batch, parent)
        append_refusals(root, signature.name, refused, batch.source, batch.moment)
    return outcome


def retire_test(root: Path, signature: Signature, reason: str, moment: datetime) -> Added:
    """Make the test split training data because somebody sees it: recorded first, then a version in which it is so.

    Whoever is about to show test examples calls this before. Groups that come later form the next test.

    Raises:
        BadInputError: the signature has no dataset.
    """
    if newest(root, signature.name) is None:
        msg = f"{signature.name}: no versions in {root}; `dataset_manager.py create` makes the first"
        raise BadInputError(msg)
    reveal(root, signature.name, reason, moment)
    batch = Batch("retire-test", f"test retired into train: {reason}", moment)
    return add_examples(root, signature, [], batch, onto_latest=True)


def _fresh(
    signature: Signature,
    offered: Sequence[Example],
    known: set[str | None],
    gone: Purged,
    source: str,
    refused: list[Refusal],
) -> list[Example]:
    """The offered examples that are not stored yet, with id, source and group, the best first, then by id.

    Of equal ones with different metadata it takes the same one in whatever order they come.
    """
    found: dict[str, Example] = {}
    keyed = [(example_id(signature.name, e.inputs, e.outputs), e) for e in offered]
    for key, example in sorted(keyed, key=lambda pair: (pair[0], canonical(pair[1].metadata.model_dump()))):
        if key in gone.ids or (gone.digests and inputs_digest(signature.name, example.inputs) in gone.digests):
            refused.append(Refusal(key, PURGED))
        elif key in known or key in found:
            refused.append(Refusal(key, DUPLICATE, key))
        else:
            facts = {"source": example.metadata.source or source, "group": example.metadata.group or f"example:{key}"}
            found[key] = example.with_metadata(**facts).model_copy(update={"id": key, "signature": None})
    return sorted(found.values(), key=lambda e: (-(e.metadata.quality_score or 0.0), str(e.id)))


def _elsewhere(root: Path, signature: str, stored: Sequence[Example]) -> list[Example]:
    """The examples of all other versions; one that another was added to need not be read, since that one has them."""
    known = {e.id for e in stored}
    found: dict[str | None, Example] = {}
    every = versions(root, signature)
    grown = {metadata.parent_version for metadata in every}
    for metadata in every:
        if metadata.version not in grown:
            found.update({e.id: e for e in load(root, signature, metadata.version)[1] if e.id not in known})
    return list(found.values())


def _placed(
    signature: Signature, examples: Sequence[Example], groups: Groups, sharing: Sharing
) -> tuple[list[Example], dict[str, str]]:
    """The examples with group and split, and the split of every name that their groups go by."""
    roots = [groups.find(group_of(e)) for e in examples]
    members = [
        Member(root, f"{label_of(signature, e)}/{e.metadata.difficulty}", e.metadata.source != SYNTHETIC)
        for root, e in zip(roots, examples, strict=True)
    ]
    known = {root: split for root in roots if (split := groups.split(root)) is not None}
    shares = sharing.fractions or default_fractions(len(members))
    if sharing.temporal:
        known |= newest_to_test(_moments(roots, examples), Counter(roots), known, shares[2])
    decided = {**known, **assign(members, known, shares, signature.name)}
    names = {name: root for root, e in zip(roots, examples, strict=True) for name in origins(e)}
    placed = [e.with_metadata(group=root) if e.split is None else e for root, e in zip(roots, examples, strict=True)]
    placed = [e.model_copy(update={"split": decided[root]}) for root, e in zip(roots, placed, strict=True)]
    return placed, {**{name: decided[root] for name, root in names.items()}, **decided}


def _moments(roots: Sequence[str], examples: Sequence[Example]) -> dict[str, float]:
    """The latest moment of every group that has one: when a commit was written, when a call was made."""
    found: dict[str, float] = {}
    for root, example in zip(roots, examples, strict=True):
        moment = _moment(example)
        if moment is not None:
            found[root] = max(moment, found.get(root, moment))
    return found


def _moment(example: Example) -> float | None:
    """Seconds since the epoch, of a real example that says when it came to be."""
    if example.metadata.source == SYNTHETIC:
        return None
    facts = example.metadata.model_extra or {}
    value = facts.get("authored_at") or facts.get("timestamp")
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
