"""Signatures side by side on Ray, on one machine or many: each assignment a task in a process of its own.

No disk is shared: a task works in a temporary folder (parcel.py). The run's governor admits its calls through a door,
by which each call's line comes to the run's ledger as it happens. A task that is lost is started again; what its calls
cost is counted, but its answers are lost with it. A provider's key must be in the environment of the machines.
"""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import signal
import socket
import sys
import tempfile
import threading
from collections import deque
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from flywheel.base.errors import BadInputError
from flywheel.learning.cycle import Executor, Terms, Worked, work
from flywheel.learning.governor_door import LOOPBACK, Door
from flywheel.learning.ledger import FILE_NAME, Call, Ledger, Totals
from flywheel.learning.parcel import RUN, Goods, Parcel, gathered, pack, put_away, unpack
from flywheel.learning.remote_governor import RemoteGovernor
from flywheel.learning.telling import ToldProgress, pass_on

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from flywheel.base.progress import Progress
    from flywheel.learning.assignment import Assignment
    from flywheel.learning.governor import Governor
    from flywheel.learning.governor_wire import Pass

ATTEMPTS = 2
LOOK_SECONDS = 0.3
LOG = "ray.log"
OBJECT_STORE_BYTES = 200 * 2**20
PACKAGE = Path(__file__).resolve().parents[1]
_CALL, _PROGRESS = "call", "progress"
# Ray reads it once in a process, when it is imported.
_KEY = secrets.token_hex(32)
# Ray would report its use over the network, and send what `uv run` was started with to its workers.
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}


@dataclass
class _Task:
    assignment: Assignment
    attempt: int


def on_ray(workers: int, address: str | None) -> Executor:
    """At most `workers` tasks at once, on the cluster at `address` or one that is started here for the time of it.

    The executor raises BadInputError where no cluster answers.
    """

    def execute(
        assignments: Sequence[Assignment], terms: Terms, ledger: Ledger, progress: Progress
    ) -> Iterator[tuple[Assignment, Worked]]:
        news: queue.SimpleQueue[tuple[str, str, str, int]] = queue.SimpleQueue()

        def hear(kind: str, *facts: Any) -> None:
            if kind == _CALL:
                ledger.record(Call(**facts[0]))
            elif kind == _PROGRESS:
                news.put(cast("tuple[str, str, str, int]", facts))

        progress.phase(f"{len(assignments)} signatures on Ray, {min(workers, len(assignments))} at a time")
        # Ray tells of lost workers on stdout, where the run's JSON goes.
        log = (terms.results / LOG).open("a")
        with (
            log,
            redirect_stdout(log),
            _cluster(workers, address) as host,
            Door(cast("Governor", ledger.gate), host, hear) as door,
        ):
            yield from _Flock(terms, door.entry, news, progress).work(assignments, workers)

    return execute


class _Flock:
    """The tasks at work."""

    def __init__(self, terms: Terms, entry: Pass, news: queue.SimpleQueue[Any], progress: Progress) -> None:
        import ray

        self._ray = ray
        self._terms, self._entry, self._news, self._progress = terms, entry, news, progress
        # A process a task: DSPy's cache and the threads that it leaves behind are a process's.
        self._remote = ray.remote(num_cpus=1, max_retries=0, max_calls=1)(_work_elsewhere)
        self._at_work: dict[Any, _Task] = {}

    def work(self, assignments: Sequence[Assignment], workers: int) -> Iterator[tuple[Assignment, Worked]]:
        """Start the tasks, pass on what they tell, and give what came of each."""
        waiting = deque(_Task(assignment, 1) for assignment in assignments)
        try:
            while waiting or self._at_work:
                while waiting and len(self._at_work) < workers:
                    task = waiting.popleft()
                    self._at_work[self._remote.remote(pack(task.assignment, self._terms), self._entry)] = task
                done, _ = self._ray.wait(list(self._at_work), num_returns=1, timeout=LOOK_SECONDS)
                self._pass_on()
                for reference in done:
                    task = self._at_work.pop(reference)
                    worked = self._outcome(reference, task)
                    if worked is None:
                        waiting.append(_Task(task.assignment, task.attempt + 1))
                    else:
                        yield task.assignment, worked
        finally:
            for reference in self._at_work:
                self._ray.cancel(reference, force=True)

    def _outcome(self, reference: Any, task: _Task) -> Worked | None:
        """What came of the task; None where it is lost and to be started again."""
        name = task.assignment.signature.name
        try:
            goods: Goods = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            lost = f"its worker was lost ({type(error).__name__})"
            if task.attempt < ATTEMPTS:
                self._progress.line(f"{name}: {lost}; starting it again")
                return None
            return Worked(None, lost, Totals(), 0.0)
        put_away(goods, task.assignment, self._terms)
        return goods.worked

    def _pass_on(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                pass_on(self._progress, *self._news.get_nowait())


def _work_elsewhere(parcel: Parcel, entry: Pass) -> Goods:
    """A task's whole life: one assignment, in a folder that goes with it."""
    with tempfile.TemporaryDirectory(prefix="flywheel-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        assignment, terms = unpack(parcel, folder)
        gate = RemoteGovernor(entry)
        name = assignment.signature.name
        progress = ToldProgress(lambda *told: gate.report(_PROGRESS, name, *told))
        with Ledger(folder / RUN / FILE_NAME, gate=gate, mirror=lambda call: gate.report(_CALL, vars(call))) as ledger:
            worked = work(assignment, terms, ledger, progress)
        if worked.refused:
            # Another machine may be answered: the run goes on without this signature, and can be resumed.
            problem = f"{worked.problem}; asked from {socket.gethostname()}"
            worked = replace(worked, problem=problem, refused=False)
        return gathered(worked, assignment, terms)


@contextlib.contextmanager
def _cluster(workers: int, address: str | None) -> Iterator[str]:
    """A Ray cluster; gives the address of this machine at which its workers reach it."""
    with contextlib.ExitStack() as ending:
        if address is None:
            # Where nobody else is to be let in: loopback alone, a key of its own, folders that go with it.
            scratch = tempfile.TemporaryDirectory(prefix="ray-", dir=_short_place(), ignore_cleanup_errors=True)
            place = ending.enter_context(scratch)
            own = {
                "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN": _KEY,
                "PYTHONPATH": os.pathsep.join(filter(None, (str(PACKAGE.parent), os.environ.get("PYTHONPATH")))),
                "TMPDIR": place,
            }
            ending.enter_context(_environment({**_QUIET, **own}))
            import ray

            where: dict[str, Any] = {"num_cpus": workers, "object_store_memory": OBJECT_STORE_BYTES}
            where |= {"include_dashboard": False, "_temp_dir": place}
        else:
            ending.enter_context(_environment(_QUIET))
            import ray

            where = {"address": address, "runtime_env": {"py_modules": [str(PACKAGE)]}}
        ending.callback(ray.shutdown)
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            ray.init(log_to_driver=False, configure_logging=False, **where)
        except (ConnectionError, RuntimeError, ValueError) as error:
            msg = f"no Ray cluster answers at {address}: {str(error).splitlines()[0]}"
            raise BadInputError(msg) from error
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)
        yield LOOPBACK if address is None else str(ray.util.get_node_ip_address())


def _short_place() -> str:
    """A folder for sockets, whose paths must not exceed 107 characters."""
    place = tempfile.gettempdir()
    return place if len(place) <= 20 or sys.platform == "win32" else "/tmp"  # noqa: S108 - a private one is made there


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Within, the variables are set for this process and those that it starts."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
