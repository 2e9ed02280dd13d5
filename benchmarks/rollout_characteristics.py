"""Operating characteristics of the rollout's decision rule, by simulating rollouts through the rule's own functions.

Every rollout runs tick by tick as the daemon does: counters in, a decision out, stage after stage. Traffic is Poisson,
1,000 calls an hour, a tick a minute unless a world says otherwise; stages 10/25/50/75 %, 60 min and 100 candidate
calls each; errors, latency and quality required. Failed calls have neither latency nor score.

    python benchmarks/rollout_characteristics.py                      # 10,000 rollouts a world, 2,000 without goal
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
from dataclasses import dataclass, field, replace
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data_collection"))

from flywheel.serving.arms import ArmTick
from flywheel.serving.cutoffs import WARMUP_CALLS, freeze_cutoffs
from flywheel.serving.evidence import Evidence, add_tick
from flywheel.serving.rule import ERRORS, LATENCY, QUALITY, RolloutConfig
from flywheel.serving.sequential import decide, decide_point
from flywheel.serving.stages import begin_stage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from flywheel.serving.cutoffs import Cutoffs

    Array = NDArray[Any]

CALLS_PER_HOUR = 1000
CHUNK = 50
MOST_WITHOUT_GOAL = 2_000
BLOCK_MINUTES = 60
USUAL_MINUTES = 240
BURST_SHAPE = 0.3
BURST_MINUTES = 5
FUZZ_ONSET_MINUTES = 45
FUZZ_DEADLINE_FACTOR = 2
FUZZ_GIVE_UP_MINUTES = 240


@dataclass(frozen=True)
class Arm:
    """How one arm behaves: errors a call, lognormal latency plus a shift, a slow tail, beta quality."""

    errors: float = 0.05
    median_ms: float = 1500
    sigma: float = 0.7
    shift_ms: float = 0
    tail_fraction: float = 0
    tail_ms: float = 0
    quality: float = 0.80
    quality_sd: float = 0.15


@dataclass(frozen=True)
class Goal:
    """A limit on one measure of a world; `at_most` or at least."""

    measure: str
    limit: float
    at_most: bool = True


@dataclass(frozen=True)
class World:
    """Two arms and what befalls both: an outage (all calls fail) or a fall of quality, at a random time."""

    name: str
    candidate: Arm = Arm()
    baseline: Arm = Arm()
    goals: tuple[Goal, ...] = ()
    tick_seconds: float = 60
    bursty: bool = False
    outage_minutes: float = 0
    quality_fall: float = 0
    fall_minutes: float = 0
    point: bool = False
    fuzzed: bool = False
    config: RolloutConfig = field(init=False)

    def __post_init__(self) -> None:
        required, factor = (ERRORS, LATENCY, QUALITY), FUZZ_DEADLINE_FACTOR if self.fuzzed else 6
        config = RolloutConfig(required=required, tick_seconds=self.tick_seconds, deadline_factor=factor)
        object.__setattr__(self, "config", config)


class Outcome(NamedTuple):
    """How one rollout ended."""

    ending: str
    candidate_calls: int
    minutes: float


def same(name: str, arm: Arm, *, false_goal: bool = True, **more: float) -> World:
    """A world in which the candidate equals its baseline."""
    goals = (Goal("rolled back", 0.5),) if false_goal else ()
    return World(name, arm, arm, goals, **more)  # type: ignore[arg-type]


NONE_SHIPPED = Goal("reached 100 %", 0)
HEAVY = Arm(median_ms=2000, sigma=1.0)
WORLDS = (
    same("identical", Arm()),
    same("identical, heavy latency (2 s, sigma 1.0)", HEAVY),
    same("identical, 1 % errors", Arm(errors=0.01)),
    same("identical, 20 % errors", Arm(errors=0.20)),
    same("identical, bursty traffic", Arm(), bursty=True),
    same("shared outage, both arms down 20 min", Arm(), outage_minutes=20),
    World("+6 pp errors", Arm(errors=0.11), goals=(Goal("rolled back", 85, at_most=False), NONE_SHIPPED)),
    World("+10 pp errors", Arm(errors=0.15), goals=(Goal("rolled back", 99, at_most=False), Goal("p95 calls", 350))),
    World("+700 ms", Arm(shift_ms=700), goals=(Goal("rolled back", 99, at_most=False), Goal("p95 calls", 150))),
    World("dead candidate, tick 5 s", Arm(errors=1.0), goals=(Goal("p95 calls", 15),), tick_seconds=5),
    World("dead candidate, tick 60 s", Arm(errors=1.0), goals=(Goal("p95 calls", 15),)),
    World("fuzzed metrics", goals=(NONE_SHIPPED,), fuzzed=True),
    World("+2 pp errors (not harm)", Arm(errors=0.07)),
    World("5 % of calls +14 s", Arm(tail_fraction=0.05, tail_ms=14_000)),
    World("quality .65 against .80, sd .15", Arm(quality=0.65)),
    World("quality .65 against .80, sd .30", Arm(quality=0.65, quality_sd=0.30), Arm(quality_sd=0.30)),
    World("quality .65 against .72, sd .15", Arm(quality=0.65), Arm(quality=0.72)),
    World("quality .75 against .80, sd .15 (not harm)", Arm(quality=0.75)),
    same("quality .80 both, sd .30", Arm(quality_sd=0.30), false_goal=False),
    same("quality .65 both", Arm(quality=0.65), false_goal=False),
    same("quality of both -.40 for 60 min", Arm(), false_goal=False, quality_fall=0.40, fall_minutes=60),
    same("identical, point rule", Arm(), false_goal=False, point=True),
)
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


class Block(NamedTuple):
    """One arm's ticks, and the latencies in order with each tick's end among them."""

    ticks: list[ArmTick]
    latencies: Array
    ends: Array


def tick_rates(world: World, rng: np.random.Generator, count: int) -> Array:
    """Expected calls of both arms in each tick."""
    flat = np.full(count, CALLS_PER_HOUR * world.tick_seconds / 3600)
    if not world.bursty:
        return flat
    width = max(1, round(BURST_MINUTES * 60 / world.tick_seconds))
    factors = rng.gamma(BURST_SHAPE, 1 / BURST_SHAPE, count // width + 1)
    return flat * np.repeat(factors, width)[:count]


def ends_after(values: Array, ends: Array) -> Array:
    """Sums of values by tick, given where each tick ends."""
    sums = np.concatenate(([0.0], np.cumsum(values)))[ends]
    return np.diff(sums, prepend=0.0)


def draw_scores(arm: Arm, falls: Array, timed: Array, rng: np.random.Generator) -> Array:
    """Beta scores of the arm's mean and deviation, lowered where quality falls."""
    mean, size = arm.quality, int(timed.sum())
    weight = mean * (1 - mean) / arm.quality_sd**2 - 1
    scores = rng.beta(mean * weight, (1 - mean) * weight, size)
    return np.clip(scores - np.repeat(falls, timed), 0, 1) if falls.any() else scores


