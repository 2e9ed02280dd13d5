"""The routing decision, with its look at the file, against bare mmh3, GrowthBook and Unleash.

    uv run --group bench benchmarks/routing.py

Each measurement is a fresh process; ours and the peers take turns, and medians of CPU time count. GrowthBook does the
same job as a route (an experiment rule that answers with variation and key) on an instance that is reused, which is
its fastest way; a plain coverage flag, which says neither variant nor experiment, is printed beside it.
Exit code 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "data_collection"))

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

UNITS = [f"user-{number}" for number in range(2_000)]
PERCENT = 25
ROUNDS = 7
SLICES = 7


def cpu_us(decide: Callable[[str], object], repeats: int) -> float:
    """Microseconds of CPU a decision, in the fastest of a few slices: what is slower is the machine's other work."""
    best = float("inf")
    for _ in range(SLICES):
        start = time.process_time()
        for _ in range(repeats):
            for unit in UNITS:
                decide(unit)
        best = min(best, time.process_time() - start)
    return best / (repeats * len(UNITS)) * 1e6


def ours(folder: Path) -> float:
    """Router.route, reading the clock each time and the file's status each second."""
    from flywheel.serving.router import Router
    from flywheel.serving.routing import Route
    from flywheel.serving.routing_file import write_routing

    path = folder / "routing_config.json"
    route = Route("e1", "extract_requirements", "/baseline.json", "/candidate.json", PERCENT, "running", "salt-e1")
    write_routing(path, [route], datetime.now(UTC))
    router = Router(path)
    return cpu_us(lambda unit: router.route("extract_requirements", unit), 30)


def mmh3(_: Path) -> float:
    """The hash alone, of a key made as the contract says."""
    import mmh3 as library

    digest = library.mmh3_32_uintdigest
    return cpu_us(lambda unit: digest(f"salt-e1:{unit}".encode()) % 10_000, 30)


def nothing(_: Path) -> float:
    """The loop itself, which every figure contains."""
    return cpu_us(lambda unit: unit, 30)


def growthbook(_: Path) -> float:
    """An experiment rule, evaluated for each unit on one instance."""
    rule = {"key": "e1", "hashAttribute": "id", "variations": ["/b", "/c"], "weights": [0.75, 0.25], "seed": "salt-e1"}
    return _growthbook(rule)


def growthbook_flag(_: Path) -> float:
    """A flag with coverage: on or off, and no experiment."""
    return _growthbook({"force": True, "coverage": PERCENT / 100, "hashAttribute": "id"})


def _growthbook(rule: Mapping[str, object]) -> float:
    from growthbook import GrowthBook

    client = GrowthBook(features={"extract_requirements": {"defaultValue": "/b", "rules": [rule]}})

    def decide(unit: str) -> object:
        client.set_attributes({"id": unit})
        return client.eval_feature("extract_requirements")

    return cpu_us(decide, 1)


def unleash(folder: Path) -> float:
    """A flexibleRollout strategy, its features handed over, without metrics or any connection."""
    from UnleashClient import UnleashClient
    from UnleashClient.cache import FileCache

    parameters = {"rollout": str(PERCENT), "stickiness": "userId", "groupId": "extract_requirements"}
    strategy = {"name": "flexibleRollout", "parameters": parameters, "constraints": []}
    feature = {"name": "extract_requirements", "type": "release", "enabled": True, "strategies": [strategy]}
    cache = FileCache("benchmark", directory=str(folder))
    cache.bootstrap_from_dict({"version": 2, "features": [feature]})
    client = UnleashClient(
        url="http://127.0.0.1:1/api", app_name="benchmark", disable_metrics=True, disable_registration=True, cache=cache
    )
    client.initialize_client(fetch_toggles=False)
    try:
        return cpu_us(lambda unit: client.is_enabled("extract_requirements", {"userId": unit}), 1)
    finally:
        client.destroy()


WORKERS = {worker.__name__: worker for worker in (ours, mmh3, nothing, growthbook, growthbook_flag, unleash)}


def in_fresh_process(worker: str) -> float:
    """One measurement of `worker`, in microseconds."""
    command = [sys.executable, "-W", "ignore", __file__, "--worker", worker]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def report(name: str, value: float, unit: str, goal: str, *, ok: bool) -> bool:
    """Print one line of the verdict."""
    print(f"{name}: {value:.2f} {unit} (goal {goal}) {'ok' if ok else 'short'}")
    return ok


def main() -> int:
    """Measure, print, and compare with the goals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worker", choices=sorted(WORKERS))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    if arguments.worker:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(WORKERS[arguments.worker](Path(folder))))
        return 0
    figures: dict[str, list[float]] = {name: [] for name in WORKERS}
    for _ in range(arguments.rounds):
        for name, values in figures.items():
            values.append(in_fresh_process(name))
    median = {name: statistics.median(values) for name, values in figures.items()}
    for name, value in median.items():
        print(f"{name}: {value:.3f} us")
    verdicts = [
        report("routing decision with its look", median["ours"], "us", "<= 0.8 us", ok=median["ours"] <= 0.8),
        report("faster than growthbook", ratio := median["growthbook"] / median["ours"], "x", ">= 15x", ok=ratio >= 15),
        report("faster than unleash", ratio := median["unleash"] / median["ours"], "x", ">= 40x", ok=ratio >= 40),
    ]
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    raise SystemExit(main())
