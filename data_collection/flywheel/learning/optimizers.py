"""Optimizers behind one small interface. So far: MIPROv2 (Opsahl-Ong et al. 2024, arXiv 2406.11695).

DSPy 3.4.1's MIPROv2 is subclassed where it gives no hook: to report each trial, and to keep a minibatch run alive
when every distinct candidate has been fully evaluated.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dspy.teleprompt import MIPROv2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import dspy

MINIBATCH_FROM = 51
MINIBATCH_SIZE = 35
FULL_EVALUATION_EVERY = 5
# A bootstrapped demonstration must score at least this (0-1): DSPy would take any score above 0.
DEMO_THRESHOLD = 0.8


@dataclass(frozen=True)
class Settings:
    """How much to search.

    `candidates` is the number of instructions, and of demo sets, that are tried. With `seconds`, no further trial
    starts after a full evaluation that ended later than that.
    """

    trials: int = 50
    candidates: int = 10
    bootstrapped_demos: int = 4
    labeled_demos: int = 4
    threads: int = 8
    seed: int = 9
    seconds: float | None = None


@dataclass(frozen=True)
class Trial:
    """One trial: its score on the validation split (0-100), whether on all of it, and the best full score so far."""

    number: int
    score: float
    full: bool
    best: float


@dataclass
class Compiled:
    """The best program by the optimizer's own validation score, which is selection-biased and decides nothing."""

    program: dspy.Module
    trials: list[Trial] = field(default_factory=list)


def planned_calls(train: int, val: int, settings: Settings) -> int:
    """About how many model calls MIPROv2 makes for `train` and `val` examples: task and proposal calls."""
    minibatch = val >= MINIBATCH_FROM
    full, rest = divmod(settings.trials, FULL_EVALUATION_EVERY)
    trials = settings.trials * MINIBATCH_SIZE + (full + (rest > 0)) * val if minibatch else settings.trials * val
    bootstrap = min(train, settings.candidates * settings.bootstrapped_demos)
    proposals = min(10, -(-train // 10)) + 1 + 3 * settings.candidates
    return val + trials + bootstrap + proposals


class ReportingMIPROv2(MIPROv2):  # type: ignore[misc]  # DSPy is untyped
    """MIPROv2 that tells of each trial and survives running out of candidates."""

    def __init__(self, on_trial: Callable[[Trial], None], deadline: float, **options: Any) -> None:
        super().__init__(**options)
        self._on_trial = on_trial
        self._deadline = deadline

    def _log_minibatch_eval(self, score: float, best_score: float, *rest: Any, **named: Any) -> None:
        super()._log_minibatch_eval(score, best_score, *rest, **named)
        self._tell(score, best_score, full=False)

    def _log_normal_eval(
        self, score: float, best_score: float, chosen: Any, score_data: Any, trial: Any, *rest: Any
    ) -> None:
        super()._log_normal_eval(score, best_score, chosen, score_data, trial, *rest)
        self._tell(score, best_score, full=True)
        self._stop_if_late(trial.study)

    def _perform_full_evaluation(
        self, trial_num: int, adjusted_num_trials: int, param_score_dict: dict[str, Any], fully_evaled: dict[str, Any],
        *rest: Any,
    ) -> Any:  # fmt: skip
        if not param_score_dict.keys() - fully_evaled.keys():
            # DSPy raises "No valid program found" here; what it would return otherwise is known already.
            total_eval_calls, best_score, best_program = rest[3], rest[5], rest[6]
            return best_score, best_program, total_eval_calls
        outcome = super()._perform_full_evaluation(
            trial_num, adjusted_num_trials, param_score_dict, fully_evaled, *rest
        )
        score_data, study = rest[4], rest[7]
        self._tell(score_data[-1]["score"], outcome[0], full=True)
        self._stop_if_late(study)
        return outcome

    def _stop_if_late(self, study: Any) -> None:
        if time.monotonic() > self._deadline:
            study.stop()

    def _tell(self, score: float, best: float, *, full: bool) -> None:
        self._told = getattr(self, "_told", 0) + 1
        self._on_trial(Trial(self._told, float(score), full, float(best)))


@contextlib.contextmanager
def dspy_kept_quiet(log: Any) -> Iterator[None]:
    """DSPy prints hundreds of kilobytes a run: its logging goes to the stream `log`, its stdout nowhere."""
    logger = logging.getLogger("dspy")
    before, propagate, level = logger.handlers[:], logger.propagate, logger.level
    handler = logging.StreamHandler(log)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.handlers, logger.propagate = before, propagate
        logger.setLevel(level)


def run_mipro(
    program: dspy.Module,
    train: Sequence[dspy.Example],
    val: Sequence[dspy.Example],
    metric: Callable[..., float],
    settings: Settings,
    on_trial: Callable[[Trial], None],
) -> Compiled:
    """Search for better instructions and demonstrations; the model is the one of the surrounding dspy.context."""
    compiled = Compiled(program)

    def noted(trial: Trial) -> None:
        compiled.trials.append(trial)
        on_trial(trial)

    optimizer = ReportingMIPROv2(
        on_trial=noted,
        deadline=math.inf if settings.seconds is None else time.monotonic() + settings.seconds,
        metric=metric,
        auto=None,
        num_candidates=settings.candidates,
        max_bootstrapped_demos=settings.bootstrapped_demos,
        max_labeled_demos=settings.labeled_demos,
        num_threads=settings.threads,
        max_errors=10**9,
        metric_threshold=DEMO_THRESHOLD,
        seed=settings.seed,
    )
    minibatch = len(val) >= MINIBATCH_FROM
    compiled.program = optimizer.compile(
        program,
        trainset=list(train),
        valset=list(val),
        num_trials=settings.trials,
        minibatch=minibatch,
        minibatch_size=MINIBATCH_SIZE,
        minibatch_full_eval_steps=FULL_EVALUATION_EVERY,
    )
    return compiled