def draw_arm(
    arm: Arm, calls: Array, outage: Array, falls: Array, cutoffs: Cutoffs | None, rng: np.random.Generator
) -> Block:
    """One arm's traffic, tick by tick; slow calls are counted where cut-offs are given."""
    errors = rng.binomial(calls, np.where(outage, 1.0, arm.errors))
    timed = calls - errors
    ends = np.cumsum(timed)
    latencies = arm.median_ms * np.exp(arm.sigma * rng.standard_normal(int(ends[-1]))) + arm.shift_ms
    if arm.tail_fraction:
        latencies += arm.tail_ms * (rng.random(latencies.size) < arm.tail_fraction)
    scores = draw_scores(arm, falls, timed, rng).tolist()
    slow = slow_counts(latencies, ends, cutoffs)
    stops = ends.tolist()
    rows = zip(
        calls.tolist(),
        errors.tolist(),
        timed.tolist(),
        ends_after(latencies, ends).tolist(),
        ends_after(latencies * latencies, ends).tolist(),
        slow,
        repeat(0),
        (tuple(scores[start:stop]) for start, stop in zip([0, *stops], stops, strict=False)),
        strict=False,
    )
    return Block([ArmTick(*row) for row in rows], latencies, ends)


def slow_counts(latencies: Array, ends: Array, cutoffs: Cutoffs | None) -> list[tuple[int, int, int]]:
    """Calls above each cut-off, by tick."""
    if cutoffs is None:
        return [(0, 0, 0)] * len(ends)
    above = [ends_after((latencies > cutoff).astype(float), ends).astype(int).tolist() for cutoff in cutoffs]
    return list(zip(*above, strict=True))


