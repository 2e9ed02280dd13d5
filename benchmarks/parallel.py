"""Five signatures side by side against one after another, and how much of a cap of 32 calls is kept busy.

    uv run benchmarks/parallel.py

The model is a server of its own process on 127.0.0.1 that takes 200 ms for an answer and knows the stored labels.

- serial, workers: five whole optimizations (search, test, verdict) with 4 threads a signature, in turn and in five
  worker processes. DSPy is loaded before either arm begins, as a run does while it collects. Both arms must come to
  the same verdicts and figures.
- evaluate, recorded, shared: the same questions asked by dspy.Evaluate alone at 32 threads; by ours at 32 threads, with
  ledger and governor; and by five processes of 8 threads that share a cap of 32 through the governor's door.

The arms of each group take turns in fresh processes; medians of the rounds. A further line tells what an admission
takes by itself. Exit code 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import re
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "data_collection"
sys.path[:0] = [str(SCRIPTS), str(ROOT)]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.loopback import Prompt

    from flywheel.learning.assignment import Assignment
    from flywheel.learning.cycle import Terms
    from flywheel.learning.gate import Gate
    from flywheel.learning.governor_wire import Pass

LATENCY = 0.2
THREADS, CAP, SHARERS = 4, 32, 5
TARGET, TRIALS, QUESTIONS = 150, 5, 1600
LEAST_CALLS = 64
LEAST_SPEEDUP, LEAST_SHARE, MOST_ADMISSION_MS = 4.5, 0.95, 1.0
# What makes another question of the same example.
NUMBERED = re.compile(r" \(\d+\.\d+\)$")
SAME = ("verdict", "baseline_score", "optimized_score", "improvement_ci", "trials")


def stored(root: Path) -> None:
    """Generate and store a dataset for each built-in signature."""
    import synthetic_data_generator
    from flywheel.data.additions import add_examples
    from flywheel.data.publishing import Batch
    from flywheel.data.registry import all_signatures

    signatures = list(all_signatures().values())
    generated = synthetic_data_generator.generate(signatures, TARGET, "parallel", lambda _: None)
    for signature in signatures:
        batch = Batch("benchmark", "", datetime.now(UTC))
        add_examples(root, signature, generated.examples[signature.name], batch, onto_latest=True)


def answerer(root: Path) -> Callable[[Prompt], str | dict[str, Any]]:
    """Answers from the stored labels, better with demonstrations than without; all of them are in memory."""
    from tests.loopback import Skilled
    from tests.oracle import Oracle, words

    rows = [row for path in root.glob("*/latest/dataset.json") for row in json.loads(path.read_text())]
    known = {tuple(sorted((k, words(v)) for k, v in row["inputs"].items())): row["outputs"] for row in rows}

    def right(prompt: Prompt) -> dict[str, Any]:
        asked = tuple(sorted((name, words(NUMBERED.sub("", text))) for name, text in prompt.inputs.items()))
        return known.get(asked) or dict.fromkeys(prompt.outputs, "Nothing remarkable.")

    class Known(Oracle):
        def __call__(self, prompt: Prompt) -> dict[str, Any]:
            return right(prompt)

    oracle = Known(root)
    return Skilled(oracle, oracle.opposite, base=0.3, per_demo=0.15, demos_count=3, hint_bonus=0.0)  # type: ignore[return-value]


def serve(root: Path, pipe: Any) -> None:
    """The model's process: it says where it is, and goes when it is told to."""
    from tests.loopback import LoopbackModel

    with LoopbackModel(answerer(root), latency=LATENCY) as model:
        pipe.send(model.url)
        pipe.recv()


