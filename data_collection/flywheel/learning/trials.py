"""What a search is asked for, what it tells, and what came of it: the records that all optimizers share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flywheel.base.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import dspy

MIPRO, GEPA, BOOTSTRAP_RS, LABELED = "mipro", "gepa", "bootstrap-rs", "labeled"
# DSPy keeps the first three sets of demonstrations for none, labels only, and the training data in their order.
FEWEST_CANDIDATES = 3
PLATEAU_TRIALS = 10


@dataclass(frozen=True)
class Settings:
    """How much to search, and by what.

    `candidates` is the number of instructions, and of demo sets, that are tried. `trials` is a cap: with
    `plateau_trials` above 0 a search ends when that many brought nothing better (see plateau.py). With `seconds`, no
    further trial starts after a full evaluation that ended later than that. Of several `optimizers` each one searches.

    Raises:
        BadInputError: an optimizer that is none, or too few candidates for any bootstrapped demonstration.
    """

    trials: int = 50
    candidates: int = 10
    bootstrapped_demos: int = 4
    labeled_demos: int = 4
    threads: int = 8
    seed: int = 9
    seconds: float | None = None
    optimizers: tuple[str, ...] = (MIPRO,)
    plateau_trials: int = PLATEAU_TRIALS

    def __post_init__(self) -> None:
        known = (MIPRO, GEPA, BOOTSTRAP_RS, LABELED)
        if not self.optimizers or set(self.optimizers) - set(known):
            msg = f"optimizers {', '.join(self.optimizers) or '(none)'}: expected some of {', '.join(known)}"
            raise BadInputError(msg)
        if self.bootstrapped_demos and self.candidates < FEWEST_CANDIDATES:
            msg = f"{self.candidates} candidates: fewer than {FEWEST_CANDIDATES} leave no bootstrapped demonstrations"
            raise BadInputError(msg)


@dataclass(frozen=True)
class Trial:
    """One trial: its score on the validation split (0-100), whether on all of it, and the best full score so far."""

    number: int
    score: float
    full: bool
    best: float


@dataclass(frozen=True)
class Searched:
    """How a search went. `ended` says why it ended; `stopped` as well, where a limit cut it short, else it is None.

    `trials_used` of at most `trials_planned` were run; full evaluations between minibatches are not counted.
    """

    optimizer: str
    trials_planned: int
    trials_used: int
    ended: str
    stopped: str | None = None

    @property
    def trials_saved(self) -> int:
        """Trials that a plateau, or a limit, made needless or impossible."""
        return max(0, self.trials_planned - self.trials_used)

    @property
    def told(self) -> str:
        """`18 of 50 trials; plateau: ...`."""
        return f"{self.trials_used} of {self.trials_planned} trials; {self.ended}"


@dataclass
class Compiled:
    """The best program by the optimizer's own validation score, which is selection-biased and decides nothing.

    Where a limit stopped the search (`searched.stopped`), the best that was evaluated on all of the validation split;
    before there was any, the program that the search began from.
    """

    program: dspy.Module
    searched: Searched
    trials: list[Trial] = field(default_factory=list)

    @property
    def optimizer(self) -> str:
        """Which optimizer found it."""
        return self.searched.optimizer

    @property
    def stopped(self) -> str | None:
        """Why a limit ended the search before its time; None when it ran to its end."""
        return self.searched.stopped


@dataclass(frozen=True)
class Task:
    """What is searched: from `program`, on DSPy examples, by a metric (example, prediction, trace) from 0 to 1.

    `feedback` is the metric as GEPA calls it, with a text that says what was wrong; `groups` names, for each
    validation example, what is not independent of it; `reflection` is the model that reads the feedback. `settle` is
    asked (question, answer) for what the clock decides, so that a resumed run can answer as it did before.
    """

    program: dspy.Module
    train: Sequence[dspy.Example]
    val: Sequence[dspy.Example]
    metric: Callable[..., float]
    settings: Settings
    feedback: Callable[..., Any] | None = None
    groups: Sequence[str] | None = None
    reflection: Any = None
    settle: Callable[[str, Callable[[], bool]], bool] = lambda _, answer: answer()
