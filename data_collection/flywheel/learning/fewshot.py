"""Demonstrations without new instructions: random search over bootstrapped sets, and labelled examples alone."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from dspy.teleprompt import BootstrapFewShotWithRandomSearch, LabeledFewShot

from flywheel.learning.evaluation import evaluate
from flywheel.learning.mipro import DEMO_THRESHOLD, NEVER_GIVE_UP
from flywheel.learning.stages import SEARCH, Asked

if TYPE_CHECKING:
    from collections.abc import Sequence

    import dspy

    from flywheel.learning.trials import Settings, Task
    from flywheel.learning.watch import Watch

# DSPy numbers its candidates from here: no demonstrations, labels only, bootstrapped from the data as they stand;
# those from 0 are bootstrapped from shuffled data.
_FIRST = -3


def _numbers(settings: Settings) -> range:
    """DSPy's numbers of the candidates that are tried."""
    # Without bootstrapping DSPy would draw how many to bootstrap from 1 to 0, and crash.
    shuffled = min(settings.candidates, settings.trials + _FIRST) if settings.bootstrapped_demos else 0
    return range(_FIRST, max(shuffled, _FIRST + 1))


def planned_trials(settings: Settings) -> int:
    """How many sets of demonstrations random search tries: its candidates and three more, at most the trials."""
    return len(_numbers(settings))


def planned_calls(train: int, val: int, settings: Settings) -> dict[str, Asked]:
    """How many model calls random search makes at most, if every answer parses."""
    tried = planned_trials(settings)
    # A set is sought among the training examples, in the worst case through all of them; DSPy does both in one.
    return {SEARCH: Asked(plain=2 * val, full=max(0, tried - 2) * train + (tried - 1) * val)}


def compile_random_search(task: Task, watch: Watch) -> dspy.Module:
    """Random search over sets of demonstrations; the instructions stay those of the program.

    DSPy's own loop can neither be watched nor stopped, so that it is asked for one candidate at a time.
    """
    settings = task.settings
    optimizer = BootstrapFewShotWithRandomSearch(
        metric=task.metric,
        max_bootstrapped_demos=settings.bootstrapped_demos,
        max_labeled_demos=settings.labeled_demos,
        num_candidate_programs=settings.candidates,
        num_threads=settings.threads,
        max_errors=NEVER_GIVE_UP,
        metric_threshold=DEMO_THRESHOLD,
    )
    train = _shuffled(task.train, settings)
    scored = evaluate(task.program, task.val, task.metric, threads=settings.threads, progress=lambda: None)
    watch.evaluated(task.program, [item.score or 0.0 for item in scored])
    for number in _numbers(settings):
        if watch.over is not None:
            break
        found = optimizer.compile(task.program, trainset=list(train), valset=list(task.val), restrict=[number])
        (candidate,) = found.candidate_programs
        watch.evaluated(candidate["program"], candidate["subscores"])
        watch.trial(candidate["score"], 100 * watch.best_score, full=True)
    return watch.best


def compile_labeled(task: Task, watch: Watch) -> dspy.Module:
    """Examples with their labels as demonstrations, drawn by the seed: no search, and no call."""
    del watch
    return labeled(task.program, task.train, task.settings)


def labeled(program: dspy.Module, train: Sequence[dspy.Example], settings: Settings) -> dspy.Module:
    """The program with labelled examples as its only demonstrations, drawn by the seed."""
    return LabeledFewShot(k=settings.labeled_demos).compile(program, trainset=_shuffled(train, settings))


def _shuffled(train: Sequence[dspy.Example], settings: Settings) -> list[Any]:
    """The training data in the order of the seed: DSPy's own draws always begin from the same one."""
    return random.Random(settings.seed).sample(list(train), len(train))  # noqa: S311 - no secret
