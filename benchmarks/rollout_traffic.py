"""Simulated calls of both arms, tick by tick, as the counters that a source of metrics makes of them."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise, repeat
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flywheel.serving.arms import ArmTick
from flywheel.serving.buckets import Buckets
from flywheel.serving.cutoffs import WARMUP_CALLS, freeze_cutoffs
from flywheel.serving.exposure import Exposure
from flywheel.serving.routing import BASELINE, CANDIDATE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from rollout_worlds import Arm, World

    from flywheel.serving.cutoffs import Cutoffs

    Array = NDArray[Any]
    Pair = tuple[ArmTick, ArmTick]

CALLS_PER_HOUR = 1000
BLOCK_MINUTES = 60
USUAL_MINUTES = 240
BURST_SHAPE = 0.3
BURST_MINUTES = 5
# How unlike each other users are: error rates vary by as much as they are, speeds by a factor of about 1.5.
UNIT_ERROR_SHAPE = 1.0
UNIT_SPEED_SIGMA = 0.4


class Block(NamedTuple):
    """One arm's ticks, the latencies in order with each tick's end among them, and the units of each tick's calls."""

    ticks: list[ArmTick]
    latencies: Array
    ends: Array
    units: list[list[str]]


class Crowd:
    """Users who are routed whole: each calls as often, fails and takes as long as is its own."""

    def __init__(self, count: int, lost: float, rng: np.random.Generator) -> None:
        self.places = rng.random(count)
        zeal = rng.exponential(size=count)
        self.zeal = zeal / zeal.sum()
        failures = rng.gamma(UNIT_ERROR_SHAPE, 1 / UNIT_ERROR_SHAPE, count)
        self.failures = failures / (failures @ self.zeal)
        self.factors = np.exp(UNIT_SPEED_SIGMA * rng.standard_normal(count) - UNIT_SPEED_SIGMA**2 / 2)
        self.recorded = rng.random(count) >= lost

    def part(self, share: float, *, candidate: bool) -> Part:
        """Those that the share sends to the candidate, or the others; all of these stay as the share rises."""
        inside = np.flatnonzero(self.places < share if candidate else self.places >= share)
        inside = inside[self.recorded[inside]] if candidate else inside
        zeal = self.zeal[inside]
        total = float(zeal.sum())
        return Part(total, zeal / total if total else zeal, self.failures[inside], self.factors[inside], inside)


class Part(NamedTuple):
    """An arm's users: their part of all calls, and each one's weight in it, relative error rate, speed and number."""

    fraction: float
    weights: Array
    failures: Array
    factors: Array
    numbers: Array

    def callers(self, calls: int, rng: np.random.Generator) -> Array:
        """Who makes each call, as a place among them."""
        return rng.choice(self.numbers.size, calls, p=self.weights) if calls else np.zeros(0, int)


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


def draw_arm(arm: Arm, calls: Array, outage: Array, falls: Array, part: Part | None, rng: np.random.Generator) -> Block:
    """One arm's traffic, tick by tick, no call sorted into slow and fast yet."""
    places = np.cumsum(calls)
    if part is None:
        errors = rng.binomial(calls, np.where(outage, 1.0, arm.errors))
    else:
        callers = part.callers(int(places[-1]), rng)
        chances = np.where(np.repeat(outage, calls), 1.0, np.minimum(1.0, arm.errors * part.failures[callers]))
        failed = rng.random(callers.size) < chances
        errors = ends_after(failed.astype(float), places).astype(int)
    timed = calls - errors
    ends = np.cumsum(timed)
    size = int(ends[-1])
    latencies = arm.median_ms * np.exp(arm.sigma * rng.standard_normal(size)) + arm.shift_ms
    if part is not None:
        latencies *= part.factors[callers[~failed]]
    if arm.tail_fraction:
        latencies += arm.tail_ms * (rng.random(size) < arm.tail_fraction)
    scores = draw_scores(arm, falls, timed, rng).tolist()
    stops = ends.tolist()
    rows = zip(
        calls.tolist(),
        errors.tolist(),
        timed.tolist(),
        ends_after(latencies, ends).tolist(),
        ends_after(latencies * latencies, ends).tolist(),
        repeat((0, 0, 0)),
        repeat(0),
        (tuple(scores[start:stop]) for start, stop in zip([0, *stops], stops, strict=False)),
        strict=False,
    )
    who = [] if part is None else [f"user-{number}" for number in part.numbers[callers].tolist()]
    units = [who[start:stop] for start, stop in pairwise([0, *places.tolist()])]
    return Block([ArmTick(*row) for row in rows], latencies, ends, units)


class Records:
    """Interaction records: every call's own latency and score."""

    def warmup(self, block: Block, tick: int) -> list[float]:
        """The baseline latencies of one tick that cut-offs may be frozen from."""
        start = int(block.ends[tick - 1]) if tick else 0
        found: list[float] = block.latencies[start : int(block.ends[tick])].tolist()
        return found

    def ticks(self, block: Block, cutoffs: Cutoffs | None) -> list[ArmTick]:
        """The ticks with slow calls counted above the cut-offs."""
        if cutoffs is None:
            return block.ticks
        above = [ends_after((block.latencies > cutoff).astype(float), block.ends).astype(int) for cutoff in cutoffs]
        slow = zip(*(counts.tolist() for counts in above), strict=True)
        return [replace(tick, slow=counts) for tick, counts in zip(block.ticks, slow, strict=True)]


