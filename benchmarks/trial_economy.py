"""What plateau stopping saves, and what it costs: against all 50 trials, on landscapes whose optimum is known.

DSPy's own MIPROv2, as the system runs it, searches with a deterministic engine in this process. An answer is right with
a probability that the example's own difficulty, the instruction and the demonstrations decide; whether it is right
depends on seed, program and example alone, so that equally good programs err on different examples. Landscapes:
- early: every second proposed instruction is better by 20 points;
- late: one of nine instructions is better by 10 points, and by 20 without demonstrations, one of ten sets of them;
- none: nothing is better than anything else.
Each seed is searched twice, with and without the plateau, from an empty cache. Calls are those that reach the engine.
The loss is by how much the program found with all trials is better on 2,000 held-out examples, in points of 100.

Run as: uv run benchmarks/trial_economy.py            (20 seeds; 60 validation examples, so by minibatches)
        uv run benchmarks/trial_economy.py --val 40   (every trial on the whole validation split)
"""

from __future__ import annotations

import argparse
import hashlib
import io
import math
import re
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import NormalDist, fmean, stdev
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data_collection"))

import flywheel.learning  # noqa: F401 - its switches must stand before DSPy is imported

# isort: split
import dspy
from dspy.lm15 import Message, Response, Usage

from flywheel.base.prices import Price
from flywheel.learning.ledger import FILE_NAME, Ledger
from flywheel.learning.lm import RecordedLM, context_of
from flywheel.learning.optimizers import Settings, Task, dspy_kept_quiet, run
from flywheel.learning.trials import PLATEAU_TRIALS

LANDSCAPES = ("early", "late", "none")
SEEDS, TRAIN, VAL, TEST = 20, 40, 60, 2000
# Held-out examples that are asked as DSPy asks them, to see that the rest would be answered as the landscape says.
CHECKED = 5
FREE = Price(input=0.0, output=0.0)
MOST_CALLS, MOST_LOSS, CONFIDENCE = 0.5, 1.0, 0.95
GAIN = 0.20
# Student's t, one-sided 95 %, 19 degrees of freedom; the normal quantile stands in for other numbers of seeds.
T_19 = 1.7291
_NUMBER = re.compile(r"Instruction number (\d+)")
_ASKED = re.compile(r"example (\w+) (\d+)")
_OUTPUTS = re.compile(r"^\d+\. `(\w+)`", re.MULTILINE)


