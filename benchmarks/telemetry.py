"""Recording in a busy service, and reading the records back as evidence.

    uv run benchmarks/telemetry.py

Recording: 2,000 calls a second from 16 threads; and calls of 5 ms from as many, recorded or not by lot. Reading: ours
against bare orjson with our own histogram for each variant, in turns, each in a fresh process; medians of CPU time
count. "inline" is the same peer with the histogram's arithmetic written into its loop. Exit code 1 when a goal is
missed.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "data_collection"))

from flywheel.serving.histogram import Histogram  # noqa: E402 - needs the path above
from flywheel.serving.window import Span, Window  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flywheel.serving.records import Interaction

START_MS = 1_700_000_000_000
EXPERIMENT = "extract_reqs_v1"
SPANS = {EXPERIMENT: Span(START_MS, START_MS)}
THREADS, RATE, SECONDS = 16, 2_000, 5.0
ROWS = 400_000
CALL_SECONDS, AA_SECONDS = 0.005, 8.0


def percentile(values: list[float], percent: float) -> float:
    """The value at that rank of the sorted values."""
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def interactions(count: int, first: int, chance: random.Random) -> Iterator[Interaction]:
    """Calls as a service makes them: a quarter on the candidate, 5 % failed, latencies lognormal around 1.5 s."""
    from flywheel.serving.records import Interaction, Tokens

    for number in range(first, first + count):
        candidate = chance.random() < 0.25
        failed = chance.random() < 0.05
        yield Interaction(
            module_name="extract_requirements",
            module_version={"Optimized": "v20251104_120000"} if candidate else "Baseline",
            signature="extract_requirements",
            input={"user_intent": "let people sign in with a key " * 4, "context": "a web service in Python " * 4},
            output={"requirements": ["the key is checked at each request"] * 3, "priorities": [9, 7, 5]},
            timestamp_ms=START_MS + number * 3,
            latency_ms=chance.lognormvariate(7.3, 0.7),
            tokens=Tokens.of(412, 90),
            cost_usd=0.00123,
            model="a-model",
            success=not failed,
            error="ValueError" if failed else None,
            metadata={"propensity": "0.25" if candidate else "0.75"},
            experiment_id=EXPERIMENT,
            variant="candidate" if candidate else "baseline",
            unit_id=f"user-{chance.randrange(100_000)}",
            quality_score=round(chance.random(), 3) if chance.random() < 0.3 else None,
        )


def write_rows(folder: Path, count: int, first: int = 0) -> None:
    """Records in a file of their own, written by a Recorder."""
    from flywheel.serving.telemetry import Recorder

    recorder = Recorder(folder, queue_bytes=1 << 40, file_bytes=1 << 40, flush_seconds=0.01)
    for interaction in interactions(count, first, random.Random(first)):
        recorder.record(interaction)
    recorder.close()


def record_p99() -> float:
    """Microseconds of record(), 99th percentile, at RATE calls a second from THREADS threads."""
    from flywheel.serving.telemetry import Recorder

    with tempfile.TemporaryDirectory() as folder:
        recorder = Recorder(Path(folder) / "telemetry")
        calls = list(interactions(1_000, 0, random.Random(1)))
        durations: list[list[float]] = [[] for _ in range(THREADS)]

        def serve(mine: list[float], offset: int) -> None:
            due = time.perf_counter() + offset / RATE
            for number in range(int(RATE * SECONDS / THREADS)):
                due += THREADS / RATE
                time.sleep(max(0.0, due - time.perf_counter()))
                begin = time.perf_counter_ns()
                recorder.record(calls[(number * THREADS + offset) % len(calls)])
                mine.append((time.perf_counter_ns() - begin) / 1000)

        in_threads(serve, durations)
        recorder.close()
    return percentile([value for values in durations for value in values], 99)


def call_p99() -> dict[str, float]:
    """Milliseconds of a call of 5 ms, 99th percentile: twice without a recorder (A/A) and once with, in turns."""
    from flywheel.serving.telemetry import Recorder

    with tempfile.TemporaryDirectory() as folder:
        recorder = Recorder(Path(folder) / "telemetry")
        calls = list(interactions(1_000, 0, random.Random(1)))
        arms: dict[str, list[float]] = {"alone": [], "again": [], "recorded": []}
        durations: list[list[float]] = [[] for _ in range(THREADS)]
        drawn: list[list[str]] = [[] for _ in range(THREADS)]

        def serve(mine: list[float], offset: int) -> None:
            chance = random.Random(offset)
            for number in range(int(AA_SECONDS / CALL_SECONDS)):
                arm = chance.choice(tuple(arms))
                begin = time.perf_counter_ns()
                time.sleep(CALL_SECONDS)
                if arm == "recorded":
                    recorder.record(calls[number % len(calls)])
                mine.append((time.perf_counter_ns() - begin) / 1e6)
                drawn[offset].append(arm)

        in_threads(serve, durations)
        recorder.close()
    for names, values in zip(drawn, durations, strict=True):
        for name, value in zip(names, values, strict=True):
            arms[name].append(value)
    return {name: percentile(values, 99) for name, values in arms.items()}


def in_threads(serve: Callable[[list[float], int], None], results: list[list[float]]) -> None:
    """Run `serve` once for each list of results, at the same time."""
    threads = [threading.Thread(target=serve, args=(mine, number)) for number, mine in enumerate(results)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def bare(folder: Path) -> dict[str, float]:
    """What any reader must do: parse each line and count its latency for its variant."""
    histograms: dict[str, Histogram] = {}
    return scan(lambda: sum(_bare(path, histograms) for path in folder.glob("*.jsonl")))


def _bare(path: Path, histograms: dict[str, Histogram]) -> int:
    count = 0
    with path.open("rb") as lines:
        for line in lines:
            row = orjson.loads(line)
            variant = row["variant"]
            if variant not in histograms:
                histograms[variant] = Histogram()
            histograms[variant].add(row["latency_ms"])
            count += 1
    return count


def inline(folder: Path) -> dict[str, float]:
    """The same without variants and with a histogram of one line."""
    counts: dict[int, int] = {}
    return scan(lambda: sum(_inline(path, counts) for path in folder.glob("*.jsonl")))


def _inline(path: Path, counts: dict[int, int]) -> int:
    count = 0
    with path.open("rb") as lines:
        for line in lines:
            index = int(math.log(orjson.loads(line)["latency_ms"]) * 50)
            counts[index] = counts.get(index, 0) + 1
            count += 1
    return count


def ours(folder: Path) -> dict[str, float]:
    """The window: everything checked, duplicates looked for, calls, errors and latencies counted for each variant."""
    return scan(lambda: tick(Window(folder), {}))


def tick(window: Window, histograms: dict[str, Histogram]) -> int:
    """One look at the folder; the number of calls."""
    calls = 0
    errors: Counter[str] = Counter()
    for batch in window.tick(SPANS, START_MS + ROWS * 10):
        histograms.setdefault(batch.variant, Histogram()).update(batch.latencies_ms)
        errors[batch.variant] += batch.errors
        calls += batch.calls
    return calls


def scan(work: Callable[[], int]) -> dict[str, float]:
    """CPU seconds and rows of `work`, and the process's peak memory in MiB."""
    begin = time.process_time()
    rows = work()
    seconds = time.process_time() - begin
    return {"us": seconds / rows * 1e6, "rows": rows, "mb": peak_mb()}


