"""How long `--help` of every script takes, against `python -c pass`, in interleaved fresh processes.

Run as: uv run benchmarks/startup.py
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
from pathlib import Path

SCRIPTS = sorted((Path(__file__).resolve().parents[1] / "data_collection").glob("*.py"))
ROUNDS = 9
LIMIT = 6.0


def cpu_seconds(*command: str) -> float:
    """CPU seconds (user + system) of one fresh process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    """Print one line a script; 1 when one is above the limit."""
    python = sys.executable
    times: dict[str, list[float]] = {"pass": [], **{script.name: [] for script in SCRIPTS}}
    for _ in range(ROUNDS):
        times["pass"].append(cpu_seconds(python, "-c", "pass"))
        for script in SCRIPTS:
            times[script.name].append(cpu_seconds(python, str(script), "--help"))
    base = statistics.median(times.pop("pass"))
    print(f"python -c pass: {base * 1000:.1f} ms CPU")
    short = 0
    for name, values in times.items():
        ratio = statistics.median(values) / base
        verdict = "ok" if ratio <= LIMIT else "short"
        short += verdict == "short"
        print(f"{name} --help: {ratio:.1f} x pass (goal <= {LIMIT:g}) {verdict}")
    return int(short > 0)


if __name__ == "__main__":
    raise SystemExit(main())
