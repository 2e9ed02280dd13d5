from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from flywheel.base.alongside import alongside
from flywheel.base.errors import BadInputError, FlywheelError

if TYPE_CHECKING:
    from collections.abc import Callable


def test_jobs_run_at_once_and_results_keep_the_order_of_the_jobs() -> None:
    met = threading.Barrier(2, timeout=10)
    ended = threading.Event()

    def first(told: Callable[[str], None]) -> int:
        met.wait()
        assert ended.wait(10)
        told("one")
        return 1

    def second(told: Callable[[str], None]) -> int:
        met.wait()
        told("two")
        ended.set()
        return 2

    lines: list[str] = []
    assert list(alongside({"git": first, "synthetic": second}, lines.append).items()) == [("git", 1), ("synthetic", 2)]
    assert lines == ["synthetic: two", "git: one"]


def refuse(words: str) -> Callable[[Callable[[str], None]], int]:
    def job(_: Callable[[str], None]) -> int:
        raise BadInputError(words)

    return job


def test_one_error_waits_for_the_other_job() -> None:
    done = []

    def slow(told: Callable[[str], None]) -> int:
        told("still at it")
        done.append(1)
        return 1

    lines: list[str] = []
    with pytest.raises(BadInputError, match=r"^no repository$"):
        alongside({"git": refuse("no repository"), "synthetic": slow}, lines.append)
    assert done == [1]
    assert lines == ["synthetic: still at it"]


def test_errors_of_both_are_told() -> None:
    with pytest.raises(FlywheelError, match=r"^git: no repository; synthetic: no templates$"):
        alongside({"git": refuse("no repository"), "synthetic": refuse("no templates")}, lambda _: None)


def test_a_bug_is_told_as_one() -> None:
    def broken(_: Callable[[str], None]) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        alongside({"git": refuse("no repository"), "synthetic": broken}, lambda _: None)
