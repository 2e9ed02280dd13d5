"""SIGTERM as an exception, so that what must be written before the end is written."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

EXIT_CODE = 128 + signal.SIGTERM
_ENDING = (signal.SIGTERM, signal.SIGINT)


class TerminatedError(SystemExit):
    """SIGTERM arrived: unless somebody has last words, the process ends with EXIT_CODE.

    No Exception, since libraries swallow those.
    """

    def __init__(self) -> None:
        super().__init__(EXIT_CODE)


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


@contextlib.contextmanager
def ignored() -> Iterator[None]:
    """Within the body (main thread only) SIGTERM and Ctrl-C do nothing: last words are being written."""
    before = [signal.signal(number, signal.SIG_IGN) for number in _ENDING]
    try:
        yield
    finally:
        for number, handler in zip(_ENDING, before, strict=True):
            signal.signal(number, handler)
