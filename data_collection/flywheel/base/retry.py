"""Trying again what may succeed later, with growing pauses and for a bounded time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from flywheel.base.errors import FlywheelError

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")


class DeliveryError(FlywheelError):
    """Something could not be delivered and trying again at once would not help. Its message holds no secret."""


class TransientError(DeliveryError):
    """Something could not be delivered now; `retry_after` is the pause in seconds that the other side asked for."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True)
class Patience:
    """How long to wait for an answer, how often to try, and how long to pause (doubling); all times in seconds.

    A pause that the other side asks for is honoured up to `longest_pause`; a longer one ends the attempt.
    """

    timeout: float
    attempts: int
    backoff: float
    longest_pause: float = 60.0
    sleep: Callable[[float], None] = time.sleep


def retrying(work: Callable[[], _T], patience: Patience) -> _T:
    """What `work` gives, tried again after each TransientError.

    Raises:
        DeliveryError: as `work` raised it, the last time.
    """
    for attempt in range(patience.attempts - 1):
        try:
            return work()
        except TransientError as error:
            asked = error.retry_after
            if asked is not None and asked > patience.longest_pause:
                raise
            patience.sleep(max(asked or 0.0, min(patience.backoff * 2**attempt, patience.longest_pause)))
    return work()
