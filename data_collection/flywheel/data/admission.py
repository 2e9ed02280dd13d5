"""Which examples of a batch come into a dataset, and with whom they share a group.

Newcomers are compared with every version's examples, not only with those they join: what stands elsewhere decides
about groups, what stands in the dataset itself also about repeats.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flywheel.data.duplicates import Near, input_text, label_of, near_pairs, repeats
from flywheel.data.refusals import BRIDGES, DUPLICATE, TOO_MANY, Refusal
from flywheel.data.splits import most_of_one_group

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flywheel.data.examples import Example
    from flywheel.data.signatures.types import Signature
    from flywheel.data.splits import Groups

NEAR = 0.85
# What examples of one origin have in common, besides the group that their collector named.
_COMMITS, _PULL_REQUESTS, _USERS = ("commit_sha",), ("pull_request",), ("user", "user_id", "unit_id")


@dataclass(frozen=True)
class Dataset:
    """What a batch comes to: the examples that it joins, and those of other versions."""

    signature: Signature
    stored: Sequence[Example]
    elsewhere: Sequence[Example]


def group_of(example: Example) -> str:
    """The group of an example that has been given one; ValueError for another."""
    group = example.metadata.group
    if group is None:
        msg = f"example {example.id} has no group"
        raise ValueError(msg)
    return group


def origins(example: Example) -> list[str]:
    """Every name under which examples must stay together: the collector's group, the commit, pull request, user.

    A user's name is hashed: group names are kept for ever.
    """
    facts = example.metadata.model_extra or {}
    names = [group_of(example)]
    names += [f"commit:{str(value)[:12]}" for key in _COMMITS if (value := facts.get(key))]
    names += [f"pr:{value}" for key in _PULL_REQUESTS if (value := facts.get(key))]
    users = [str(value) for key in _USERS if (value := facts.get(key))]
    names += [f"user:{hashlib.sha256(user.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}" for user in users]
    return list(dict.fromkeys(names))


def admit(dataset: Dataset, fresh: Sequence[Example], groups: Groups, refused: list[Refusal]) -> list[Example]:
    """The examples of `fresh` that are neither repeats nor bridges, each with its group; of repeats the first stays.

    Joins in `groups` whatever belongs together.
    """
    known = [*dataset.elsewhere, *dataset.stored]
    same = _same(dataset, fresh)
    distinct = [e for e in fresh if e.id not in same]
    refused += [Refusal(str(e.id), DUPLICATE, same[e.id], 1.0) for e in fresh if e.id in same]
    examples = [*known, *distinct]
    pairs = near_pairs([input_text(dataset.signature, e.inputs) for e in examples], NEAR, len(known))
    repeated = repeats(dataset.signature, examples, _within(pairs, len(dataset.elsewhere)), len(known))
    refused += [
        Refusal(str(examples[new].id), DUPLICATE, examples[pair.older].id, round(pair.ratio, 4))
        for new, pair in repeated.items()
    ]
    return list(_tied(examples, pairs, set(repeated), groups, len(known), refused))


def _same(dataset: Dataset, fresh: Sequence[Example]) -> dict[str | None, str]:
    """Of the fresh examples those whose inputs and label are, word for word, those of an earlier one: its id.

    Found by hashing, since what many users ask alike would make a pair with each of the others.
    """
    first: dict[tuple[str, object], str | None] = {}
    found: dict[str | None, str] = {}
    for position, example in enumerate([*dataset.stored, *fresh]):
        key = (input_text(dataset.signature, example.inputs), label_of(dataset.signature, example))
        earlier = first.setdefault(key, example.id)
        if position >= len(dataset.stored) and earlier != example.id:
            found[example.id] = str(earlier)
    return found


def _within(pairs: Sequence[Near], start: int) -> list[Near]:
    return [pair for pair in pairs if pair.older >= start]


def _tied(
    examples: Sequence[Example],
    pairs: Sequence[Near],
    dropped: set[int],
    groups: Groups,
    start: int,
    refused: list[Refusal],
) -> Iterator[Example]:
    """The newcomers to keep, every one's group joined to those of its origins and near-duplicates."""
    alike: dict[int, list[int]] = {}
    for pair in pairs:
        alike.setdefault(pair.newer, []).append(pair.older)
    out = set(dropped)
    for position in range(start, len(examples)):
        if position in dropped:
            continue
        example = examples[position]
        neighbours = [i for i in alike.get(position, []) if i not in out]
        if groups.join([*origins(example), *(group_of(examples[i]) for i in neighbours)]):
            yield example
        else:
            out.add(position)
            of = next((examples[i].id for i in neighbours), None)
            refused.append(Refusal(str(example.id), BRIDGES, of))


def within_share(examples: Sequence[Example], start: int, groups: Groups, refused: list[Refusal]) -> list[Example]:
    """The newcomers (from `start` on) without those that would give a group more than its share of the dataset.

    Of such a group the best stay. Stored examples stay whatever their number.
    """
    held = Counter(groups.find(group_of(e)) for e in examples[:start])
    waiting = sorted(examples[start:], key=lambda e: (-(e.metadata.quality_score or 0.0), str(e.id)))
    while True:
        most, taken = most_of_one_group(start + len(waiting)), Counter(held)
        kept = []
        for example in waiting:
            root = groups.find(group_of(example))
            if taken[root] < most:
                taken[root] += 1
                kept.append(example)
            else:
                refused.append(Refusal(str(example.id), TOO_MANY, root))
        if len(kept) == len(waiting):
            return kept
        waiting = kept