class Histograms:
    """Prometheus' counters: calls by bucket, the sum of latencies, and one mean score a tick."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = np.array([*bounds, math.inf])

    def buckets(self, block: Block, tick: int) -> Buckets:
        """What the histogram grew by in one tick."""
        start = int(block.ends[tick - 1]) if tick else 0
        ordered = np.sort(block.latencies[start : int(block.ends[tick])])
        counts = np.searchsorted(ordered, self.bounds, side="right").tolist()
        return Buckets(dict(zip(self.bounds.tolist(), counts, strict=True)), float(ordered.sum()))

    def warmup(self, block: Block, tick: int) -> list[float]:
        """The latencies that stand for one tick's."""
        return self.buckets(block, tick).warmup()

    def ticks(self, block: Block, cutoffs: Cutoffs | None) -> list[ArmTick]:
        """The ticks as counters know them."""
        return [self.tick(tick, self.buckets(block, place), cutoffs) for place, tick in enumerate(block.ticks)]

    def tick(self, tick: ArmTick, buckets: Buckets, cutoffs: Cutoffs | None) -> ArmTick:
        """One tick as counters know it."""
        total, squares = buckets.sums()
        scores = (sum(tick.scores) / len(tick.scores),) if tick.scores else ()
        return replace(tick, latency_sum_ms=total, latency_squares=squares, slow=buckets.slow(cutoffs), scores=scores)


class Traffic:
    """One rollout's calls, an endless stream of ticks at the share last asked for."""

    def __init__(self, world: World, rng: np.random.Generator) -> None:
        self.world, self.rng = world, rng
        self.source: Records | Histograms = Histograms(world.bounds) if world.bounds else Records()
        self.crowd = Crowd(world.units, world.lost, rng) if world.units else None
        self.cutoffs: Cutoffs | None = None
        self.warmup: list[float] = []
        self.shock_start = rng.uniform(0, USUAL_MINUTES)
        self.exposure = Exposure(0)

    def ticks(self, share: float, minute: float) -> Iterator[Pair]:
        """Pairs of candidate's and baseline's ticks from a moment of the rollout on, at a share that is new."""
        self.exposure = Exposure(0)
        length = self.world.tick_seconds / 60
        count = round(BLOCK_MINUTES / length)
        while True:
            times = minute + length * np.arange(count)
            yield from self.block(share, times)
            minute += BLOCK_MINUTES

    def block(self, share: float, times: Array) -> Iterator[Pair]:
        """The ticks at these times, the cut-offs frozen on the way when the warm-up is over."""
        world, rng = self.world, self.rng
        share = world.stuck or share
        rates = tick_rates(world, rng, times.size)
        since = times - self.shock_start
        outage = (since >= 0) & (since < world.outage_minutes)
        falls = np.where((since >= 0) & (since < world.fall_minutes), world.quality_fall, 0.0)
        parts = [None, None] if self.crowd is None else [self.crowd.part(share, candidate=one) for one in (True, False)]
        fractions = [share, 1 - share] if self.crowd is None else [part.fraction for part in parts if part is not None]
        calls = [rng.poisson(rates * fraction) for fraction in fractions]
        arms = (world.candidate, world.baseline)
        candidate, baseline = (
            draw_arm(arm, counts, outage, falls, part, rng)
            for arm, counts, part in zip(arms, calls, parts, strict=True)
        )
        if self.crowd is not None:
            candidate, baseline = self.drawn(candidate, baseline)
        first = 0
        if self.cutoffs is None:
            first = self.frozen_after(baseline)
            unsorted = (self.source.ticks(arm, None)[:first] for arm in (candidate, baseline))
            yield from zip(*unsorted, strict=True)
            # The rule learns of the cut-offs with the next tick, whose slow calls are counted.
            self.freeze()
        rest = (self.source.ticks(arm, self.cutoffs)[first:] for arm in (candidate, baseline))
        yield from zip(*rest, strict=True)

    def drawn(self, candidate: Block, baseline: Block) -> tuple[Block, Block]:
        """The arms with what routing drew until each tick, as a window of records counts it."""
        own, others = [], []
        for one, other, units, rest in zip(
            candidate.ticks, baseline.ticks, candidate.units, baseline.units, strict=True
        ):
            self.exposure.add({BASELINE: rest, CANDIDATE: units})
            own.append(replace(one, drawn=self.exposure.drawn[CANDIDATE]))
            others.append(replace(other, drawn=self.exposure.drawn[BASELINE]))
        return candidate._replace(ticks=own), baseline._replace(ticks=others)

    def frozen_after(self, baseline: Block) -> int:
        """How many ticks pass until the warm-up has its latencies: all where it has not yet."""
        for tick in range(len(baseline.ticks)):
            self.warmup.extend(self.source.warmup(baseline, tick))
            if len(self.warmup) >= WARMUP_CALLS:
                return tick + 1
        return len(baseline.ticks)

    def freeze(self) -> None:
        """Freeze the cut-offs if the warm-up is over."""
        if len(self.warmup) >= WARMUP_CALLS:
            self.cutoffs = freeze_cutoffs(self.warmup[:WARMUP_CALLS])
