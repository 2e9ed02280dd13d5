"""Watches a search: its best program, its trials, and when it is to end."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import sys
import time
from typing import TYPE_CHECKING, Any

from flywheel.learning.plateau import Decision, Plateau
from flywheel.learning.trials import Searched, Task, Trial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import dspy

log = logging.getLogger("dspy.flywheel")


class Watch:
    """What an optimizer tells as it goes; it asks `over` whether another trial is to start.

    `best` is the best program evaluated on all of the validation split so far (the first of equals), at first the
    one that the search began from. `decided` is told every decision on the plateau.
    """

    def __init__(
        self, task: Task, on_trial: Callable[[Trial], None], decided: Callable[[Decision], None] | None = None
    ) -> None:
        settings = task.settings
        self.best = task.program
        self.best_score = -math.inf
        self.trials: list[Trial] = []
        self.used = 0
        self.over: str | None = None
        self._on_trial = on_trial
        self._decided = decided or (lambda _: None)
        self._plateau = Plateau(settings.plateau_trials, task.groups, settings.seed)
        self._deadline = math.inf if settings.seconds is None else time.monotonic() + settings.seconds
        self._seconds = settings.seconds
        self._settle = task.settle
        self._latest: list[float] | None = None
        self._failure: BaseException | None = None

    def evaluated(self, program: dspy.Module, scores: Sequence[Any]) -> None:
        """A program was scored on all of the validation split; `scores` (0-1) in the split's order.

        The first one is the program that the search began from; of any other a trial is told next.
        """
        self._latest = [float(score) for score in scores]
        mean = sum(self._latest) / len(self._latest)
        if mean > self.best_score:
            self.best, self.best_score = program.deepcopy(), mean
        if not self._plateau.begun:
            self._note(self._plateau.begin(self._latest))
            self._latest = None

    @contextlib.contextmanager
    def failures_kept(self) -> Iterator[None]:
        """Stand around an evaluation as a whole: what fails it is raised at the next trial.

        DSPy takes such a failure for a score of 0, GEPA logs it, and both go on. (A failing item is a score of 0.)
        """
        done = False
        try:
            yield
            done = True
        finally:
            if not done:
                self._failure = sys.exc_info()[1]

    def raise_failure(self) -> None:
        """Raise what failed within `failures_kept`."""
        if self._failure is not None:
            raise self._failure

    def trial(self, score: float, best: float, *, full: bool, counts: bool = True) -> None:
        """A trial is done, with scores 0-100; one that `counts` used up one of the trials that were asked for."""
        self.raise_failure()
        self.used += counts
        told = Trial(len(self.trials) + 1, float(score), full, float(best))
        self.trials.append(told)
        self._on_trial(told)
        if full:
            self.look()

    def look(self) -> None:
        """Decide whether the search is to go on, by the latest full evaluation where there is a new one."""
        scores, self._latest = self._latest, None
        if self._plateau.begun:
            self._note(self._plateau.look(self.used, scores))
        if self.over is None and self._seconds is not None:
            question = f"late after trial {len(self.trials)}"
            if self._settle(question, lambda: time.monotonic() > self._deadline):
                self.over = f"time: {self._seconds:g} seconds are over"

    def _note(self, decision: Decision) -> None:
        self._decided(decision)
        if decision.stop is not None and self.over is None:
            self.over = decision.stop
        log.info("plateau: %s", decision)

    def searched(self, optimizer: str, planned: int, stopped: str | None) -> Searched:
        """How the search went."""
        ended = stopped or (self.over if self.over and self.used < planned else None)
        return Searched(optimizer, planned, self.used, ended or "all trials were run", stopped)


@contextlib.contextmanager
def dspy_kept_quiet(stream: Any) -> Iterator[None]:
    """DSPy prints hundreds of kilobytes a run: its logging goes to `stream`, its stdout nowhere."""
    logger = logging.getLogger("dspy")
    before, propagate, level = logger.handlers[:], logger.propagate, logger.level
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.handlers, logger.propagate = before, propagate
        logger.setLevel(level)
