"""The stages of a run's work, by which its calls are recorded, planned and told."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import dspy

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFLIGHT = "preflight"
BOOTSTRAP, PROPOSAL, SEARCH = "bootstrap", "proposal", "search"
FLOOR, TEST, VAL, RETEST, JUDGE, OTHER = "floor", "test", "val", "retest", "judge", "other"
# In the order in which they are spent.
PLANNED = (PREFLIGHT, RETEST, BOOTSTRAP, PROPOSAL, SEARCH, TEST, VAL, FLOOR, JUDGE, OTHER)
_FLOORS = "test-floor"


def planned_stage(stage: str) -> str:
    """The stage of the plan that a ledger's stage belongs to, as in `test` for `test-baseline`."""
    if stage == _FLOORS:
        return FLOOR
    first = stage.split("-", 1)[0]
    return first if first in PLANNED else OTHER


@contextlib.contextmanager
def stage(name: str) -> Iterator[None]:
    """Calls of the surrounding dspy.context's model belong to this stage, in whatever thread they are made."""
    with dspy.settings.lm.account.stage(name):
        yield
