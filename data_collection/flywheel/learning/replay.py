"""A run that was killed goes the same way again, without asking the model for anything twice.

Same seed, data and order of questions lead DSPy through the same search, and the run's own cache answers what was
answered before. What a cache cannot tell is kept here:

- which requests were answered (calls.jsonl names each by a key): they pass whatever the limits say, since they spend
  nothing, and one whose line was lost between cache and ledger is counted as spent after all;
- which failed for good, retries included, and how often: the same failure is raised again, without a call;
- what was decided by the clock or the budget (decisions.jsonl): a search that was stopped is stopped where it was.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from flywheel.base.errors import DamagedError
from flywheel.base.files import PRIVATE_FILE, to_json
from flywheel.base.lines import read_lines
from flywheel.learning.limits import BudgetExhausted, DeadlinePassed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from dspy.utils.exceptions import LMError

    from flywheel.learning.calls import Call

DECISIONS = "decisions.jsonl"
_Request = tuple[str, str]
_STOPS = {kind.__name__: kind for kind in (BudgetExhausted, DeadlinePassed)}


class ModelRefused(BaseException):
    """The first call that a resumed run made anew failed for a reason that is not the request's; `error` is DSPy's.

    No Exception, since DSPy would score it 0 and go on to the next.
    """

    def __init__(self, error: LMError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True)
class Decision:
    """A line of decisions.jsonl."""

    signature: str
    question: str
    answer: Any


def read_decisions(path: Path) -> Iterator[Decision]:
    """The decisions in the file; none when there is no file.

    Raises:
        DamagedError: a line is none.
    """
    for number, line in enumerate(read_lines(path), 1):
        try:
            yield Decision(**json.loads(line))
        except (ValueError, TypeError) as error:
            msg = f"{path}, line {number}: not a decision: {error}"
            raise DamagedError(msg) from error


class Replay:
    """What the run was answered, refused and decided so far; safe to use from any thread.

    With `unproven` set, the first call made anew must be answered: a resumed run makes no preflight call.
    """

    def __init__(self, calls: Iterable[Call], decisions: Path) -> None:
        self.unproven = False
        self._refusal: ModelRefused | None = None
        self._lock = threading.Lock()
        self._path = decisions
        self._decisions = {(d.signature, d.question): d.answer for d in read_decisions(decisions)}
        # By signature and key: each signature has a cache of its own, and two may ask the same. A request's number
        # among its signature's: those answered before a stop are told from those after it.
        self._answered: dict[_Request, int] = {}
        self._count: Counter[str] = Counter()
        self._failures: dict[_Request, list[str]] = defaultdict(list)
        self._failed_again: Counter[_Request] = Counter()
        self._begun: set[_Request] = set()
        self._stops = {key: value for key, value in self._decisions.items() if key[1].startswith(_stop(""))}
        for call in calls:
            self.note(call)
        self._begun.update(self._answered)

    def note(self, call: Call, *, live: bool = False) -> None:
        """Take in a call that reached the model, before or (`live`) just now."""
        if call.key is None or call.cached:
            return
        request = call.signature, call.key
        with self._lock:
            if call.error is not None:
                self._failures[request].append(call.error)
                # Asked again in this process, it is a call again.
                self._failed_again[request] += live
            elif request not in self._answered:
                self._answered[request] = self._count[call.signature]
                self._count[call.signature] += 1

    def failure(self, key: str, signature: str) -> str | None:
        """How the request failed before, each failure once and in order; None: ask."""
        request = signature, key
        with self._lock:
            before, again = self._failures.get(request, ()), self._failed_again[request]
            if again >= len(before):
                return None
            self._failed_again[request] += 1
            return before[again]

    def knows(self, key: str, signature: str, stage: str) -> bool:
        """Whether the cache has the answer; where the stage was stopped, only what was answered by then counts."""
        with self._lock:
            number = self._answered.get((signature, key))
            stop = self._stops.get((signature, _stop(stage)))
            return number is not None and (stop is None or number < stop["answered"])

    def first_asked(self, key: str, signature: str) -> bool:
        """Whether nobody has asked this before: an answer from the cache is then one whose line was lost."""
        request = signature, key
        with self._lock:
            if request in self._begun:
                return False
            self._begun.add(request)
            return True

    @contextlib.contextmanager
    def stopping(self, signature: str, stage: str) -> Iterator[None]:
        """Stand around the admission of a call: a stop is kept, and raised again when the run is resumed."""
        if self._refusal is not None:
            raise self._refusal
        stop = self._stops.get((signature, _stop(stage)))
        if stop is not None:
            raise _STOPS[stop["kind"]](stop["why"])
        try:
            yield
        except (BudgetExhausted, DeadlinePassed) as stopped:
            with self._lock:
                answered = self._count[signature]
            facts = {"kind": type(stopped).__name__, "why": str(stopped), "answered": answered}
            self.decided(signature, _stop(stage), lambda: facts)
            raise

    def refused(self, error: LMError) -> ModelRefused:
        """What ends this run because its first call was refused."""
        self._refusal = ModelRefused(error)
        return self._refusal

    def decided(self, signature: str, question: str, answer: Callable[[], Any]) -> Any:
        """What was answered to the question before, else `answer()`, which is kept; for what a clock decides.

        The answer is JSON: true or false, a number, a text, an object.
        """
        with self._lock:
            if (signature, question) not in self._decisions:
                value = answer()
                self._append(Decision(signature, question, value))
                self._decisions[signature, question] = value
            return self._decisions[signature, question]

    def _append(self, decision: Decision) -> None:
        """In one write, so that other processes' lines stay whole."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, PRIVATE_FILE)
        try:
            os.write(descriptor, to_json(asdict(decision), indent=None).encode())
        finally:
            os.close(descriptor)


def _stop(stage: str) -> str:
    return f"stopped in {stage}"
