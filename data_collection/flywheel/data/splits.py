"""Which split a group of examples belongs to: decided once, recorded, never changed.

New groups fill the largest deficit by stratum (label, difficulty); ties are broken by a keyed hash, so that the result
does not depend on the order within a batch. The test split is filled from real sources (git, telemetry, human) first.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SPLITS = ("train", "val", "test")
SMALL_DATASET = 200
SMALL_FRACTIONS = (0.25, 0.25, 0.50)
LARGE_FRACTIONS = (0.20, 0.40, 0.40)
# However much the test split wants real examples, training keeps some of them.
MOST_REAL_FOR_TEST = 0.8
# One large group would decide what a whole split measures.
MAX_GROUP_SHARE, SMALLEST_CAP = 0.10, 4


@dataclass(frozen=True)
class Member:
    """What splitting needs to know of an example. `real` is False for synthetic ones."""

    group: str
    stratum: str
    real: bool


def default_fractions(count: int) -> tuple[float, float, float]:
    """Train, val and test shares for a dataset of `count` examples."""
    return SMALL_FRACTIONS if count < SMALL_DATASET else LARGE_FRACTIONS


class _Quota:
    """Targets and fill of the splits for one kind of example (real or synthetic), by stratum."""

    def __init__(self, fractions: Mapping[str, float], totals: Counter[str]) -> None:
        self.fractions = fractions
        self.totals = totals
        self.filled: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}

    def deficit(self, split: str, strata: Counter[str]) -> float:
        """How far `split` is below its share, in the group's strata and over all together.

        The strata alone would send every lone example of a kind to the largest split, and leave none to train on.
        """
        filled, share = self.filled[split], self.fractions[split]
        own = sum(share * self.totals[stratum] - filled[stratum] for stratum in strata)
        return own + share * self.totals.total() - filled.total()

    def add(self, split: str, strata: Counter[str]) -> None:
        self.filled[split] += strata


def _shares(members: Sequence[Member], fractions: Sequence[float]) -> dict[bool, dict[str, float]]:
    """The split shares of real and of synthetic members: test takes real ones first, both keep the overall shares."""
    train, _, test = fractions
    count, real = len(members), sum(m.real for m in members)
    synthetic = count - real
    test_real = min(MOST_REAL_FOR_TEST, max(test, test * count / real)) if real else 0.0
    if not synthetic:
        test_real = test
    test_synthetic = max(0.0, (test * count - test_real * real) / synthetic) if synthetic else 0.0
    to_train = train / (1 - test) if test < 1 else 0.0
    return {
        is_real: {"test": share, "train": (1 - share) * to_train, "val": (1 - share) * (1 - to_train)}
        for is_real, share in ((True, test_real), (False, test_synthetic))
    }


def _tie(group: str, split: str, key: str) -> str:
    return hashlib.blake2b(f"{group}\0{split}".encode(), key=key.encode()[:64], digest_size=8).hexdigest()


def assign(
    members: Iterable[Member], assigned: Mapping[str, str], fractions: Sequence[float], key: str
) -> dict[str, str]:
    """The split of every group in `members` that is not in `assigned` yet.

    `members` are all examples of the dataset to be, old and new; `key` salts the order of ties.
    """
    pool = list(members)
    shares = _shares(pool, fractions)
    groups: dict[str, Counter[str]] = defaultdict(Counter)
    reality: dict[str, bool] = {}
    totals: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    for member in pool:
        groups[member.group][member.stratum] += 1
        reality[member.group] = reality.get(member.group, False) or member.real
    for group, strata in groups.items():
        totals[reality[group]] += strata
    quotas = {is_real: _Quota(shares[is_real], totals[is_real]) for is_real in (True, False)}
    for group in groups.keys() & assigned.keys():
        quotas[reality[group]].add(assigned[group], groups[group])
    chosen: dict[str, str] = {}
    fresh = [group for group in groups if group not in assigned]
    for group in sorted(fresh, key=lambda g: (not reality[g], -groups[g].total(), _tie(g, "", key))):
        quota, strata = quotas[reality[group]], groups[group]
        split = max(SPLITS, key=lambda s: (quota.deficit(s, strata), _tie(group, s, key)))
        quota.add(split, strata)
        chosen[group] = split
    return chosen


def newest_to_test(
    moments: Mapping[str, float], sizes: Mapping[str, int], assigned: Mapping[str, str], share: float
) -> dict[str, str]:
    """Temporal holdout: the newest groups not in `assigned` go to test until it holds `share` of all dated examples.

    `moments` has the latest moment of each dated group, `sizes` the number of examples of each.
    """
    wanted = share * sum(sizes[group] for group in moments)
    filled = sum(sizes[group] for group in moments if assigned.get(group) == "test")
    chosen: dict[str, str] = {}
    for group in sorted(moments.keys() - assigned.keys(), key=lambda g: (-moments[g], g)):
        if filled + sizes[group] / 2 > wanted:
            break
        chosen[group] = "test"
        filled += sizes[group]
    return chosen


def most_of_one_group(count: int) -> int:
    """How many of `count` examples may be of one group; in a small dataset a few, since 10 % would be none."""
    return max(SMALLEST_CAP, int(MAX_GROUP_SHARE * count))


class Groups:
    """Union-find over group names with at most one split each: near-duplicates and shared origins end in one group.

    `parts` says which recorded names are part of which others.
    """

    def __init__(self, assigned: Mapping[str, str], parts: Mapping[str, str] | None = None) -> None:
        self._parent: dict[str, str] = {}
        self._split: dict[str, str] = dict(assigned)
        self._recorded = frozenset(assigned)
        for name, whole in (parts or {}).items():
            self.join([name, whole])

    def find(self, name: str) -> str:
        """The representative of the group that `name` is in: a recorded name where it has one."""
        while (above := self._parent.get(name, name)) != name:
            name = above
        return name

    def split(self, name: str) -> str | None:
        """The split that `name`'s group has already; None for a new one."""
        return self._split.get(self.find(name))

    def join(self, names: Iterable[str]) -> bool:
        """Make one group of all `names`; False, and nothing done, when that would bridge two splits."""
        found = {self.find(name) for name in names}
        roots = sorted(found, key=lambda root: (root not in self._recorded, root))
        splits = {self._split[root] for root in roots if root in self._split}
        if len(splits) > 1:
            return False
        for root in roots[1:]:
            self._parent[root] = roots[0]
        if splits:
            self._split[roots[0]] = splits.pop()
        return True
