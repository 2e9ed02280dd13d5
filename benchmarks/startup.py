"""How long commands take that people and cron call often, in interleaved fresh processes.

`--help` of every script against `python -c pass`, in CPU seconds; the commands that show how things stand, on two years
of months, in CPU seconds and peak memory.

Run as: uv run benchmarks/startup.py
"""

from __future__ import annotations

import contextlib
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted((ROOT / "data_collection").glob("*.py"))
ROUNDS = 9
HELP_LIMIT = 6.0
SECONDS, MEGABYTES = 0.5, 100.0
MONTHS = 24
POPULATE = "--populate"
STATUS = (
    "monitoring.py dashboard",
    "monitoring.py metrics",
    "monitoring.py doctor --skip-model --json",
    "ab_testing_framework.py list",
    "ab_testing_framework.py status --experiment-id extract_requirements_23",
    "ab_testing_framework.py history --experiment-id extract_requirements_23",
    "dataset_manager.py list --signature extract_requirements",
)


class Cost(NamedTuple):
    """One fresh process: CPU and wall seconds, peak resident megabytes."""

    cpu: float
    wall: float
    megabytes: float


def cost(*command: str, **environment: str) -> Cost:
    """What one process costs; the benchmark ends where it fails."""
    begun = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, *command], env={**os.environ, **environment}, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        message = f"{' '.join(command)}: exit code {process.returncode}"
        raise SystemExit(message)
    return Cost(used.ru_utime + used.ru_stime, time.monotonic() - begun, used.ru_maxrss / 1024)


def places(root: Path) -> dict[str, str]:
    """The environment that names folders below `root`."""
    return {
        "OUTPUT_DIR": f"{root}/runs", "TRAINING_DATA_DIR": f"{root}/data", "AB_EXPERIMENTS_DIR": f"{root}/experiments",
        "OPTIMIZED_MODULES_DIR": f"{root}/programs", "MONITORING_STATE": f"{root}/state.json",
        "TELEMETRY_DIR": f"{root}/telemetry", "ALERT_DIR": f"{root}/alerts",
    }  # fmt: skip


def populate(root: Path) -> None:
    """Two years: a run a month, a dataset version and an ended experiment a month and signature."""
    sys.path[:0] = [str(ROOT), str(ROOT / "data_collection")]
    from tests import monitored

    from flywheel.base.clock import now
    from flywheel.data.signatures import BUILT_IN

    module = root / "module.json"
    module.write_text("{}")
    for month in range(MONTHS):
        when = now() - timedelta(days=30 * (MONTHS - month))
        monitored.write_run(root / "runs", when, verdict="deploy", deployed=True, improvement_percent=6.0, cost_usd=1.0)
        for signature in BUILT_IN:
            name = signature.name
            monitored.write_dataset(root / "data", when, 80.0, signature=name, sequence=month + 1)
            roll_out(f"{name}_{month}", name, str(module))


def roll_out(experiment_id: str, signature: str, module: str) -> None:
    """An experiment that was rolled back."""
    import ab_testing_framework

    own = ["--experiment-id", experiment_id]
    modules = ["--signature", signature, "--baseline", module, "--candidate", module]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        ab_testing_framework.main(["start", *own, *modules])
        ab_testing_framework.main(["rollback", *own, "--reason", "benchmark"])


def verdict(*, holds: bool) -> str:
    """The word at the end of a line."""
    return "ok" if holds else "short"


def measure_help() -> bool:
    """Print one line a script; whether all are within the limit."""
    costs: dict[str, list[float]] = defaultdict(list)
    for _ in range(ROUNDS):
        costs["pass"].append(cost("-c", "pass").cpu)
        for script in SCRIPTS:
            costs[script.name].append(cost(str(script), "--help").cpu)
    base = statistics.median(costs.pop("pass"))
    print(f"python -c pass: {base * 1000:.1f} ms CPU")
    ratios = {name: statistics.median(values) / base for name, values in costs.items()}
    for name, ratio in ratios.items():
        print(f"{name} --help: {ratio:.1f} x pass (goal <= {HELP_LIMIT:g}) {verdict(holds=ratio <= HELP_LIMIT)}")
    return max(ratios.values()) <= HELP_LIMIT


def measure_status(environment: dict[str, str]) -> bool:
    """Print two lines a command; whether all are within the limits."""
    costs: dict[str, list[Cost]] = defaultdict(list)
    for _ in range(ROUNDS):
        for command in STATUS:
            script, *words = command.split()
            costs[command].append(cost(str(ROOT / "data_collection" / script), *words, **environment))
    good = True
    for command, values in costs.items():
        cpu, wall, memory = (statistics.median(column) for column in zip(*values, strict=True))
        fast, small = cpu <= SECONDS, memory <= MEGABYTES
        print(f"{command}: {cpu:.2f} s CPU, {wall:.2f} s wall here (goal <= {SECONDS:g}) {verdict(holds=fast)}")
        print(f"{command}: {memory:.0f} MB (goal <= {MEGABYTES:g}) {verdict(holds=small)}")
        good = good and fast and small
    return good


def main() -> int:
    """Measure both; 1 when one is short."""
    light = measure_help()
    with tempfile.TemporaryDirectory() as folder:
        environment = places(Path(folder))
        # In a process of its own: a child's peak memory counts its parent's, and this one must stay small.
        subprocess.run([sys.executable, __file__, POPULATE, folder], env={**os.environ, **environment}, check=True)
        quick = measure_status(environment)
    return int(not (light and quick))


if __name__ == "__main__":
    if sys.argv[1:2] == [POPULATE]:
        populate(Path(sys.argv[2]))
        raise SystemExit(0)
    raise SystemExit(main())
