"""Reading a repository's history: full diffs and filtered ones, against `git log -p` and PyDriller.

    uv run --group bench benchmarks/mining.py /path/to/repository [/path/to/another]

Every measurement is a fresh process that has imported what it needs; ours and the peers take turns on the same newest
commits, and medians count, of wall time and of CPU seconds with git's own. `git log -p` into nothing is the limit: it
makes the same diffs and nobody reads them. "Full" parses the patch of every commit that is no merge; "filtered" is what
the miner reads by default, or by --types fix, whatever --target is. Memory is this process's own, over MANY commits
where there are as many. Exit code 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "data_collection" / "git_mining_pipeline.py"
sys.path.insert(0, str(SCRIPT.parent))

from flywheel.base.clock import now  # noqa: E402 - needs the path above
from flywheel.data.git import Repository  # noqa: E402
from flywheel.data.mining import Filters, Tally, candidates  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 5
NEWEST, MANY = 1_000, 15_000
# PyDriller takes some twenty times as long: once is enough, on a part.
PART = 500


def git_log(path: Path, count: int) -> int:
    """`git log -p`, thrown away."""
    with subprocess.Popen(["git", "-C", str(path), "log", "-p", f"-{count}"], stdout=subprocess.PIPE) as git:
        assert git.stdout is not None  # noqa: S101 - for the type checker
        size = 0
        while chunk := git.stdout.read(1 << 20):
            size += len(chunk)
    return size


def full(path: Path, count: int) -> int:
    """The patch of every commit that git log shows one of (no merge), parsed."""
    repository = Repository(path)
    plain = (commit for commit in repository.log(max_count=count) if not commit.is_merge)
    return sum(len(files or ()) for _, files in repository.patches(plain))


def filtered(path: Path, count: int) -> int:
    """The patches of the commits that the miner's default filters leave."""
    return _filtered(path, count, Filters())


def fixes(path: Path, count: int) -> int:
    """The patches of the commits that `--types fix` leaves."""
    return _filtered(path, count, Filters(types=("fix",)))


def _filtered(path: Path, count: int, filters: Filters) -> int:
    repository = Repository(path)
    chosen = candidates(repository.log(max_count=count), filters, Tally())
    return sum(len(files or ()) for _, files in repository.patches(one.commit for one in chosen))


def nothing(path: Path, _: int) -> int:
    """A look for commits that are not there: since tomorrow."""
    return sum(1 for _ in Repository(path).log(since=now() + timedelta(days=1)))


def pydriller(path: Path, count: int) -> int:
    """The same commits' diffs by PyDriller."""
    from pydriller import Repository as Drilled

    seen = 0
    for number, commit in enumerate(Drilled(str(path), order="reverse").traverse_commits(), 1):
        seen += sum(len(file.diff) > 0 for file in commit.modified_files)
        if number >= count:
            break
    return seen


WAYS: dict[str, Callable[[Path, int], int]] = {
    "git log -p": git_log, "full": full, "filtered": filtered, "fixes": fixes, "nothing": nothing,
    "pydriller": pydriller,
}  # fmt: skip


def cpu() -> float:
    """CPU seconds of this process and of the gits that it waited for."""
    every = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in every)


def measure(way: str, path: Path, count: int) -> None:
    """One measurement, in this process; prints it as JSON."""
    Repository(path)  # imports what it needs
    begin, used = time.perf_counter(), cpu()
    size = WAYS[way](path, count)
    facts = {"wall": time.perf_counter() - begin, "cpu": cpu() - used, "size": size}
    print(json.dumps({**facts, "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def measured(way: str, path: Path, count: int) -> dict[str, float]:
    """What a fresh process measures."""
    command = [sys.executable, __file__, "--measure", way, "--count", str(count), str(path)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found


def report(name: str, value: float, unit: str, goal: float | None = None, *, least: bool = False) -> bool:
    """Print one line; whether the goal, where there is one, is met."""
    met = goal is None or (value >= goal if least else value <= goal)
    sign = ">=" if least else "<="
    print(
        f"{name}: {value:.3g} {unit}" + ("" if goal is None else f" (goal {sign} {goal:g}) {'ok' if met else 'short'}")
    )
    return met


def against_git(path: Path) -> list[bool]:
    """The figures on the newest commits of one repository."""
    rounds: dict[str, list[dict[str, float]]] = {
        way: [] for way in ("git log -p", "full", "filtered", "fixes", "nothing")
    }
    for _ in range(ROUNDS):
        for way, found in rounds.items():
            found.append(measured(way, path, NEWEST))

    def median(way: str, what: str) -> float:
        return statistics.median(one[what] for one in rounds[way])

    name, git = path.name, "git log -p"
    print(f"# {name}: {git} of {NEWEST}: {median(git, 'wall'):.2f} s, {median(git, 'cpu'):.2f} CPU s", flush=True)

    def ratio(way: str, what: str) -> float:
        return median(way, what) / median(git, what)

    drilled, own = measured("pydriller", path, PART), measured("full", path, PART)
    slower = drilled["wall"] / own["wall"]
    return [
        report(f"{name}: full diffs, wall", ratio("full", "wall"), "x git log -p", 1.15),
        report(f"{name}: full diffs, CPU", ratio("full", "cpu"), "x git log -p", 1.15),
        report(f"{name}: filtered, wall", ratio("filtered", "wall"), "x git log -p", 0.6),
        report(f"{name}: filtered, --types fix, wall", ratio("fixes", "wall"), "x git log -p", 0.6),
        report(f"{name}: nothing new, beyond start-up", median("nothing", "wall"), "s", 0.1),
        report(f"{name}: PyDriller, wall of {PART}", slower, "x ours", least_ratio(path), least=True),
    ]


def least_ratio(path: Path) -> float:
    """How many times slower than ours PyDriller must be: where diffs are big, git's own work is most of either."""
    return 5 if measured("git log -p", path, PART)["size"] / PART > 5_000 else 20


def main() -> int:
    """Print the figures; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repositories", nargs="+", type=Path, metavar="REPOSITORY")
    parser.add_argument("--measure", choices=WAYS, help="one measurement in this process")
    parser.add_argument("--count", type=int, default=NEWEST, help="how many commits it takes")
    args = parser.parse_args()
    if args.measure is not None:
        measure(args.measure, args.repositories[0], args.count)
        return 0
    met = [line for path in args.repositories for line in against_git(path.resolve())]
    memory = {path.name: measured("full", path, MANY) for path in args.repositories}
    met += [report(f"{name}: memory, up to {MANY} commits", one["mb"], "MB", 100) for name, one in memory.items()]
    return int(not all(met))


if __name__ == "__main__":
    raise SystemExit(main())
