"""Score a program on examples, keeping every answer, and telling a failure from a zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dspy

from flywheel.learning.program import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# dspy.Evaluate gives failed items this score; metrics are 0-1, so it cannot be one.
FAILED = -1.0
NEVER_GIVE_UP = 10**9


@dataclass(frozen=True)
class Scored:
    """One example's outcome: the score 0-1 (None: the program failed) and the fields it answered."""

    score: float | None
    answer: dict[str, Any]


def evaluate(
    program: Callable[..., dspy.Prediction],
    examples: Sequence[dspy.Example],
    metric: Callable[..., float],
    *,
    threads: int,
    progress: Callable[[], None],
) -> list[Scored]:
    """Run the program on every example, in order; a failing item does not end the evaluation."""
    return evaluate_in_turns([program], examples, metric, threads=threads, progress=progress)[0]


def evaluate_in_turns(
    programs: Sequence[Callable[..., dspy.Prediction]],
    examples: Sequence[dspy.Example],
    metric: Callable[..., float],
    *,
    threads: int,
    progress: Callable[[], None],
) -> list[list[Scored]]:
    """Each program's outcomes, in order. All are asked an example before the next one is begun.

    So whatever changes at the server meanwhile, its speed or the model behind a name, meets all programs alike.
    """

    def run(example: dspy.Example, turn: int) -> dspy.Prediction:
        return programs[turn](**example.inputs())

    def counted(item: dspy.Example, prediction: dspy.Prediction, trace: object = None) -> float:
        progress()
        return metric(item.example, prediction, trace)

    turns = range(len(programs))
    evaluation = dspy.Evaluate(
        devset=[
            dspy.Example(example=one, turn=turn).with_inputs("example", "turn") for one in examples for turn in turns
        ],
        metric=counted,
        num_threads=threads,
        display_progress=False,
        max_errors=NEVER_GIVE_UP,
        failure_score=FAILED,
    )
    scored = [
        Scored(None if score == FAILED else float(score), plain(prediction))
        for _, prediction, score in evaluation(run).results
    ]
    return [scored[turn :: len(programs)] for turn in turns]


def mean_score(scored: Sequence[Scored]) -> float | None:
    """The mean of the items that were answered, 0-1; None when none was."""
    scores = [item.score for item in scored if item.score is not None]
    return sum(scores) / len(scores) if scores else None
