"""GEPA (Agrawal et al. 2025, arXiv 2507.19457), watched: a model reads what was wrong, and rewrites instructions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspy.teleprompt import GEPA

from flywheel.base.errors import BadInputError
from flywheel.learning.stages import PROPOSAL, SEARCH, Asked

if TYPE_CHECKING:
    import dspy

    from flywheel.learning.trials import Settings, Task
    from flywheel.learning.watch import Watch

# Training examples that a proposal looks at, before and after.
MINIBATCH = 3


def most_metric_calls(val: int, settings: Settings) -> int:
    """As many evaluated examples as the trials can take, each of them kept and scored on all of val."""
    return val + settings.trials * (2 * MINIBATCH + val)


def planned_calls(train: int, val: int, settings: Settings) -> dict[str, Asked]:
    """About how many model calls it makes at most: the reflecting model is called once a trial."""
    del train
    return {PROPOSAL: Asked(full=settings.trials), SEARCH: Asked(plain=most_metric_calls(val, settings))}


class _Listener:
    """GEPA's callbacks, told on to the watch; and its stop condition.

    GEPA goes on when a callback fails, hence `failures_kept`: what failed is raised where it asks whether to stop.
    """

    def __init__(self, task: Task, watch: Watch) -> None:
        self._task = task
        self._watch = watch
        self._kept = False
        self._latest = 0.0

    def on_iteration_start(self, event: Any) -> None:
        """Another proposal is made."""
        del event
        self._kept = False

    def on_evaluation_end(self, event: Any) -> None:
        """A program was scored on a minibatch; the proposal's comes after its parent's."""
        with self._watch.failures_kept():
            self._latest = 100 * sum(event["scores"]) / len(event["scores"])

    def on_valset_evaluated(self, event: Any) -> None:
        """A program was scored on all of the validation split; the first one is the program that it began from."""
        with self._watch.failures_kept():
            scores = [event["scores_by_val_id"][number] for number in sorted(event["scores_by_val_id"])]
            self._watch.evaluated(_with_instructions(self._task.program, event["candidate"]), scores)
            if event["parent_ids"]:
                self._kept = True
                self._watch.trial(100 * event["average_score"], 100 * self._watch.best_score, full=True)

    def on_iteration_end(self, event: Any) -> None:
        """A proposal that was not kept has used up a trial as well."""
        del event
        with self._watch.failures_kept():
            if not self._kept:
                self._watch.trial(self._latest, 100 * self._watch.best_score, full=False)
                self._watch.look()

    def __call__(self, state: Any) -> bool:
        """Whether to stop."""
        del state
        self._watch.raise_failure()
        return self._watch.over is not None or self._watch.used >= self._task.settings.trials


def _with_instructions(program: dspy.Module, texts: dict[str, str]) -> dspy.Module:
    changed = program.deepcopy()
    for name, predictor in changed.named_predictors():
        predictor.signature = predictor.signature.with_instructions(texts[name])
    return changed


def compile_gepa(task: Task, watch: Watch) -> dspy.Module:
    """Search for better instructions; the demonstrations stay those of the program.

    Raises:
        BadInputError: the task tells neither feedback nor a model to reflect on it.
    """
    if task.feedback is None or task.reflection is None:
        msg = "gepa needs a metric that gives feedback, and a model that reflects on it"
        raise BadInputError(msg)
    listener = _Listener(task, watch)
    settings = task.settings
    optimizer = GEPA(
        metric=task.feedback,
        # Exactly one budget; the listener ends it sooner, at the number of trials.
        max_metric_calls=most_metric_calls(len(task.val), settings),
        reflection_lm=task.reflection,
        reflection_minibatch_size=MINIBATCH,
        num_threads=settings.threads,
        # There is nothing to merge in a program of one predictor.
        use_merge=False,
        seed=settings.seed,
        gepa_kwargs={"callbacks": [listener], "stop_callbacks": [listener]},
    )
    optimizer.compile(task.program, trainset=list(task.train), valset=list(task.val))
    return watch.best