@contextlib.contextmanager
def served(root: Path) -> Iterator[str]:
    """The address of a model that is up within."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(root, there))
    process.start()
    try:
        yield here.recv()
    finally:
        here.send(None)
        process.join()


def assignments(root: Path) -> list[Assignment]:
    """What there is to optimize."""
    from flywheel.data.registry import all_signatures
    from flywheel.data.store import load
    from flywheel.learning.assignment import Assignment

    found = []
    for name, signature in all_signatures().items():
        metadata, examples = load(root, name)
        found.append(Assignment(signature, examples, metadata.version, metadata.content_hash, None, root))
    return found


def terms(url: str, folder: Path) -> Terms:
    """How it is optimized."""
    from flywheel.learning.choice import ModelChoice
    from flywheel.learning.cycle import Terms
    from flywheel.learning.expense import Allowance
    from flywheel.learning.optimizers import Settings
    from flywheel.learning.verdict import Rule

    (folder / "results").mkdir(parents=True)
    return Terms(
        choice=ModelChoice("openai/loopback", "benchmark", url),
        settings=Settings(
            trials=TRIALS, candidates=3, bootstrapped_demos=2, labeled_demos=2, threads=THREADS, plateau_trials=0
        ),
        rule=Rule(allow_synthetic_test=True),
        allowance=Allowance(1.5, 500),
        quick=None,
        require_power=False,
        hours=1,
        results=folder / "results",
        programs=folder / "programs",
        run_id=f"run_{folder.name}",
    )


def optimized(url: str, root: Path, folder: Path, *, workers: int) -> dict[str, Any]:
    """Optimize all signatures with so many workers: the seconds, and each one's figures."""
    from flywheel.base.progress import PlainProgress
    from flywheel.learning.cycle import run_all
    from flywheel.learning.ledger import FILE_NAME, Ledger, Limits
    from flywheel.learning.spreading import Spread, spread_out

    todo, how = assignments(root), terms(url, folder)
    figures: dict[str, dict[str, Any]] = {}
    executor = spread_out(Spread(workers=workers, cap=CAP), warm=True)
    if workers > 1:
        # The first process that is forked comes when all is loaded.
        ready = multiprocessing.get_context("forkserver").Process(target=int)
        ready.start()
        ready.join()
    started = time.monotonic()
    with Ledger(folder / FILE_NAME, Limits(concurrency=CAP)) as ledger:
        error = run_all(todo, how, ledger, PlainProgress(lambda _: None), figures.__setitem__, executor)
    seconds = time.monotonic() - started
    if error is not None:
        raise SystemExit(error)
    same = {name: {key: facts.get(key) for key in SAME} for name, facts in sorted(figures.items())}
    return {"seconds": seconds, "calls": {n: f["lm_calls"] for n, f in sorted(figures.items())}, "figures": same}


def questions(root: Path, count: int, seed: int = 0) -> list[Any]:
    """So many different questions of one signature, with what the store holds of it."""
    from flywheel.data.registry import all_signatures
    from flywheel.data.store import load
    from flywheel.learning.examples import all_to_dspy

    name, signature = next(iter(all_signatures().items()))
    examples = load(root, name)[1]
    first = signature.inputs[0].name
    made = []
    for number in range(count):
        example = examples[number % len(examples)]
        inputs = {**example.inputs, first: f"{example.inputs[first]} ({seed}.{number})"}
        made.append(example.model_copy(update={"inputs": inputs}))
    return all_to_dspy(made, signature)


def alone(url: str, root: Path, folder: Path) -> dict[str, Any]:
    """dspy.Evaluate with dspy.LM, and nothing of ours."""
    import dspy

    from flywheel.data.registry import all_signatures
    from flywheel.learning.program import build_program

    dspy.configure_cache(disk_cache_dir=str(folder / "cache"), restrict_pickle=True)
    model = dspy.LM("openai/loopback", api_base=url, api_key="none", temperature=0.0)
    program = build_program(next(iter(all_signatures().values())))
    asked = questions(root, QUESTIONS)
    evaluate = dspy.Evaluate(devset=asked, metric=lambda *_: 1.0, num_threads=CAP, display_progress=False)
    started = time.monotonic()
    with dspy.context(lm=model, adapter=dspy.ChatAdapter(), warn_on_type_mismatch=False):
        evaluate(program)
    return {"rate": QUESTIONS / (time.monotonic() - started)}


