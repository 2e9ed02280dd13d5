"""Signatures side by side, each assignment in a process of its own.

The figures are those of `cycle.in_turn`, in order of completion: a worker searches and evaluates, while publishing and
the summary stay with the caller. A worker that is lost is started again; the run's cache answers what it had asked.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, cast

import cloudpickle

from flywheel.base.orphans import end_with_parent
from flywheel.base.signals import EXIT_CODE, TerminatedError, sigterm_raises
from flywheel.learning.cycle import Executor, Terms, Worked, work
from flywheel.learning.governor_door import Door
from flywheel.learning.ledger import Ledger, Totals
from flywheel.learning.remote_governor import RemoteGovernor
from flywheel.learning.telling import ToldProgress, pass_on

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkServerContext, ForkServerProcess
    from pathlib import Path

    from flywheel.base.progress import Progress
    from flywheel.learning.assignment import Assignment
    from flywheel.learning.governor import Governor
    from flywheel.learning.governor_wire import Pass

ATTEMPTS = 2
END_SECONDS = 10.0
_DONE = "done"


@dataclass
class _Worker:
    """A process at work on an assignment, and its result once it has told it."""

    process: ForkServerProcess
    assignment: Assignment
    attempt: int
    result: Worked | None = None


def side_by_side(workers: int) -> Executor:
    """At most `workers` processes; the governor of the caller's ledger admits the calls of all of them."""

    def execute(
        assignments: Sequence[Assignment], terms: Terms, ledger: Ledger, progress: Progress
    ) -> Iterator[tuple[Assignment, Worked]]:
        door = Door(cast("Governor", ledger.gate))
        crew = _Crew(terms, ledger.path, door.entry)
        waiting = deque((assignment, 1) for assignment in assignments)
        progress.phase(f"{len(assignments)} signatures, {min(workers, len(assignments))} at a time")
        try:
            while waiting or crew.at_work:
                while waiting and len(crew.at_work) < workers:
                    crew.start(*waiting.popleft())
                for worker in crew.ended(progress):
                    if worker.result is None and worker.attempt < ATTEMPTS:
                        progress.line(f"{worker.assignment.signature.name}: {_lost(worker)}; starting it again")
                        waiting.append((worker.assignment, worker.attempt + 1))
                    else:
                        yield worker.assignment, worker.result or Worked(None, _lost(worker), Totals(), 0.0)
        finally:
            crew.end()
            door.close()

    return execute


def warm_up() -> None:
    """Begin to load what workers need, in the background: they start in milliseconds afterwards."""
    _forking()
    forkserver.ensure_running()


def _forking() -> ForkServerContext:
    """Forked from a process that has DSPy loaded and no threads of its own: a start is quick, and safe."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _lost(worker: _Worker) -> str:
    return f"its worker was lost (exit code {worker.process.exitcode})"


class _Crew:
    """The processes at work, by the pipe on which each one tells what it does."""

    def __init__(self, terms: Terms, calls: Path, entry: Pass) -> None:
        self._terms, self._calls, self._entry = terms, calls, entry
        self.at_work: dict[Connection, _Worker] = {}
        self._context = _forking()

    def start(self, assignment: Assignment, attempt: int) -> None:
        """Start a worker. A user's signature may hold functions that only cloudpickle can carry over."""
        payload = cloudpickle.dumps((assignment, self._terms, self._calls, self._entry))
        here, there = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_worker, args=(payload, there), daemon=True)
        process.start()
        there.close()
        self.at_work[here] = _Worker(process, assignment, attempt)

    def ended(self, progress: Progress) -> Iterator[_Worker]:
        """Wait for news, pass them on, and give the workers that have ended."""
        for pipe in cast("list[Connection]", wait(list(self.at_work))):
            worker = self.at_work[pipe]
            try:
                self._hear(worker, pipe.recv(), progress)
            except (EOFError, OSError):
                # The other end is closed, or was within a message when its process was killed.
                worker.process.join()
                pipe.close()
                del self.at_work[pipe]
                yield worker

    @staticmethod
    def _hear(worker: _Worker, news: tuple[str, Any, int], progress: Progress) -> None:
        kind, body, count = news
        name = worker.assignment.signature.name
        if kind == _DONE:
            worker.result = cloudpickle.loads(body)
        else:
            pass_on(progress, name, kind, body, count)

    def end(self) -> None:
        """End the workers that are still at work."""
        for worker in self.at_work.values():
            worker.process.terminate()
        for pipe, worker in self.at_work.items():
            worker.process.join(END_SECONDS)
            # A call that hangs must not keep the run from its end.
            worker.process.kill()
            worker.process.join()
            pipe.close()
        self.at_work.clear()


def _worker(payload: bytes, pipe: Connection) -> None:
    """A worker's whole life: one assignment."""
    end_with_parent()
    # Ctrl-C reaches the whole group; the caller ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    assignment, terms, calls, entry = cloudpickle.loads(payload)
    progress = ToldProgress(lambda *news: pipe.send(news))
    try:
        with sigterm_raises(), Ledger(calls, gate=RemoteGovernor(entry)) as ledger:
            worked = work(assignment, terms, ledger, progress)
    except TerminatedError:
        raise SystemExit(EXIT_CODE) from None
    pipe.send((_DONE, cloudpickle.dumps(worked), 0))
    pipe.close()
