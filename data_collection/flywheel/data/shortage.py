"""The fewest further examples with which a batch passes its quality gate, and of which kinds they must be.

Every check looks at one share alone, so the kinds can be chosen one by one: for a number of further examples it is
plain whether each share can come within its bounds. The smallest such number is the shortage.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flywheel.data.examples import Example
    from flywheel.data.signatures.types import Gate, Signature

# A share that is right but for the rounding of its own arithmetic is right.
ROUNDING = 1e-9
# Whoever needs more than so many times the batch needs another batch.
MOST_TIMES = 20


def allowed(low: float, high: float, total: int, slack: float = 0.5) -> tuple[int, int]:
    """The least and the most of `total` examples that a share within `low` and `high` may be.

    `slack` examples less or more are no deviation: by default half an example, as near as whole ones come.
    """
    slack += ROUNDING * total
    return max(0, math.ceil(low * total - slack)), min(total, math.floor(high * total + slack))


@dataclass(frozen=True)
class Shortage:
    """What to collect: how many, of which difficulty, with which label, outside `source`, of new categories."""

    examples: int
    difficulty: Mapping[str, int] = field(default_factory=dict)
    label: Mapping[str, int] = field(default_factory=dict)
    other_sources: int = 0
    source: str = ""
    new_categories: int = 0

    def __str__(self) -> str:
        """`31 more examples: 22 medium, 9 hard; 12 is_complete=true, 19 is_complete=false`."""
        parts = [_listed(self.difficulty), _listed(self.label)]
        parts.append(f"{self.other_sources} from sources other than {self.source}" if self.other_sources else "")
        parts.append(f"of {self.new_categories} more categories" if self.new_categories else "")
        told = "; ".join(part for part in parts if part)
        return f"{self.examples} more examples{': ' if told else ''}{told}"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def shortage(signature: Signature, gate: Gate, examples: Sequence[Example], small: int) -> Shortage | None:
    """The least to collect so that the batch passes all but its quality check; None where no number of examples does.

    Below `small` examples no share is held against a batch. Nothing is missing: a Shortage of 0 examples.
    """
    batch = _Batch(signature, gate, examples)
    most = MOST_TIMES * max(len(examples), small)
    return next((found for more in range(most) if (found := batch.with_more(more, small))), None)


class _Batch:
    def __init__(self, signature: Signature, gate: Gate, examples: Sequence[Example]) -> None:
        self._gate = gate
        self._total = len(examples)
        self._levels = Counter(str(e.metadata.difficulty) for e in examples)
        self._label = signature.label if gate.check_label else None
        self._label_share = signature.label_share
        self._true = sum(bool(e.outputs[self._label]) for e in examples) if self._label else 0
        sources = Counter(e.metadata.source or "unknown" for e in examples)
        self._source, self._most = min(sources.items(), key=lambda item: (-item[1], item[0]), default=("", 0))
        self._categories = len({e.metadata.category for e in examples} - {None})

    def with_more(self, more: int, small: int) -> Shortage | None:
        """What `more` further examples would have to be; None where so many cannot make the batch pass."""
        new = max(0, self._gate.min_categories - self._categories)
        if new > more:
            return None
        if self._total + more < small:
            return Shortage(more, new_categories=new)
        shares = dict(self._gate.difficulty)
        levels = self._filled(shares, {level: self._levels[level] for level in shares}, more)
        label: dict[str, int] | None = {}
        if self._label is not None:
            share, name = self._label_share, self._label
            kinds = {f"{name}=true": self._true, f"{name}=false": self._total - self._true}
            label = self._filled(dict(zip(kinds, (share, 1 - share), strict=True)), kinds, more)
        _, most = allowed(0.0, self._gate.max_source_share, self._total + more, 0.0)
        others = max(0, more - (most - self._most))
        if levels is None or label is None or others > more:
            return None
        named = (others, self._source) if others else (0, "")
        return Shortage(more, levels, label, *named, new)

    def _filled(self, shares: Mapping[str, float], counts: Mapping[str, int], more: int) -> dict[str, int] | None:
        """How `more` examples bring every count within its share's bounds, as near to the shares as may be."""
        if not shares:
            return {}
        near, total = self._gate.tolerance, self._total + more
        bounds = {n: allowed(max(0.0, s - near), min(1.0, s + near), total) for n, s in shares.items()}
        added = {name: max(0, low - counts[name]) for name, (low, _) in bounds.items()}
        room = {name: high - counts[name] for name, (_, high) in bounds.items()}
        if sum(added.values()) > more or sum(room.values()) < more or any(room[n] < added[n] for n in shares):
            return None
        for _ in range(more - sum(added.values())):
            open_ones = [name for name in shares if added[name] < room[name]]
            wanted = max(open_ones, key=lambda name: shares[name] * total - counts[name] - added[name])
            added[wanted] += 1
        return added
