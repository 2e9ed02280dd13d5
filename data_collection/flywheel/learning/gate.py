"""What stands around every call to the model: the terms of its admission, wherever they are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


@dataclass(frozen=True)
class Caps:
    """What all calls of a run share; None means no limit. `concurrency` is how many are under way at once."""

    concurrency: int | None = None
    max_calls: int | None = None
    max_cost_usd: float | None = None


@dataclass
class Admission:
    """A call under way; what it is told here counts when it ends."""

    holder: str = ""
    finishing: bool = False
    started: float = 0.0
    calls: int = 0
    cost_usd: float = 0.0
    refusal: tuple[float | None] | None = None

    @property
    def kept_for(self) -> str | None:
        """The holder whose part of the budget it may use."""
        return self.holder if self.finishing else None

    def spent(self, calls: int, cost_usd: float | None) -> None:
        """The call reached the model (`calls` is 0 when a cache answered), at this price (None: not known)."""
        self.calls += calls
        self.cost_usd += cost_usd or 0.0

    def refused(self, retry_after: float | None = None) -> None:
        """The provider turned it away, and asks to be left alone for so many seconds: everybody does so."""
        self.refusal = (retry_after,)


class Gate(Protocol):
    """A governor, here or behind a door."""

    def admitted(
        self, holder: str = "", *, finishing: bool = False, deadline: float | None = None
    ) -> AbstractContextManager[Admission]:
        """Stand around a call of `holder`: it starts when it may. `deadline` is on the clock of time.monotonic().

        Never more than `max_calls` reach the model: while those under way could fill the limit, further ones wait
        for their outcome. Money is known afterwards only: those under way count with the dearest price until then, and
        only a call that is dearer than all before it can overspend.

        Raises:
            BudgetExhausted: the calls or the money that it may use are spent.
            DeadlinePassed: the time is over, or was over before its turn.
            RunEnded: the governor is closed, or cannot be reached any more.
        """

    def keep_back(self, holder: str, calls: int, cost_usd: float = 0.0) -> None:
        """Keep so much of what is left of the budget for the holder's calls with `finishing`, which use it up.

        It replaces what was kept back for the holder before; 0 frees the rest for everybody.
        """
