"""What a run may spend, and how it is stopped where that is spent."""

from __future__ import annotations

from dataclasses import dataclass


class RunStopped(BaseException):
    """A hard limit was reached. DSPy swallows every Exception, so this is none."""


class BudgetExhausted(RunStopped):
    """The calls or the money that the run may spend are spent."""


class DeadlinePassed(RunStopped):
    """The time that the run may take is over."""


class RunEnded(RunStopped):
    """The run is over: threads that DSPy left behind make no further call."""


_STOPS = {kind.__name__: kind for kind in (BudgetExhausted, DeadlinePassed, RunEnded)}


def stop_of(kind: str, why: str) -> RunStopped:
    """A stop that another process tells of, by the name of its class."""
    return _STOPS.get(kind, RunEnded)(why)


@dataclass(frozen=True)
class Limits:
    """What a run may spend; None means no limit. `deadline` is on the clock of `time.monotonic()`.

    `concurrency` is how many calls may be under way at once; `told_late` is what to say when the time is over.
    """

    max_calls: int | None = None
    max_cost_usd: float | None = None
    deadline: float | None = None
    concurrency: int | None = None
    told_late: str = "the run's time is over"
