"""Validating examples: schema, secrets, scores and repeats, in examples per CPU second.

    uv run benchmarks/validation.py

Examples of about a kilobyte each, all different. "Validation" is parsing, schema check, id and writing, as every
collected example goes through it; the other stages of data_validator.py are told apart: looking for secrets, comparing
each with each, scoring. The peer parses the JSON and writes it again. Fresh processes; medians of CPU seconds. Exit
code 1 when the goal is missed.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "data_collection"))

from flywheel.base.redact import findings  # noqa: E402 - needs the path above
from flywheel.data.duplicates import input_text, near_pairs, text_of  # noqa: E402
from flywheel.data.examples import example_id, write_examples  # noqa: E402
from flywheel.data.loading import load_examples  # noqa: E402
from flywheel.data.registry import all_signatures  # noqa: E402
from flywheel.data.scoring import score  # noqa: E402

if TYPE_CHECKING:
    from flywheel.data.examples import Example

ROUNDS = 3
COUNT = 10_000
LEAST_PER_SECOND = 8_000
NEAR = 0.85
NAME = "validate_completeness"
SIGNATURE = all_signatures()[NAME]


def write_input(path: Path, count: int) -> None:
    """So many examples of a kilobyte, none like another."""
    rng = random.Random(7)
    known = ["".join(rng.choices("abcdefghijklmnoprstuvwyz", k=rng.randint(3, 10))) for _ in range(5_000)]
    rows = []
    for number in range(count):
        words = rng.choices(known, k=110)
        asked = [f"Add the {' '.join(words[n : n + 4])}" for n in (0, 4)]
        said = {"is_complete": bool(number % 2), "missing_requirements": [] if number % 2 else asked[:1]}
        facts = {"source": "git", "difficulty": "easy", "category": "api", "group": f"commit:{number}"}
        rows.append(
            {
                "inputs": {"implementation": " ".join(words), "requirements": asked},
                "outputs": {**said, "explanation": f"Seen in {' '.join(words[8:12])}."},
                "metadata": facts,
            }
        )
    path.write_text(json.dumps(rows))


def validated(path: Path) -> list[Example]:
    """The examples of the file, parsed and checked against their signature."""
    return load_examples([path], all_signatures()).examples[NAME]


def measure(path: Path, output: Path) -> dict[str, float]:
    """CPU seconds of each stage."""
    times: dict[str, float] = {}
    begin = time.process_time()

    def done(stage: str) -> None:
        nonlocal begin
        times[stage] = time.process_time() - begin
        begin = time.process_time()

    rows = json.loads(path.read_text())
    output.with_suffix(".peer").write_text(json.dumps(rows, indent=2))
    del rows
    done("peer")
    examples = validated(path)
    seen = {example_id(NAME, e.inputs, e.outputs) for e in examples}
    write_examples(output, examples)
    done("validation")
    assert len(seen) == len(examples)  # noqa: S101 - else something else was measured
    for example in examples:
        findings(text_of([example.inputs, example.outputs]))
    done("secrets")
    near_pairs([input_text(SIGNATURE, e.inputs) for e in examples], NEAR)
    done("repeats")
    for example in examples:
        score(SIGNATURE, example)
    done("scores")
    return {**times, "bytes": path.stat().st_size}


def main() -> int:
    """Print the figures; 1 when the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", type=Path, help="one measurement in this process, of the examples in this file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if args.measure is not None:
            print(json.dumps(measure(args.measure, Path(scratch) / f"{NAME}.json")))
            return 0
        path = Path(scratch) / f"{NAME}.json"
        write_input(path, COUNT)
        command = [sys.executable, __file__, "--measure", str(path)]
        rounds: list[dict[str, Any]] = [
            json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout) for _ in range(ROUNDS)
        ]
    median = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    size, peer = median["bytes"] / COUNT, median["peer"]
    print(f"# {COUNT} examples of {size:.0f} bytes; read and written by json: {peer:.2f} CPU s")
    for stage in ("secrets", "repeats", "scores"):
        print(f"{stage}: {COUNT / median[stage]:.0f} examples per CPU s")
    rate = COUNT / median["validation"]
    met = rate >= LEAST_PER_SECOND
    print(f"validation against bare json: {median['validation'] / peer:.2f} x")
    print(f"validation: {rate:.0f} examples per CPU s (goal >= {LEAST_PER_SECOND}) {'ok' if met else 'short'}")
    return int(not met)


if __name__ == "__main__":
    raise SystemExit(main())
