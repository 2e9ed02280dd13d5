"""SIGTERM as an exception, so that what must be written before the end is written."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

EXIT_CODE = 128 + signal.SIGTERM


class TerminatedError(BaseException):
    """SIGTERM arrived. No Exception, since libraries swallow those."""


@contextlib.contextmanager
def sigterm_raises() -> Iterator[None]:
    """Within the body (main thread only) SIGTERM raises TerminatedError."""

    def terminate(_number: int, _frame: FrameType | None) -> NoReturn:
        raise TerminatedError

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
