"""When to stop a search that finds nothing better any more.

A search keeps a reference: the baseline at first, then the last fully evaluated program that improved on the reference
by more than noise. More than noise means that the one-sided sign-flip permutation test (Fisher 1935) of the paired
scores on the validation split gives p <= 0.05 for no improvement; validation examples of one group flip together. It
is the verdict's test, exact for the smallest split, and needs no assumption on the scores' spread. Small steps add up,
since each is measured against the reference, which has not moved.
When no full evaluation in `patience` trials improved so, or the reference has every example right, the search ends.
What it returns is its best program all the same: the rule decides how long to go on, never what is better.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flywheel.learning.verdict import sign_flip_p

if TYPE_CHECKING:
    from collections.abc import Sequence

NOISE_LEVEL = 0.05
PERFECT = 1 - 1e-9


@dataclass(frozen=True)
class Decision:
    """One look: after `trial` trials, scores 0-1 of the program and of the reference, and what followed.

    `p_value` is None where the program scored no higher; `since` counts trials since the reference was found. `stop`
    says why the search is to end, None that it goes on.
    """

    trial: int
    score: float | None
    reference: float
    p_value: float | None
    improved: bool
    since: int
    stop: str | None


class Plateau:
    """The rule, fed with each full evaluation; `patience` 0 never stops.

    `groups` names each validation example's group, in order; None: each is its own.
    """

    def __init__(self, patience: int, groups: Sequence[str] | None = None, seed: int = 0) -> None:
        self._patience = patience
        self._groups = groups
        self._seed = seed
        self._reference: list[float] = []
        self._found_at = 0

    @property
    def begun(self) -> bool:
        """Whether there is a reference yet."""
        return bool(self._reference)

    def begin(self, scores: Sequence[float]) -> Decision:
        """Take the scores (0-1, of every validation example in order) of the program that the search begins from."""
        self._reference = list(scores)
        return self._decided(0, None, None, improved=False)

    def look(self, trial: int, scores: Sequence[float] | None) -> Decision:
        """Decide after `trial` trials; `scores` of a full evaluation, None when nothing was left to evaluate."""
        if scores is None:
            return self._decided(trial, None, None, improved=False)
        mean, p_value = _mean(scores), None
        if mean > _mean(self._reference):
            p_value = sign_flip_p(self._by_group(scores), np.random.default_rng(self._seed))
        improved = p_value is not None and p_value <= NOISE_LEVEL
        if improved:
            self._reference, self._found_at = list(scores), trial
        return self._decided(trial, mean, p_value, improved=improved)

    def _decided(self, trial: int, score: float | None, p_value: float | None, *, improved: bool) -> Decision:
        reference, since = _mean(self._reference), trial - self._found_at
        stop = self._reason(reference, since) if self._patience else None
        return Decision(trial, score, reference, p_value, improved, since, stop)

    def _reason(self, reference: float, since: int) -> str | None:
        if reference >= PERFECT:
            return "plateau: every validation example is right, nothing is left to improve"
        if since >= self._patience:
            return f"plateau: no full evaluation in {since} trials improved by more than noise"
        return None

    def _by_group(self, scores: Sequence[float]) -> np.ndarray:
        """The sum of differences to the reference, for each group in order of its first example."""
        groups = self._groups or [str(n) for n in range(len(scores))]
        sums: dict[str, float] = defaultdict(float)
        for group, now, before in zip(groups, scores, self._reference, strict=True):
            sums[group] += now - before
        return np.array(list(sums.values()))


def _mean(scores: Sequence[float]) -> float:
    return sum(scores) / len(scores)
