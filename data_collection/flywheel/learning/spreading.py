"""How many signatures are worked on at once, and where: in turn, in processes, or on Ray."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flywheel.base.errors import ModelError
from flywheel.learning.cycle import Executor, Terms, Worked, in_turn
from flywheel.learning.stages import PREFLIGHT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flywheel.base.progress import Progress
    from flywheel.learning.assignment import Assignment
    from flywheel.learning.ledger import Ledger

LOCAL, RAY = "local", "ray"
# What DSPy itself computes for a call, measured on one core of a small machine; a process does it one by one (GIL).
OWN_SECONDS = 0.01
# Where no preflight call tells: a hosted model's.
USUAL_LATENCY_SECONDS = 2.0


@dataclass(frozen=True)
class Spread:
    """What was asked for: `workers` (None: as many as help), `cap` calls under way in all, and where to work.

    On Ray, on the cluster at `ray_address`; without an address one is started on this machine for the run.
    """

    workers: int | None = None
    cap: int = 32
    executor: str = LOCAL
    ray_address: str | None = None


def helpful_workers(count: int, threads: int, cap: int, latency: float, cores: int) -> int:
    """As many workers as signatures, cap and cores allow, given a call's latency in seconds.

    A worker with `threads` calls under way computes for `threads` x OWN_SECONDS in each latency, on one core at
    most. So the slower the model, the more workers share a core; a model that answers at once leaves one a core.
    """
    busy = min(1.0, threads * OWN_SECONDS / (latency + OWN_SECONDS))
    return max(1, min(count, cap, int(cores / busy)))


def workers_for(count: int, terms: Terms, spread: Spread, ledger: Ledger) -> int:
    """How many workers for `count` assignments: those asked for, else those that help.

    The embedded model keeps the whole machine busy by itself, so one signature at a time is its default.
    """
    if spread.workers is not None:
        return max(1, min(spread.workers, count))
    if terms.choice.embedded:
        return 1
    if spread.ray_address is not None:
        # How many cores the machines of a cluster have is Ray's to know.
        return max(1, min(count, spread.cap))
    latency = ledger.latency_ms(PREFLIGHT)
    seconds = USUAL_LATENCY_SECONDS if latency is None else latency / 1000
    return helpful_workers(count, terms.settings.threads, spread.cap, seconds, os.cpu_count() or 1)


def spread_out(spread: Spread, *, warm: bool = False) -> Executor:
    """The executor that was asked for, with as many workers as `workers_for` finds when it begins.

    With `warm`, what processes of this machine need is loaded from now on, in the background.

    Raises:
        ModelError: Ray is asked for and not installed.
    """
    if spread.executor == RAY and importlib.util.find_spec("ray") is None:
        msg = "Ray is not installed; run `uv sync --extra ray` (or pip install 'ray>=2.60'), or use --executor local"
        raise ModelError(msg)
    if warm and spread.executor == LOCAL and spread.workers != 1:
        from flywheel.learning.executors import warm_up

        warm_up()

    def execute(
        assignments: Sequence[Assignment], terms: Terms, ledger: Ledger, progress: Progress
    ) -> Iterator[tuple[Assignment, Worked]]:
        workers = workers_for(len(assignments), terms, spread, ledger)
        return _executor(workers, spread)(assignments, terms, ledger, progress)

    return execute


def _executor(workers: int, spread: Spread) -> Executor:
    if spread.executor == RAY:
        from flywheel.learning.ray_executor import on_ray

        return on_ray(workers, spread.ray_address)
    if workers == 1:
        return in_turn
    from flywheel.learning.executors import side_by_side

    return side_by_side(workers)
