"""A durable write of ours against the bare system calls, in turns; and the fsyncs of a small dataset version.

    uv run benchmarks/durable.py

Bare means write + fsync + rename + fsync of the folder. A version writes its files and needs three fsyncs more; it is
held against as many bare writes as it has files. Medians of wall time, since the disk is what counts. Exit code 1
when a goal is missed.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "data_collection"))

from flywheel.base.files import write_atomic  # noqa: E402 - needs the path above
from flywheel.data.examples import Example, Metadata, example_id  # noqa: E402
from flywheel.data.publishing import Batch, place, write_version, writer_lock  # noqa: E402
from flywheel.data.registry import all_signatures  # noqa: E402
from flywheel.data.store import DATASET, METADATA, PROVENANCE  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 60
LIMIT = 1.2
FILES = (DATASET, PROVENANCE, METADATA)
NAME = "extract_requirements"
CONTENT = b"x" * 4096


def bare(path: Path) -> None:
    """The system calls of one durable write, and nothing else."""
    scratch = f"{path}.tmp"
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(descriptor, CONTENT)
    os.fsync(descriptor)
    os.close(descriptor)
    os.rename(scratch, path)  # noqa: PTH104 - bare
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def seconds(action: Callable[[], object]) -> float:
    """Wall time of one call."""
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def counted(action: Callable[[], object]) -> int:
    """How often the action calls os.fsync."""
    fsync, seen = os.fsync, []

    def count(descriptor: int) -> None:
        seen.append(descriptor)
        fsync(descriptor)

    os.fsync = count  # type: ignore[assignment]
    try:
        action()
    finally:
        os.fsync = fsync
    return len(seen)


def version_fsyncs(root: Path, count: int) -> int:
    """The fsyncs of a further version, of `count` examples, in a store that has one."""
    signature = all_signatures()[NAME]
    examples = []
    for number in range(count):
        inputs, outputs = {"user_intent": f"Do {number}", "context": ""}, {"requirements": ["It"], "priorities": [5]}
        facts = Metadata(source="git", quality_score=90.0, group=f"g:{number}")
        key = example_id(NAME, inputs, outputs)
        examples.append(Example(inputs=inputs, outputs=outputs, metadata=facts, id=key, split="train"))
    with writer_lock(root, NAME):
        batch = Batch("git", "", datetime.now(UTC))
        write_version(root, signature, examples[:1], batch, None)
        return counted(lambda: write_version(root, signature, examples, batch, None))


def report(name: str, value: float, unit: str, goal: float) -> bool:
    """Print one line; whether the goal is met (lower is better)."""
    met = value <= goal
    print(f"{name}: {value:.3g} {unit} (goal <= {goal:g}) {'ok' if met else 'short'}")
    return met


def main() -> int:
    """Print the figures; 1 when a goal is missed."""
    with tempfile.TemporaryDirectory(dir=ROOT) as scratch:
        folder = Path(scratch)
        versions = folder / "versions"
        versions.mkdir()
        times: dict[str, list[float]] = {"bare": [], "file": [], "bare files": [], "version": []}
        body = dict.fromkeys(FILES, CONTENT)
        for number in range(ROUNDS):
            times["bare"].append(seconds(lambda: bare(folder / "bare")))
            times["file"].append(seconds(lambda: write_atomic(folder / "ours", CONTENT)))
            times["bare files"].append(sum(seconds(partial(bare, folder / name)) for name in FILES))
            times["version"].append(seconds(partial(place, versions, f"v{number}_0", body)))
        one, many = (version_fsyncs(folder / "store", count) for count in (1, 500))
    medians = {name: statistics.median(values) * 1000 for name, values in times.items()}
    print(f"bare durable write: {medians['bare']:.2f} ms; {len(FILES)} of them: {medians['bare files']:.2f} ms")
    met = [
        report("durable write", medians["file"] / medians["bare"], "x bare", LIMIT),
        report("a version's files", medians["version"] / medians["bare files"], "x bare", LIMIT),
        report("fsyncs of a version beyond its files' own", one - len(FILES), "fsyncs", 3),
        report("fsyncs per 500 further examples", many - one, "fsyncs", 0),
    ]
    return int(not all(met))


if __name__ == "__main__":
    raise SystemExit(main())
