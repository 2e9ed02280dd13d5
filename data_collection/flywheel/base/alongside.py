"""Independent jobs side by side in threads: all their results, or all their errors."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from flywheel.base.errors import FlywheelError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_T = TypeVar("_T")


def alongside(jobs: Mapping[str, Callable[[Callable[[str], None]], _T]], tell: Callable[[str], None]) -> dict[str, _T]:
    """What each job gives, by its name, in the order of `jobs` whatever the order in which they end.

    A job is called with what tells its progress; its lines come out one at a time, each behind the job's name. All
    jobs are waited for, so that one's error hides no other's; interrupted, nothing is waited for.

    Raises:
        FlywheelError: a job's own, or one that tells those of several; anything else a job raised comes first.
    """
    news: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    given: dict[str, _T] = {}
    failed: dict[str, BaseException] = {}

    def run(name: str, job: Callable[[Callable[[str], None]], _T]) -> None:
        try:
            given[name] = job(lambda line: news.put((name, line)))
        except BaseException as error:  # noqa: BLE001 - it is raised in the caller's thread
            failed[name] = error
        news.put((name, None))

    for name, job in jobs.items():
        threading.Thread(target=run, args=(name, job), name=name, daemon=True).start()
    left = len(jobs)
    while left:
        name, line = news.get()
        if line is None:
            left -= 1
        else:
            tell(f"{name}: {line}")
    _raise(failed)
    return {name: given[name] for name in jobs}


def _raise(failed: Mapping[str, BaseException]) -> None:
    for error in failed.values():
        if not isinstance(error, FlywheelError):
            raise error
    if len(failed) == 1:
        raise next(iter(failed.values()))
    if failed:
        msg = "; ".join(f"{name}: {error}" for name, error in sorted(failed.items()))
        raise FlywheelError(msg)
