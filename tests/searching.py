"""A task with a known optimum and an engine that answers it in this process, for tests of optimizers."""

from __future__ import annotations

import contextlib
import io
import json
import re
import threading
from typing import TYPE_CHECKING, Any

import dspy
from dspy.lm15 import Message, Response, Usage
from tests.loopback import chance

from flywheel.base.prices import Price
from flywheel.data.signatures.types import Field, Measure, Signature
from flywheel.learning.feedback import build_feedback
from flywheel.learning.ledger import Ledger
from flywheel.learning.lm import RecordedLM, context_of
from flywheel.learning.metrics import build_metric
from flywheel.learning.program import build_program
from flywheel.learning.trials import Settings, Task
from flywheel.learning.watch import dspy_kept_quiet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from flywheel.learning.ledger import Limits

FREE = Price(input=0.0, output=0.0)
HINT = "Look at the parity."
DULL = "Answer the question."
_QUESTION = re.compile(r"question (\w+) (\d+)")

SIGNATURE = Signature(
    name="parity",
    inputs=(Field("question", "str", "What is asked"),),
    outputs=(Field("good", "bool", "Whether"),),
    instructions="Answer.",
    metric=(Measure("accuracy", "good", 1.0),),
    project=lambda _: None,
)


def examples(split: str, count: int) -> list[dspy.Example]:
    """Questions whose right answer is yes for even numbers."""
    return [
        dspy.Example(question=f"question {split} {n}", good=n % 2 == 0).with_inputs("question") for n in range(count)
    ]


class Engine:
    """Answers right with a probability that instruction and demonstrations decide, the same way every time.

    `calls` counts requests; `on_call`, where set, is called with each before it is answered. Half of the proposed
    instructions are HINT, which adds `hint_bonus` to the probability; each demonstration adds `per_demo`.
    """

    def __init__(self, *, base: float = 0.3, hint_bonus: float = 0.3, per_demo: float = 0.08) -> None:
        self.base, self.hint_bonus, self.per_demo = base, hint_bonus, per_demo
        self.calls = 0
        self.requests: list[Any] = []
        self.on_call: Callable[[Any], None] | None = None
        self._lock = threading.Lock()

    def complete(self, request: Any) -> Response:
        with self._lock:
            self.calls += 1
            self.requests.append(request)
        if self.on_call is not None:
            self.on_call(request)
        return self.answered(self.answer(request), sum(len(message.text) for message in request.messages) // 4)

    @staticmethod
    def answered(text: str, tokens: int) -> Response:
        usage = Usage(input_tokens=tokens, output_tokens=2)
        return Response(id=None, model="m", message=Message.assistant(text), finish_reason="stop", usage=usage)

    def answer(self, request: Any) -> str:
        system, asked = texts(request)
        names = re.findall(r"^\d+\. `(\w+)`", system.split("Your output fields are:")[1], re.MULTILINE)
        if names[-1].endswith("instruction"):
            proposed = dict.fromkeys(names, HINT if chance(system, asked) < 0.5 else DULL)
            return json.dumps(proposed) if "JSON object" in asked else fields(**proposed)
        if names != ["good"]:
            return fields(**dict.fromkeys(names, "Nothing remarkable."))
        found = _QUESTION.search(asked)
        assert found is not None, asked
        demos = sum(message.role == "assistant" for message in request.messages)
        skill = self.base + self.per_demo * demos + (self.hint_bonus if HINT in system else 0.0)
        right = int(found[2]) % 2 == 0
        return fields(good=str(right if chance(found[0]) < skill else not right))


def texts(request: Any) -> tuple[str, str]:
    """The system prompt and the last message."""
    last = request.messages[-1]
    system = request.system if isinstance(request.system, str) else "".join(p.text for p in request.system or ())
    return system, last.text


def fields(**values: str) -> str:
    """Output fields as DSPy's chat adapter reads them."""
    lines = [f"[[ ## {name} ## ]]\n{value}" for name, value in values.items()]
    return "\n\n".join([*lines, "[[ ## completed ## ]]"])


def task(train: int = 12, val: int = 20, program: Any = None, **settings: Any) -> Task:
    """A search of SIGNATURE."""
    chosen = {"trials": 8, "candidates": 4, "bootstrapped_demos": 2, "labeled_demos": 2, "threads": 2, **settings}
    return Task(
        program=program or build_program(SIGNATURE),
        train=examples("train", train),
        val=examples("val", val),
        metric=build_metric(SIGNATURE),
        settings=Settings(**chosen),
        feedback=build_feedback(SIGNATURE),
    )


@contextlib.contextmanager
def searching(engine: Any, folder: Path, limits: Limits | None = None) -> Iterator[RecordedLM]:
    """The model that the engine is, in use, with DSPy kept quiet."""
    dspy.configure_cache(disk_cache_dir=str(folder / "cache"), restrict_pickle=True)
    with Ledger(folder / "calls.jsonl", limits) as ledger:
        model = RecordedLM("engine/parity", ledger.account("parity"), price=FREE, retries=0, engine=engine)
        with dspy_kept_quiet(io.StringIO()), context_of(model):
            yield model
