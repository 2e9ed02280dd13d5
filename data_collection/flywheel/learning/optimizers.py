"""Optimizers behind one small interface: mipro, gepa, bootstrap-rs, and labeled, the floor that a search must beat.

Each takes a Task and a Watch and gives a program; `run` gives it with how the search went. The model is the one of the
surrounding dspy.context.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flywheel.base.errors import ModelError
from flywheel.learning import fewshot, mipro, reflective
from flywheel.learning.ledger import RunStopped
from flywheel.learning.stages import Asked
from flywheel.learning.trials import BOOTSTRAP_RS, GEPA, LABELED, MIPRO, Compiled, Searched, Settings, Task, Trial
from flywheel.learning.watch import Watch, dspy_kept_quiet

if TYPE_CHECKING:
    from collections.abc import Callable

    import dspy

    from flywheel.learning.plateau import Decision

__all__ = [
    "OPTIMIZERS",
    "Compiled",
    "Searched",
    "Settings",
    "Task",
    "Trial",
    "dspy_kept_quiet",
    "planned_calls",
    "require_libraries",
    "run",
    "stage_calls",
]


@dataclass(frozen=True)
class Optimizer:
    """One way to search: from a task to a program; about how many calls (train, val, settings) by stage at most.

    `trials` is the cap on its trials; `library` is what it needs beyond DSPy.
    """

    compile: Callable[[Task, Watch], dspy.Module]
    calls: Callable[[int, int, Settings], dict[str, Asked]]
    trials: Callable[[Settings], int]
    library: str | None = None


OPTIMIZERS = {
    MIPRO: Optimizer(mipro.compile_mipro, mipro.planned_calls, lambda settings: settings.trials, "optuna"),
    GEPA: Optimizer(reflective.compile_gepa, reflective.planned_calls, lambda settings: settings.trials, "gepa"),
    BOOTSTRAP_RS: Optimizer(fewshot.compile_random_search, fewshot.planned_calls, fewshot.planned_trials),
    LABELED: Optimizer(fewshot.compile_labeled, lambda *_: {}, lambda _: 0),
}


def planned_calls(train: int, val: int, settings: Settings) -> int:
    """About how many model calls the search makes at most, all its optimizers together."""
    return sum(asked.calls for asked in stage_calls(train, val, settings).values())


def stage_calls(train: int, val: int, settings: Settings) -> dict[str, Asked]:
    """The same by stage."""
    found: dict[str, Asked] = {}
    for name in settings.optimizers:
        for stage, asked in OPTIMIZERS[name].calls(train, val, settings).items():
            found[stage] = found.get(stage, Asked()).plus(asked)
    return found


def require_libraries(names: tuple[str, ...]) -> None:
    """See that what the optimizers need is installed: DSPy would miss it after the first calls are spent.

    Raises:
        ModelError: something is not; the line says what to do.
    """
    for name in names:
        library = OPTIMIZERS[name].library
        if library is not None and importlib.util.find_spec(library) is None:
            msg = f"{library} is not installed, and the optimizer {name} needs it; run `uv sync`"
            raise ModelError(msg)


def run(
    name: str,
    task: Task,
    on_trial: Callable[[Trial], None],
    decided: Callable[[Decision], None] | None = None,
) -> Compiled:
    """Search by the optimizer of that name, telling each trial and each decision on the plateau.

    A limit that stops it (`RunStopped`) is no error: the best program so far is returned, see `Compiled`.
    """
    watch, stopped = Watch(task, on_trial, decided), None
    try:
        program = OPTIMIZERS[name].compile(task, watch)
    except RunStopped as reason:
        program, stopped = watch.best, str(reason)
    planned = OPTIMIZERS[name].trials(task.settings)
    return Compiled(program, watch.searched(name, planned, stopped), watch.trials)
