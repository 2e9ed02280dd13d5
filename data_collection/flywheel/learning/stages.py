"""The stages of a run's work, by which its calls are recorded, planned and told."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dspy

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFLIGHT = "preflight"
BOOTSTRAP, PROPOSAL, SEARCH = "bootstrap", "proposal", "search"
FLOOR, TEST, VAL, RETEST, JUDGE, OTHER = "floor", "test", "val", "retest", "judge", "other"
# In the order in which they are spent.
PLANNED = (PREFLIGHT, RETEST, BOOTSTRAP, PROPOSAL, SEARCH, TEST, VAL, FLOOR, JUDGE, OTHER)
BASELINE_TEST, CANDIDATE_TEST, FLOOR_TEST = "test-baseline", "test-candidate", "test-floor"


@dataclass(frozen=True)
class Asked:
    """Calls of a stage: with prompts as the baseline has them, and with all the demonstrations of a candidate."""

    plain: int = 0
    full: int = 0

    @property
    def calls(self) -> int:
        """All of them."""
        return self.plain + self.full

    def plus(self, other: Asked) -> Asked:
        """These and the other's."""
        return Asked(self.plain + other.plain, self.full + other.full)


def planned_stage(stage: str) -> str:
    """The stage of the plan that a ledger's stage belongs to, as in `test` for `test-baseline`."""
    if stage == FLOOR_TEST:
        return FLOOR
    first = stage.split("-", 1)[0]
    return first if first in PLANNED else OTHER


@contextlib.contextmanager
def stage(name: str) -> Iterator[None]:
    """Calls of the surrounding dspy.context's model belong to this stage, in whatever thread they are made."""
    account = getattr(dspy.settings.lm, "account", None)
    with account.stage(name) if account is not None else contextlib.nullcontext():
        yield