def peak_mb() -> float:
    """This process's peak resident memory; getrusage would count what the parent had before exec, too."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def tick_ms(folder: Path) -> dict[str, float]:
    """CPU milliseconds of a look that finds 1,000 new rows, its checkpoint as JSON included; median of several."""
    window = Window(folder)
    histograms: dict[str, Histogram] = {}
    tick(window, histograms)
    figures = []
    for number in range(9):
        write_rows(folder, 1_000, ROWS + number * 1_000)
        begin = time.process_time()
        rows = tick(window, histograms)
        json.dumps(window.checkpoint())
        figures.append((time.process_time() - begin) * 1000)
        if rows != 1_000:
            msg = f"a look found {rows} rows instead of 1,000"
            raise SystemExit(msg)
    return {"ms": statistics.median(figures)}


WORKERS: dict[str, Callable[[Path], dict[str, float]]] = {
    worker.__name__: worker for worker in (bare, inline, ours, tick_ms)
}


def in_fresh_process(worker: str, folder: Path) -> dict[str, float]:
    """One measurement of `worker` on the folder's records."""
    command = [sys.executable, __file__, "--worker", worker, "--folder", str(folder)]
    result: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return result


def report(name: str, value: float, unit: str, goal: str, *, ok: bool) -> bool:
    """Print one line of the verdict."""
    print(f"{name}: {value:.2f} {unit} (goal {goal}) {'ok' if ok else 'short'}")
    return ok


def reading(rounds: int) -> list[bool]:
    """Compare the scans, and look at ticks and memory at two sizes."""
    with tempfile.TemporaryDirectory() as scratch:
        large, small = Path(scratch) / "large", Path(scratch) / "small"
        write_rows(large, ROWS)
        write_rows(small, ROWS // 8)
        figures: dict[str, list[dict[str, float]]] = {"bare": [], "inline": [], "ours": []}
        for _ in range(rounds):
            for name, values in figures.items():
                values.append(in_fresh_process(name, large))
        memory_small = in_fresh_process("ours", small)["mb"]
        ticks = {name: in_fresh_process("tick_ms", folder)["ms"] for name, folder in (("8x", large), ("1x", small))}
    median = {name: statistics.median(value["us"] for value in values) for name, values in figures.items()}
    for name, value in median.items():
        print(f"scan, {name}: {value:.3f} us a row ({value / median['inline']:.2f} x inline)")
    memory = max(value["mb"] for value in figures["ours"])
    ratio = median["ours"] / median["bare"]
    return [
        report("full scan against orjson + histogram", ratio, "x", "<= 1.2x", ok=ratio <= 1.2),
        report("memory of a full scan", memory, "MB", "<= 25 MB", ok=memory <= 25),
        report("memory growth at 8x the rows", memory - memory_small, "MB", "<= 1 MB", ok=memory - memory_small <= 1),
        *(report(f"tick of 1,000 rows, {name} file", ms, "ms", "<= 4 ms", ok=ms <= 4) for name, ms in ticks.items()),
    ]


def main() -> int:
    """Measure, print, and compare with the goals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worker", choices=sorted(WORKERS))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(WORKERS[arguments.worker](arguments.folder)))
        return 0
    p99 = statistics.median(record_p99() for _ in range(3))
    rounds = [call_p99() for _ in range(5)]
    cost, noise = (statistics.median(found[arm] / found["alone"] for found in rounds) for arm in ("recorded", "again"))
    print(f"p99 of a 5 ms call, A/A: {noise:.3f} x")
    verdicts = [
        report("record() p99", p99, "us", "<= 50 us", ok=p99 <= 50),
        report("p99 of a 5 ms call, recorded", cost, "x", "<= 1.1x", ok=cost <= 1.1),
        *reading(arguments.rounds),
    ]
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    raise SystemExit(main())
