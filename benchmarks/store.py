"""A dataset version of 100,000 examples: fsyncs to create it beyond its files' own, CPU to load it.

    uv run benchmarks/store.py

strace counts the fsyncs of the second version in a store, each by what it is of. Loading runs in fresh processes in
turns with the peer, which reads the same files and parses the same JSON with nothing checked; medians of CPU time.
Exit code 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import re
import resource
import statistics
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "data_collection"
sys.path.insert(0, str(SCRIPTS))

EXAMPLES = 100_000
ROUNDS = 3
NAME = "extract_requirements"
MOST_FSYNCS = 3
MOST_SECONDS = 2.5
LIBRARY = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from flywheel.data.store import {0}
{0}(Path(sys.argv[2]), sys.argv[3])
"""
PEER = "import json, sys; from pathlib import Path; json.loads(Path(sys.argv[1]).read_bytes())"


def create(data: Path, count: int) -> None:
    """Store a version of `count` examples of half a kilobyte each."""
    from flywheel.data.examples import Example, Metadata, example_id
    from flywheel.data.publishing import Batch, write_version, writer_lock
    from flywheel.data.registry import all_signatures
    from flywheel.data.split_file import append_splits, read_splits

    moment = datetime.now(UTC)
    examples = []
    for number in range(count):
        inputs = {"user_intent": f"Let people sign in with key {number}. " * 4, "context": "A web service. " * 4}
        outputs = {"requirements": [f"Key {number} is checked at each request"], "priorities": [9]}
        facts = Metadata(source="git", difficulty="easy", category="auth", quality_score=90.0, group=f"commit:{number}")
        key = example_id(NAME, inputs, outputs)
        examples.append(Example(inputs=inputs, outputs=outputs, metadata=facts, id=key, split="train"))
    with writer_lock(data, NAME):
        known = read_splits(data, NAME)
        groups = {str(e.metadata.group): "train" for e in examples}
        append_splits(data, NAME, {g: s for g, s in groups.items() if g not in known}, moment)
        write_version(data, all_signatures()[NAME], examples, Batch("git", "", moment), None)


def fsyncs(data: Path, log: Path) -> tuple[int, int]:
    """How many fsyncs a version takes: of its files, and of anything else."""
    worker = [sys.executable, __file__, "--create", str(data), "--examples", str(EXAMPLES)]
    strace = ["strace", "-f", "-y", "-qq", "--seccomp-bpf", "-e", "trace=fsync,fdatasync", "-o", str(log)]
    subprocess.run([*strace, *worker], check=True)
    paths = re.findall(r"f(?:data)?sync\(\d+<([^>]*)>", log.read_text())
    own = sum(path.endswith((".json", ".jsonl")) for path in paths)
    return own, len(paths) - own


def cpu_seconds(*command: str) -> float:
    """CPU seconds (user + system) of one fresh process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def report(name: str, value: float, unit: str, goal: float | None = None) -> bool:
    """Print one line; whether the goal, where there is one, is met (lower is better)."""
    met = goal is None or value <= goal
    print(f"{name}: {value:.3g} {unit}" + ("" if goal is None else f" (goal <= {goal:g}) {'ok' if met else 'short'}"))
    return met


def main() -> int:
    """Print the figures; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--create", type=Path, help="only store a version there")
    parser.add_argument("--examples", type=int, default=EXAMPLES, help="in the version that --create stores")
    args = parser.parse_args()
    if args.create is not None:
        create(args.create, args.examples)
        return 0
    with tempfile.TemporaryDirectory(dir=ROOT) as scratch:
        data = Path(scratch) / "data"
        create(data, 10)
        own, beyond = fsyncs(data, Path(scratch) / "log")
        flags = ["--signature", NAME, "--data-dir", str(data)]
        python = sys.executable
        code = (
            "import sys; from pathlib import Path; from flywheel.data.store import {0}; {0}(Path(sys.argv[1]), '{1}')"
        )
        library = [python, "-c", f"import sys; sys.path.insert(0, {str(SCRIPTS)!r}); {code}"]
        ways = {
            "load_rows": [*library[:2], library[2].format("load_rows", NAME), str(data)],
            "load, as Examples": [*library[:2], library[2].format("load", NAME), str(data)],
            "dataset_manager.py load": [python, str(SCRIPTS / "dataset_manager.py"), "load", *flags],
            "bare json.loads": [python, "-c", PEER, str(data / NAME / "latest" / "dataset.json")],
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, command in ways.items():
                times[name].append(cpu_seconds(*command))
        size = (data / NAME / "latest" / "dataset.json").stat().st_size / 1e6
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(f"{EXAMPLES} examples, dataset.json {size:.0f} MB; fsyncs of its own files: {own}")
    met = [report("fsyncs beyond its files' own", beyond, "fsyncs", MOST_FSYNCS)]
    peer = medians.pop("bare json.loads")
    print(f"bare json.loads: {peer:.2f} CPU s")
    for name, value in medians.items():
        met.append(report(name, value, "CPU s", MOST_SECONDS))
        report(f"{name} against bare json.loads", value / peer, "x")
    return int(not all(met))


if __name__ == "__main__":
    raise SystemExit(main())