class Traffic:
    """One rollout's calls, an endless stream of ticks at the share last asked for."""

    def __init__(self, world: World, rng: np.random.Generator) -> None:
        self.world, self.rng = world, rng
        self.cutoffs: Cutoffs | None = None
        self.warmup: list[float] = []
        self.shock_start = rng.uniform(0, USUAL_MINUTES)

    def ticks(self, share: float, minute: float) -> Iterator[tuple[ArmTick, ArmTick]]:
        """Pairs of candidate's and baseline's ticks from a moment of the rollout on."""
        length = self.world.tick_seconds / 60
        count = round(BLOCK_MINUTES / length)
        while True:
            times = minute + length * np.arange(count)
            yield from self.block(share, times)
            minute += BLOCK_MINUTES

    def block(self, share: float, times: Array) -> Iterator[tuple[ArmTick, ArmTick]]:
        """The ticks at these times, the cut-offs frozen on the way when the warm-up is over."""
        world, rng = self.world, self.rng
        rates = tick_rates(world, rng, times.size)
        since = times - self.shock_start
        outage = (since >= 0) & (since < world.outage_minutes)
        falls = np.where((since >= 0) & (since < world.fall_minutes), world.quality_fall, 0.0)
        candidate_calls, baseline_calls = rng.poisson(rates * share), rng.poisson(rates * (1 - share))
        candidate = draw_arm(world.candidate, candidate_calls, outage, falls, self.cutoffs, rng)
        baseline = draw_arm(world.baseline, baseline_calls, outage, falls, self.cutoffs, rng)
        pairs = list(zip(candidate.ticks, baseline.ticks, strict=True))
        if self.cutoffs is not None:
            yield from pairs
        else:
            yield from self.frozen(pairs, candidate, baseline)

    def frozen(
        self, pairs: list[tuple[ArmTick, ArmTick]], candidate: Block, baseline: Block
    ) -> Iterator[tuple[ArmTick, ArmTick]]:
        """The same ticks; slow calls are counted from the tick after the baseline's WARMUP_CALLS-th latency."""
        before = len(self.warmup)
        self.warmup.extend(baseline.latencies.tolist())
        if len(self.warmup) < WARMUP_CALLS:
            yield from pairs
            return
        last = int(np.searchsorted(baseline.ends, WARMUP_CALLS - before))
        yield from pairs[: last + 1]
        self.cutoffs = freeze_cutoffs(self.warmup[:WARMUP_CALLS])
        slow = zip(*(slow_counts(arm.latencies, arm.ends, self.cutoffs) for arm in (candidate, baseline)), strict=True)
        for (one, other), (slow_one, slow_other) in list(zip(pairs, slow, strict=True))[last + 1 :]:
            yield replace(one, slow=slow_one), replace(other, slow=slow_other)


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
    parser.add_argument("--rollouts", type=int, default=10_000, help="rollouts a world (default: %(default)s)")
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
            rollouts = options.rollouts if world.goals else min(options.rollouts, MOST_WITHOUT_GOAL)
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
