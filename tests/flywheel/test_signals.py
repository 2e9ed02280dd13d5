from __future__ import annotations

import signal

import pytest

from flywheel.base import signals


def test_sigterm_raises_within_the_body_and_only_there() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(signals.TerminatedError), signals.sigterm_raises():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_handler_goes_back_when_the_body_fails() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError), signals.sigterm_raises():
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGTERM) is before


def test_libraries_that_swallow_exceptions_do_not_swallow_it() -> None:
    assert not issubclass(signals.TerminatedError, Exception)
    assert signals.EXIT_CODE == 143
