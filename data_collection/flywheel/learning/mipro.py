"""MIPROv2 (Opsahl-Ong et al. 2024, arXiv 2406.11695), watched.

DSPy 3.4.1 gives it no hook and has it fail in some corners, hence a subclass that relies on private methods; their
signatures and behaviour are held by tests/flywheel/test_dspy_contract.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspy.teleprompt import LabeledFewShot, MIPROv2

from flywheel.learning.stages import BOOTSTRAP, PROPOSAL, SEARCH, Asked, stage
from flywheel.learning.trials import FEWEST_CANDIDATES

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    import dspy

    from flywheel.learning.trials import Settings, Task
    from flywheel.learning.watch import Watch

MINIBATCH_FROM = 51
MINIBATCH_SIZE = 35
FULL_EVALUATION_EVERY = 5
# A bootstrapped demonstration must score at least this (0-1): DSPy would take any score above 0.
DEMO_THRESHOLD = 0.8
# DSPy gives up after ten failed items and returns what it has, as if all were well; how many failed is ours to judge.
NEVER_GIVE_UP = 10**9


def planned_calls(train: int, val: int, settings: Settings) -> dict[str, Asked]:
    """How many model calls each stage makes for `train` and `val` examples at most, if every answer parses."""
    full, rest = divmod(settings.trials, FULL_EVALUATION_EVERY)
    minibatches = settings.trials * MINIBATCH_SIZE + (full + (rest > 0)) * val
    trials = minibatches if val >= MINIBATCH_FROM else settings.trials * val
    proposals = min(10, -(-train // 10)) + 1 + 3 * settings.candidates
    return {
        BOOTSTRAP: Asked(full=_bootstrap_calls(train, settings)),
        PROPOSAL: Asked(full=proposals),
        SEARCH: Asked(plain=val, full=trials),
    }


def _bootstrap_calls(train: int, settings: Settings) -> int:
    """Each set of demonstrations is sought among the training examples, in the worst case through all of them.

    Of the candidates one has none and one labelled examples alone. Without labelled ones the teacher's prompts are the
    same for all sets, and answered once.
    """
    if settings.labeled_demos == 0:
        return train
    return max(0, settings.candidates - 2) * train if settings.bootstrapped_demos else 0


class WatchedMIPROv2(MIPROv2):  # type: ignore[misc]  # DSPy is untyped
    """MIPROv2 that tells of each trial, stops when told, and survives what DSPy's own does not."""

    def __init__(self, watch: Watch, **options: Any) -> None:
        super().__init__(**options)
        self._watch = watch

    def _bootstrap_fewshot_examples(
        self,
        program: Any,
        trainset: list[Any],
        *rest: Any,
        max_bootstrapped_demos: int,
        max_labeled_demos: int,
        **named: Any,
    ) -> Any:
        if max_bootstrapped_demos == 0 and max_labeled_demos > 0:
            # DSPy draws how many to bootstrap from 1 to 0, and crashes.
            count = max(named["num_fewshot_candidates"], FEWEST_CANDIDATES - 1)
            return _labeled_sets(program, trainset, max_labeled_demos, count, self.rng)
        demos = {"max_bootstrapped_demos": max_bootstrapped_demos, "max_labeled_demos": max_labeled_demos}
        with stage(BOOTSTRAP):
            return super()._bootstrap_fewshot_examples(program, trainset, *rest, **demos, **named)

    def _propose_instructions(self, *rest: Any, **named: Any) -> Any:
        with stage(PROPOSAL):
            return super()._propose_instructions(*rest, **named)

    def _optimize_prompt_parameters(
        self, program: Any, instructions: Any, demos: Any, evaluate: Any, valset: list[Any], *rest: Any
    ) -> Any:
        watched = self._watched(evaluate, len(valset))
        return super()._optimize_prompt_parameters(program, instructions, demos, watched, valset, *rest)

    def _watched(self, evaluate: Any, val: int) -> Callable[..., Any]:
        """DSPy's evaluation, which tells of each one on the whole validation split."""

        def watched(program: dspy.Module, **options: Any) -> Any:
            with self._watch.failures_kept():
                found = evaluate(program, **options)
                if len(found.results) == val:
                    self._watch.evaluated(program, [score for _, _, score in found.results])
                return found

        return watched

    def _log_minibatch_eval(self, score: float, best_score: float, *rest: Any, **named: Any) -> None:
        super()._log_minibatch_eval(score, best_score, *rest, **named)
        self._watch.trial(score, best_score, full=False)

    def _log_normal_eval(
        self, score: float, best_score: float, chosen: Any, score_data: Any, trial: Any, *rest: Any
    ) -> None:
        super()._log_normal_eval(score, best_score, chosen, score_data, trial, *rest)
        self._watch.trial(score, best_score, full=True)
        self._stop_if_over(trial.study)

    def _perform_full_evaluation(
        self, trial_num: int, adjusted_num_trials: int, param_score_dict: dict[str, Any], fully_evaled: dict[str, Any],
        *rest: Any,
    ) -> Any:  # fmt: skip
        total_eval_calls, score_data, best_score, best_program, study = rest[3:8]
        if not param_score_dict.keys() - fully_evaled.keys():
            # DSPy raises "No valid program found" here; what it would return otherwise is known already.
            self._watch.look()
            self._stop_if_over(study)
            return best_score, best_program, total_eval_calls
        outcome = super()._perform_full_evaluation(
            trial_num, adjusted_num_trials, param_score_dict, fully_evaled, *rest
        )
        self._watch.trial(score_data[-1]["score"], outcome[0], full=True, counts=False)
        self._stop_if_over(study)
        return outcome

    def _stop_if_over(self, study: Any) -> None:
        if self._watch.over is not None:
            study.stop()


def _labeled_sets(
    program: Any, trainset: list[Any], most: int, count: int, rng: random.Random
) -> dict[int, list[list[Any]]]:
    """For each predictor `count` sets of demonstrations, none at first and then labelled examples alone."""
    sets: dict[int, list[list[Any]]] = {i: [[]] for i, _ in enumerate(program.predictors())}
    for _ in range(count - 1):
        shuffled = rng.sample(trainset, len(trainset))
        chosen = LabeledFewShot(k=most).compile(program, trainset=shuffled)
        for i, predictor in enumerate(chosen.predictors()):
            sets[i].append(predictor.demos)
    return sets


def compile_mipro(task: Task, watch: Watch) -> dspy.Module:
    """Search for better instructions and demonstrations; the model is the one of the surrounding dspy.context."""
    settings = task.settings
    # The seed goes to the constructor: compile() would take 0 for none.
    optimizer = WatchedMIPROv2(
        watch,
        metric=task.metric,
        auto=None,
        num_candidates=settings.candidates,
        max_bootstrapped_demos=settings.bootstrapped_demos,
        max_labeled_demos=settings.labeled_demos,
        num_threads=settings.threads,
        max_errors=NEVER_GIVE_UP,
        metric_threshold=DEMO_THRESHOLD,
        seed=settings.seed,
    )
    return optimizer.compile(
        task.program,
        # Both always: without valset DSPy would cut the training data in two, unshuffled.
        trainset=list(task.train),
        valset=list(task.val),
        num_trials=settings.trials,
        minibatch=len(task.val) >= MINIBATCH_FROM,
        minibatch_size=min(MINIBATCH_SIZE, len(task.val)),
        minibatch_full_eval_steps=FULL_EVALUATION_EVERY,
    )
