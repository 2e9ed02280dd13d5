"""Operating characteristics of the rollout's decision rule, by simulating rollouts through the rule's own functions.

Every rollout runs tick by tick as the daemon does: counters in, a decision out, stage after stage. Traffic is Poisson,
1,000 calls an hour, a tick a minute unless a world says otherwise; stages 10/25/50/75 %, 60 min and 100 candidate
calls each; errors, latency and quality required. Failed calls have neither latency nor score.

    python benchmarks/rollout_characteristics.py                      # 10,000, 2,000 or 500 rollouts a world
    python benchmarks/rollout_characteristics.py --rollouts 200       # a quick look
    python benchmarks/rollout_characteristics.py --only quality --table quality.md

Prints `name: value unit (goal ...) ok|short` a goal; exit 1 when one is short.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data_collection"))

from rollout_traffic import Traffic
from rollout_worlds import WORLDS

from flywheel.serving.evidence import Evidence, add_tick
from flywheel.serving.sequential import decide, decide_point
from flywheel.serving.stages import begin_stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rollout_worlds import World

    from flywheel.serving.arms import ArmTick

CHUNK = 50
FUZZ_ONSET_MINUTES = 45
FUZZ_GIVE_UP_MINUTES = 240
BROKEN: tuple[dict[str, object], ...] = (
    {"latency_sum_ms": math.nan},
    {"latency_squares": math.nan},
    {"latency_sum_ms": math.inf},
    {"latency_sum_ms": -1.0},
    {"latency_squares": 0.001},
    {"calls": -1},
    {"calls": math.nan},
    {"errors": 10**6},
    {"errors": -1},
    {"timed": 10**6},
    {"timed": None},
    {"slow": (0, 1, 2)},
    {"slow": (-1, -1, -1)},
    {"scores": (math.nan,)},
    {"scores": (1.7,)},
    {"scores": (-0.1,)},
    {"scores": (0.9,) * 1000},
)
EMPTIED: tuple[dict[str, object], ...] = (
    dict.fromkeys(("calls", "errors", "timed"), 0)
    | {"latency_sum_ms": 0.0, "latency_squares": 0.0, "slow": (0, 0, 0), "scores": ()},
    {"scores": ()},
)


class Fuzzer:
    """From a random moment on, one metric of one arm or both is broken, missing or stale, or the clock is.

    Broken counters come in every tick or only in some, the first included; silence lasts.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.onset = rng.uniform(0, FUZZ_ONSET_MINUTES)
        self.chance = rng.choice([0.2, 0.5, 1.0])
        self.arms = rng.choice(["candidate", "baseline", "both"])
        self.kind = rng.choice(["broken", "emptied", "invalid", "clock"], p=[0.5, 0.3, 0.1, 0.1])
        self.started = False

    def corrupt(self, candidate: ArmTick, baseline: ArmTick, elapsed: float) -> tuple[ArmTick, ArmTick, float]:
        """The tick as the rule gets to see it."""
        if elapsed < self.onset:
            return candidate, baseline, elapsed
        lasting = not self.started or self.kind in {"emptied", "invalid"}
        self.started = True
        if not lasting and self.rng.random() > self.chance:
            return candidate, baseline, elapsed
        if self.kind == "clock":
            return candidate, baseline, float(self.rng.choice([math.nan, -1.0, math.inf, elapsed - 2]))
        one = candidate if self.arms == "baseline" else replace(candidate, **self.change())  # type: ignore[arg-type]
        other = baseline if self.arms == "candidate" else replace(baseline, **self.change())  # type: ignore[arg-type]
        return one, other, elapsed

    def change(self) -> dict[str, object]:
        """Fields as they come out wrong."""
        if self.kind == "invalid":
            return {"invalid": 1000}
        if self.kind == "emptied":
            self.emptied = getattr(self, "emptied", EMPTIED[self.rng.integers(len(EMPTIED))])
            return self.emptied
        return BROKEN[self.rng.integers(len(BROKEN))]


class Outcome(NamedTuple):
    """How one rollout ended."""

    ending: str
    candidate_calls: int
    minutes: float


def simulate(world: World, rng: np.random.Generator) -> Outcome:
    """One rollout to its end."""
    traffic, config = Traffic(world, rng), world.config
    rule = decide_point if world.point else decide
    fuzzer = Fuzzer(rng) if world.fuzzed else None
    evidence, minute, seen = Evidence(), 0.0, 0
    while True:
        for candidate, baseline in traffic.ticks(config.share(evidence.stage), minute):
            minute += world.tick_seconds / 60
            elapsed = evidence.elapsed_minutes + world.tick_seconds / 60
            if fuzzer is not None:
                candidate, baseline, elapsed = fuzzer.corrupt(candidate, baseline, elapsed)  # noqa: PLW2901
            if traffic.cutoffs is not evidence.cutoffs:
                evidence = replace(evidence, cutoffs=traffic.cutoffs)
            evidence = add_tick(config, evidence, candidate, baseline, elapsed)
            decision = rule(config, evidence)
            if decision.action == "hold" and not (fuzzer and minute > FUZZ_GIVE_UP_MINUTES):
                continue
            seen += evidence.candidate.calls
            if decision.action != "promote":
                return Outcome(decision.action, seen, minute)
            if fuzzer is not None or decision.next_percent is None or decision.next_percent >= 100:
                return Outcome("promote", seen, minute)
            evidence = begin_stage(config, evidence, evidence.stage + 1)
            break