def chance(*parts: object) -> float:
    """A number in [0, 1) that depends on `parts` alone, as if drawn at random."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "big") / 2**64


@dataclass(frozen=True)
class Landscape:
    """How good a program is: `skill` is what instruction and demonstrations add to the chance of a right answer."""

    name: str
    seed: int

    def skill(self, instruction: int, demos: tuple[str, ...]) -> float:
        """What is added; instruction 0 is the one that the search begins from."""
        if self.name == "early":
            return GAIN if instruction and (instruction + self.seed) % 2 else 0.0
        if self.name == "late" and instruction == 1 + self.seed % 9:
            return GAIN if not demos else GAIN / 2
        return 0.0

    def right(self, instruction: int, demos: tuple[str, ...], example: str) -> bool:
        """Whether the program answers the example right."""
        difficulty = 0.2 + 0.4 * chance("difficulty", self.seed, example)
        answered = chance("answer", self.name, self.seed, instruction, demos, example)
        return answered < difficulty + self.skill(instruction, demos)


class Engine:
    """Answers as the landscape says, and proposes numbered instructions."""

    def __init__(self, landscape: Landscape) -> None:
        self._landscape = landscape
        self._proposed = 0
        self.calls = 0

    def complete(self, request: Any) -> Response:
        """One call."""
        self.calls += 1
        system = request.system if isinstance(request.system, str) else "".join(part.text for part in request.system)
        wanted = _OUTPUTS.findall(system.split("Your output fields are:")[1].split("All interactions")[0])
        lines = [f"[[ ## {name} ## ]]\n{self._value(name, system, request)}" for name in wanted]
        text = "\n\n".join([*lines, "[[ ## completed ## ]]"])
        usage = Usage(input_tokens=1, output_tokens=1)
        return Response(id=None, model="m", message=Message.assistant(text), finish_reason="stop", usage=usage)

    def _value(self, name: str, system: str, request: Any) -> str:
        if name == "proposed_instruction":
            # The first proposal is dropped for the instruction that the search begins from.
            self._proposed += 1
            return f"Instruction number {self._proposed - 1}."
        if name != "answer":
            return "Nothing remarkable."
        asked = [found[0] for message in request.messages if (found := _ASKED.search(message.text)) is not None]
        right = self._landscape.right(numbered(system), tuple(asked[:-1]), asked[-1])
        return "yes" if right else "no"


def numbered(instructions: str) -> int:
    """The number of an instruction; 0 is the one that the search begins from."""
    found = _NUMBER.search(instructions)
    return int(found[1]) if found else 0


def examples(split: str, count: int) -> list[dspy.Example]:
    """Examples to which `yes` is the right answer."""
    return [dspy.Example(question=f"example {split} {n}", answer="yes").with_inputs("question") for n in range(count)]


def metric(example: Any, prediction: Any, trace: object = None) -> float:
    """1 for a right answer."""
    del trace
    return float(prediction.answer == example.answer)


@dataclass(frozen=True)
class Arm:
    """One search: calls, trials, and the share of held-out examples that the program found answers right."""

    calls: int
    trials: int
    held_out: float
    skill: float


def search(landscape: Landscape, plateau: int, val: int) -> Arm:
    """Search the landscape, from an empty cache, and test what was found on the held-out examples."""
    dspy.configure_cache(enable_disk_cache=False)
    engine = Engine(landscape)
    signature = dspy.make_signature(
        {"question": (str, dspy.InputField()), "answer": (str, dspy.OutputField())}, "Answer."
    )
    settings = Settings(threads=1, seed=landscape.seed, plateau_trials=plateau)
    task = Task(dspy.Predict(signature), examples("train", TRAIN), examples("val", val), metric, settings)
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / FILE_NAME) as ledger:
        model = RecordedLM("engine/landscape", ledger.account(landscape.name), price=FREE, retries=0, engine=engine)
        with dspy_kept_quiet(io.StringIO()), context_of(model):
            found = run("mipro", task, lambda _: None)
            calls = engine.calls
            first = [metric(example, found.program(**example.inputs())) for example in examples("test", CHECKED)]
    program = numbered(found.program.signature.instructions), tuple(demo.question for demo in found.program.demos)
    right = [landscape.right(*program, f"example test {n}") for n in range(TEST)]
    if first != right[:CHECKED]:
        msg = f"{landscape}: the program that was found answers otherwise than its landscape says"
        raise AssertionError(msg)
    return Arm(calls, found.searched.trials_used, fmean(right), landscape.skill(*program))


def upper_bound(values: list[float]) -> float:
    """The one-sided 95 % upper bound of the mean."""
    quantile = T_19 if len(values) == SEEDS else NormalDist().inv_cdf(CONFIDENCE)
    return fmean(values) + quantile * stdev(values) / math.sqrt(len(values))


def told(name: str, pairs: list[tuple[Arm, Arm]]) -> bool:
    """Print a landscape's figures; whether it is short of its goals."""
    stopped, full = zip(*pairs, strict=True)
    share = sum(arm.calls for arm in stopped) / sum(arm.calls for arm in full)
    losses = [100 * (whole.held_out - part.held_out) for part, whole in pairs]
    known = fmean(100 * (whole.skill - part.skill) for part, whole in pairs)
    trials, calls = (fmean(getattr(arm, what) for arm in stopped) for what in ("trials", "calls"))
    print(
        f"{name}: {trials:.1f} trials, {calls:.0f} calls; all trials take {fmean(arm.calls for arm in full):.0f} calls"
    )
    print(f"{name}: loss {fmean(losses):+.2f} points, by the known skills {known:+.2f}")
    bound, has_goal = upper_bound(losses), name != "late"
    short = [line(f"{name} calls", share, "of all", MOST_CALLS if has_goal else None)]
    short.append(line(f"{name} loss at most", bound, "points", MOST_LOSS if has_goal else None))
    return any(short)


def line(name: str, value: float, unit: str, goal: float | None) -> bool:
    """Print a figure against its goal, which is the most that it may be; whether it is short of that."""
    short = goal is not None and value > goal
    ending = "reported" if goal is None else f"(goal <= {goal:g}) {'short' if short else 'ok'}"
    print(f"{name}: {value:.3f} {unit} {ending}", flush=True)
    return short


def main() -> int:
    """Search every landscape with every seed; 1 when one is short of its goals."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--seeds", type=int, default=SEEDS, metavar="N", help="how many seeds")
    parser.add_argument("--val", type=int, default=VAL, metavar="N", help="validation examples")
    parser.add_argument("--plateau-trials", type=int, default=PLATEAU_TRIALS, metavar="N", help="the patience")
    parser.add_argument("--landscape", choices=LANDSCAPES, action="append", help="only this one, repeatable")
    args = parser.parse_args()
    begun, short = time.process_time(), False
    for name in args.landscape or LANDSCAPES:
        pairs = []
        for seed in range(1, args.seeds + 1):
            arms = partial(search, Landscape(name, seed), val=args.val)
            pairs.append((arms(args.plateau_trials), arms(0)))
        short |= told(name, pairs)
    print(f"{time.process_time() - begun:.0f} CPU s")
    return int(short)


if __name__ == "__main__":
    raise SystemExit(main())
