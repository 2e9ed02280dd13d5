"""Processor time of a call: our evaluation, with ledger and governor, against dspy.Evaluate alone.

    uv run benchmarks/call_cost.py

One process can make as many calls a second as its one interpreter lock (GIL) allows, whatever the model's latency: with
32 calls of 200 ms under way a call may take 6 ms of processor time. The engine is in the process and answers at once;
one thread asks it different questions of one signature with an answer that parses. The arms take turns in fresh
processes; the least of the rounds counts, since other processes only ever add to it. Exit code 1 when the goal is
missed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "data_collection"
sys.path[:0] = [str(SCRIPTS), str(ROOT)]

if TYPE_CHECKING:
    from collections.abc import Callable

QUESTIONS = 600
MOST = 1.0


class Instant:
    """An engine that gives the same answer to everything, at once."""

    def __init__(self, outputs: dict[str, Any]) -> None:
        from tests.loopback import Prompt

        self._text = Prompt({"messages": []}).written(outputs)

    def complete(self, _: object) -> Any:
        """The answer."""
        from dspy.lm15 import Message, Response, Usage

        answer = Message.assistant(self._text)
        usage = Usage(input_tokens=900, output_tokens=90)
        return Response(id=None, model="instant", message=answer, finish_reason="stop", usage=usage)


def prepared() -> tuple[Any, list[Any], Instant]:
    """A signature's program, questions to it, and the engine that answers them."""
    import synthetic_data_generator
    from flywheel.data.registry import all_signatures
    from flywheel.learning.examples import all_to_dspy
    from flywheel.learning.program import build_program

    signature = next(iter(all_signatures().values()))
    made = synthetic_data_generator.generate([signature], 60, "call_cost", lambda _: None).examples[signature.name]
    first = signature.inputs[0].name
    asked = []
    for number in range(QUESTIONS):
        example = made[number % len(made)]
        inputs = {**example.inputs, first: f"{example.inputs[first]} ({number})"}
        asked.append(example.model_copy(update={"inputs": inputs}))
    return build_program(signature), all_to_dspy(asked, signature), Instant(made[0].outputs)


def alone(folder: Path) -> float:
    """dspy.Evaluate with dspy.LM, and nothing of ours: microseconds a call."""
    import dspy

    program, asked, engine = prepared()
    dspy.configure_cache(disk_cache_dir=str(folder), restrict_pickle=True)
    model = dspy.LM("openai/instant", engine=engine, temperature=0.0)
    evaluate = dspy.Evaluate(devset=asked, metric=lambda *_: 1.0, num_threads=1, display_progress=False)
    with dspy.context(lm=model, adapter=dspy.ChatAdapter(), warn_on_type_mismatch=False):
        return timed(lambda: evaluate(program))


def ours(folder: Path) -> float:
    """The same by our evaluation, every call admitted and written down."""
    import dspy

    from flywheel.learning.evaluation import evaluate
    from flywheel.learning.ledger import FILE_NAME, Ledger, Limits, read_calls
    from flywheel.learning.lm import RecordedLM, context_of

    program, asked, engine = prepared()
    dspy.configure_cache(disk_cache_dir=str(folder), restrict_pickle=True)
    with Ledger(folder / FILE_NAME, Limits(max_calls=QUESTIONS, max_cost_usd=10.0**6, concurrency=32)) as ledger:
        model = RecordedLM("openai/instant", ledger.account("s"), engine=engine, temperature=0.0)
        with context_of(model):
            taken = timed(lambda: evaluate(program, asked, lambda *_: 1.0, threads=1, progress=lambda: None))
    calls = sum(not call.cached for call in read_calls(folder / FILE_NAME))
    if calls != QUESTIONS:
        msg = f"{calls} calls are in the ledger, not {QUESTIONS}"
        raise SystemExit(msg)
    return taken


def timed(work: Callable[[], object]) -> float:
    """Microseconds of processor time for each question."""
    started = time.process_time()
    work()
    return (time.process_time() - started) / QUESTIONS * 1e6


ARMS = {"dspy.Evaluate": alone, "ours": ours}


def in_fresh_process(arm: str) -> float:
    """An arm's figure."""
    with tempfile.TemporaryDirectory() as folder:
        line = [sys.executable, __file__, "--arm", arm, "--folder", folder]
        done = subprocess.run(line, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        return float(json.loads(done.stdout.splitlines()[-1]))


def main() -> int:
    """Measure, and say whether the goal is met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    for name in ("--arm", "--folder"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.arm:
        print(json.dumps(ARMS[args.arm](Path(args.folder))))
        return 0
    rounds = [{arm: in_fresh_process(arm) for arm in ARMS} for _ in range(args.rounds)]
    least = {arm: min(one[arm] for one in rounds) for arm in ARMS}
    print(", ".join(f"{arm} {value:.0f} us a call" for arm, value in least.items()))
    ratio = least["ours"] / least["dspy.Evaluate"]
    met = ratio <= MOST
    print(f"processor time of a call: {ratio:.2f} of dspy.Evaluate (goal <= {MOST:g}) {'ok' if met else 'short'}")
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