class Summary(NamedTuple):
    """A world's outcomes: percentages of rollouts, and candidate calls until rollback (NaN without one)."""

    rolled_back: float
    reached: float
    inconclusive: float
    median_calls: float
    p95_calls: float
    rollouts: int
    seconds: float

    def measure(self, name: str) -> tuple[float, str]:
        """A goal's measure, and its unit."""
        return {
            "rolled back": (self.rolled_back, "%"),
            "reached 100 %": (self.reached, "%"),
            "p95 calls": (self.p95_calls, "candidate calls"),
        }[name]


def summarise(outcomes: Sequence[Outcome], seconds: float) -> Summary:
    """Fractions of endings, and quantiles of the calls that rollbacks cost."""

    def percent(ending: str) -> float:
        return 100 * sum(outcome.ending == ending for outcome in outcomes) / len(outcomes)

    calls: list[float] = [outcome.candidate_calls for outcome in outcomes if outcome.ending == "rollback"]
    return Summary(
        percent("rollback"),
        percent("promote"),
        percent("inconclusive"),
        float(np.quantile(calls or [math.nan], 0.5)),
        float(np.quantile(calls or [math.nan], 0.95)),
        len(outcomes),
        seconds,
    )


def chunk(index: int, seed: int, number: int, size: int) -> list[Outcome]:
    """Some rollouts of a world, the same whatever the number of jobs."""
    rng = np.random.default_rng((seed, index, number))
    return [simulate(WORLDS[index], rng) for _ in range(size)]


def run_world(index: int, rollouts: int, seed: int, pool: ProcessPoolExecutor) -> Summary:
    """All rollouts of a world."""
    start = time.monotonic()
    sizes = [min(CHUNK, rollouts - first) for first in range(0, rollouts, CHUNK)]
    parts = pool.map(chunk, repeat(index), repeat(seed), range(len(sizes)), sizes)
    return summarise([outcome for part in parts for outcome in part], time.monotonic() - start)


def judge(world: World, summary: Summary) -> bool:
    """Print a line a goal; whether all are met."""
    met = True
    for goal in world.goals:
        value, unit = summary.measure(goal.measure)
        ok = value <= goal.limit if goal.at_most else value >= goal.limit
        sign = "<=" if goal.at_most else ">="
        print(
            f"{world.name}, {goal.measure}: {value:.2f} {unit} (goal {sign} {goal.limit:g}) {'ok' if ok else 'short'}"
        )
        met = met and ok
    if not world.goals:
        print(f"{world.name}, rolled back: {summary.rolled_back:.2f} % (no goal)")
    return met


def table_row(world: World, summary: Summary) -> str:
    """The world's line of the table in docs/rollout-characteristics.md."""
    calls = [f"{value:.0f}" if value == value else "-" for value in (summary.median_calls, summary.p95_calls)]  # noqa: PLR0124 - NaN
    shares = [f"{value:.2f}" for value in (summary.rolled_back, summary.reached, summary.inconclusive)]
    return "| " + " | ".join([world.name, *shares, *calls, f"{summary.rollouts:,}"]) + " |"


TABLE_HEAD = """\
| world | rolled back % | reached 100 % | inconclusive % | median calls | p95 calls | rollouts |
|---|---|---|---|---|---|---|
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=10_000, help="at most so many a world (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of all random numbers (default: %(default)s)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only worlds whose name contains TEXT")
    parser.add_argument("--table", type=Path, metavar="FILE", help="also write the Markdown table to FILE")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the worlds; 0 when every goal is met, 1 otherwise."""
    options = build_parser().parse_args(argv)
    met, rows = True, []
    with ProcessPoolExecutor(options.jobs) as pool:
        for index, world in enumerate(WORLDS):
            if options.only not in world.name:
                continue
            rollouts = min(options.rollouts, world.rollouts)
            summary = run_world(index, rollouts, options.seed, pool)
            met = judge(world, summary) and met
            sys.stdout.flush()
            rows.append(table_row(world, summary))
            print(f"{rows[-1]} {summary.seconds:.0f} s", file=sys.stderr, flush=True)
            if options.table:
                options.table.write_text(TABLE_HEAD + "\n".join(rows) + "\n")
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