def recorded(url: str, root: Path, folder: Path, *, gate: Gate | None = None, share: int = 0) -> dict[str, Any]:
    """Our evaluation with its ledger and a governor: all questions, or one sharer's."""
    from flywheel.data.registry import all_signatures
    from flywheel.learning.choice import ModelChoice
    from flywheel.learning.evaluation import evaluate
    from flywheel.learning.ledger import FILE_NAME, Ledger, Limits
    from flywheel.learning.lm import context_of, open_model
    from flywheel.learning.program import build_program

    program = build_program(next(iter(all_signatures().values())))
    count, threads = (QUESTIONS, CAP) if gate is None else (QUESTIONS // SHARERS, 8)
    asked = questions(root, count, share)
    with Ledger(folder / FILE_NAME, Limits(concurrency=CAP), gate) as ledger:
        choice = ModelChoice("openai/loopback", "benchmark", url)
        model = open_model(choice, ledger.account("s"), cache_folder=folder / "cache", temperature=0.0)
        started = time.monotonic()
        with context_of(model):
            evaluate(program, asked, lambda *_: 1.0, threads=threads, progress=lambda: None)
        return {"rate": count / (time.monotonic() - started)}


def sharer(url: str, root: Path, folder: Path, entry: Pass, share: int) -> None:
    """One of the processes that share the cap."""
    from flywheel.learning.remote_governor import RemoteGovernor

    own = folder / str(share)
    own.mkdir()
    recorded(url, root, own, gate=RemoteGovernor(entry), share=share)


def shared(url: str, root: Path, folder: Path) -> dict[str, Any]:
    """Five processes under one cap: calls a second while all of them are at work."""
    from flywheel.learning.governor import Caps, Governor
    from flywheel.learning.governor_door import Door
    from flywheel.learning.ledger import FILE_NAME, read_calls

    context = multiprocessing.get_context("spawn")
    with Door(Governor(Caps(CAP))) as door:
        workers = [context.Process(target=sharer, args=(url, root, folder, door.entry, n)) for n in range(SHARERS)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    spans = [
        [(datetime.fromisoformat(call.time).timestamp(), (call.latency_ms or 0) / 1000) for call in read_calls(calls)]
        for calls in folder.glob(f"*/{FILE_NAME}")
    ]
    begin = max(min(end - took for end, took in span) for span in spans)
    until = min(max(end for end, _ in span) for span in spans)
    return {"rate": sum(begin <= end <= until for span in spans for end, _ in span) / (until - begin)}


def admission(url: str, root: Path, folder: Path) -> dict[str, Any]:
    """Milliseconds for one admission that has not to wait: in process, and through the door."""
    from flywheel.learning.governor import Caps, Governor
    from flywheel.learning.governor_door import Door
    from flywheel.learning.remote_governor import RemoteGovernor

    del url, root, folder
    governor = Governor(Caps(CAP, 10**9, 10.0**9))
    taken = {}
    with Door(governor) as door:
        gates: list[tuple[str, Gate]] = [("in process", governor), ("through the door", RemoteGovernor(door.entry))]
        for name, gate in gates:
            times = []
            for _ in range(2000):
                started = time.perf_counter()
                with gate.admitted("s") as admitted:
                    admitted.spent(1, 0.001)
                times.append(time.perf_counter() - started)
            taken[name] = statistics.median(times) * 1000
    return taken


ARMS: dict[str, Callable[..., dict[str, Any]]] = {
    "serial": lambda *places: optimized(*places, workers=1),
    "workers": lambda *places: optimized(*places, workers=5),
    "evaluate": alone,
    "recorded": recorded,
    "shared": shared,
    "admission": admission,
}


def in_fresh_process(arm: str, url: str, root: Path) -> dict[str, Any]:
    """An arm's figures."""
    with tempfile.TemporaryDirectory() as folder:
        line = [sys.executable, __file__, "--arm", arm, "--url", url, "--root", str(root), "--folder", folder]
        done = subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True)
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        print(f"  {arm}: {found}", file=sys.stderr)
        return found


def told(name: str, value: float, unit: str, goal: float, *, least: bool) -> bool:
    """Say a figure and whether it meets its goal."""
    met = value >= goal if least else value <= goal
    print(f"{name}: {value:.2f} {unit} (goal {'>=' if least else '<='} {goal:g}) {'ok' if met else 'short'}")
    return met


def measure(url: str, root: Path, rounds: int) -> list[bool]:
    """All arms in turns, and what they come to."""
    groups = [("serial", "workers"), ("evaluate", "recorded", "shared")]
    runs = {arm: [] for group in groups for arm in group}  # type: dict[str, list[dict[str, Any]]]
    for group in groups:
        for _ in range(rounds):
            for arm in group:
                runs[arm].append(in_fresh_process(arm, url, root))
    costs = in_fresh_process("admission", url, root)
    first = runs["serial"][0]
    same = all(run["figures"] == first["figures"] for arm in ("serial", "workers") for run in runs[arm])
    print(f"same verdicts and figures in turn and side by side: {'ok' if same else 'short'}")
    seconds = {arm: statistics.median(run["seconds"] for run in runs[arm]) for arm in ("serial", "workers")}
    rates = {arm: statistics.median(run["rate"] for run in runs[arm]) for arm in ("evaluate", "recorded", "shared")}
    print(f"serial {seconds['serial']:.1f} s, workers {seconds['workers']:.1f} s; calls {first['calls']}")
    print(", ".join(f"{arm} {rate:.1f} calls/s" for arm, rate in rates.items()), f"(ideal {CAP / LATENCY:.0f})")
    return [
        same,
        told("fewest calls of a signature", min(first["calls"].values()), "calls", LEAST_CALLS, least=True),
        told("side by side", seconds["serial"] / seconds["workers"], "x serial", LEAST_SPEEDUP, least=True),
        told("recorded", rates["recorded"] / rates["evaluate"], "of dspy.Evaluate", LEAST_SHARE, least=True),
        told("shared cap", rates["shared"] / rates["evaluate"], "of dspy.Evaluate", LEAST_SHARE, least=True),
        *(told(f"admission {where}", ms, "ms", MOST_ADMISSION_MS, least=False) for where, ms in costs.items()),
    ]


def main() -> int:
    """Measure, and say what is short."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    for name in ("--arm", "--url", "--root", "--folder"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.arm:
        print(json.dumps(ARMS[args.arm](args.url, Path(args.root), Path(args.folder))))
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        stored(root)
        with served(root) as url:
            return 0 if all(measure(url, root, args.rounds)) else 1


if __name__ == "__main__":
    raise SystemExit(main())
