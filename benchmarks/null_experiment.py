"""How often a candidate that is not truly better is deployed: the null experiment; and how often one that is.

In each world ten candidates answer as well as the baseline, by a deterministic engine: every example has a difficulty
of its own, and whether (binary) or how well (graded) a program answers depends on world, program and example. The best
on the validation split is compared with the baseline on a test of 40 examples and judged, by the system's own code.
Chance makes some candidate look better in every world; a rule that believed it would deploy every time. What stays
undecided is retested on as many fresh examples a month, as the system does, until it is deployed or given up. What
counts is whether a candidate is deployed in the end, by its first test or by a later one.

Honesty is cheap for who never deploys: --power makes every candidate truly better by 10 and by 20 points and tells how
often the chosen one is deployed, by the first test and in the end, for tests of 40, 100 and 200 examples.

Run as: uv run benchmarks/null_experiment.py BASE [--power]   (worlds BASE to BASE + 399, for each metric)
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data_collection"))

from flywheel.data.examples import Example
from flywheel.data.test_uses import FAMILY_ALPHA, MOST_USES
from flywheel.learning.evaluation import Scored
from flywheel.learning.pairs import Pairs
from flywheel.learning.retest import decide
from flywheel.learning.verdict import DEPLOY, INCONCLUSIVE, Item, Rule, Verdict, compare, judge
from flywheel.learning.waiting import Evidence

if TYPE_CHECKING:
    from collections.abc import Callable

    Engine = Callable[[int, str, str], float]

WORLDS, MOST_DEPLOYED = 400, 16
CANDIDATES, N_VAL, N_TEST = 10, 40, 40
BETTER_POINTS, POWER_TESTS = (10, 20), (40, 100, 200)
BASELINE = "baseline"
# How the spread of a graded answer compares with that of the examples' difficulties.
GRADED_NOISE = 0.35
MIN_IMPROVEMENT = 5.0


def chance(*parts: object) -> float:
    """A number in [0, 1) that depends on `parts` alone, as if drawn at random."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") / 2**64


def binary(world: int, program: str, example: str) -> float:
    """Right or wrong, right with the example's own probability, whichever program is asked."""
    return float(chance("answer", world, program, example) < chance("difficulty", world, example))


def graded(world: int, program: str, example: str) -> float:
    """A score 0-1: the example's own level, and noise that is alike for every program."""
    noise = chance("answer", world, program, example) - chance("other", world, program, example)
    return min(max(chance("difficulty", world, example) + GRADED_NOISE * noise, 0.0), 1.0)


def better(engine: Engine, points: float) -> Engine:
    """The engine with candidates that are better by so many points of 100 on average.

    Each closes a share of the gap between the engine's score and 1; both engines score 0.5 on average.
    """
    share = 2 * points / 100

    def answer(world: int, program: str, example: str) -> float:
        score = engine(world, program, example)
        if program == BASELINE:
            return score
        if engine is binary:
            return max(score, float(chance("gain", world, program, example) < share))
        return score + share * (1 - score)

    return answer


def examples(split: str, count: int) -> list[Example]:
    """Examples of one split, each a group of its own."""
    rows = ({"id": f"{split}{n}", "metadata": {"group": f"{split}{n}", "source": "git"}} for n in range(count))
    return [Example.model_validate({"inputs": {}, "outputs": {}, **row}) for row in rows]


def answers(engine: Engine, world: int, program: str, asked: list[Example]) -> list[Scored]:
    """What a program scores on the examples."""
    return [Scored(engine(world, program, example.id or ""), {}) for example in asked]


@dataclass(frozen=True)
class Judged:
    """One world: the first verdict, how much better its best candidate looked (points), and what came of it at last."""

    verdict: str
    val_points: float
    test_points: float
    deployed: bool


def judged(engine: Engine, world: int, n_test: int = N_TEST) -> Judged:
    """Select on val, compare on test, judge, retest."""
    val = examples("val", N_VAL)
    names = [f"candidate {n}" for n in range(CANDIDATES)]
    means = {name: fmean(s.score or 0.0 for s in answers(engine, world, name, val)) for name in (BASELINE, *names)}
    best = max(names, key=lambda name: means[name])
    items = tested(engine, world, best, examples("test", n_test))
    found = compare(items, world, FAMILY_ALPHA / MOST_USES)
    rule = Rule(MIN_IMPROVEMENT, seed=world)
    verdict = judge(found, rule).verdict
    evidence = Evidence(baseline=BASELINE).after(items, "first")
    later: Verdict | None = Verdict(verdict, "")
    month = 0
    while later is not None and later.verdict == INCONCLUSIVE:
        month += 1
        fresh = examples(f"month {month} test", n_test)
        evidence = evidence.after(tested(engine, world, best, fresh), f"month {month}")
        later = decide(evidence, rule)
    points = 100 * (means[best] - means[BASELINE]), 100 * (found.optimized_score - found.baseline_score)
    return Judged(str(verdict), *points, deployed=later is not None and later.verdict == DEPLOY)


def tested(engine: Engine, world: int, candidate: str, asked: list[Example]) -> list[Item]:
    """Both programs' scores on the examples of a test."""
    return Pairs(asked, *(answers(engine, world, name, asked) for name in (BASELINE, candidate))).items()


def tell_null(engine: Engine, seeds: range) -> bool:
    """Judge every world in which no candidate is better; whether few enough were deployed."""
    begun = time.process_time()
    worlds = [judged(engine, world) for world in seeds]
    name, counts = engine.__name__, Counter(world.verdict for world in worlds)
    print(f"{name}: first verdicts {dict(sorted(counts.items()))}; {time.process_time() - begun:.0f} CPU s")
    val, test = fmean(world.val_points for world in worlds), fmean(world.test_points for world in worlds)
    print(f"{name}: the chosen looked {val:+.1f} points better on val, {test:+.2f} on test")
    eager = sum(world.test_points > 0 for world in worlds)
    print(f"{name}: a rule that deploys what looks better on test would have deployed {eager}")
    print(f"{name}: deployed by the first test: {counts[DEPLOY]}")
    deployed, most = sum(world.deployed for world in worlds), MOST_DEPLOYED * len(seeds) / WORLDS
    ok = deployed <= most
    print(f"{name} deployed: {deployed} of {len(seeds)} (goal <= {most:g}) {'ok' if ok else 'short'}")
    return ok


def tell_power(engine: Engine, seeds: range) -> None:
    """How often a candidate that is truly better is deployed; no goal, a fact to plan with."""
    for points in BETTER_POINTS:
        for n_test in POWER_TESTS:
            worlds = [judged(better(engine, points), world, n_test) for world in seeds]
            first = sum(world.verdict == DEPLOY for world in worlds) / len(seeds)
            last = sum(world.deployed for world in worlds) / len(seeds)
            gain = fmean(world.test_points for world in worlds)
            print(
                f"{engine.__name__}, truly +{points} points (measured {gain:+.1f}), {n_test} test examples: "
                f"deployed by the first test {first:.0%}, in the end {last:.0%}"
            )


def main() -> int:
    """Judge every world with both metrics; 1 when too many candidates were deployed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("base", type=int, metavar="BASE", help="the first world's seed")
    parser.add_argument("--worlds", type=int, default=WORLDS, metavar="N", help="how many worlds")
    parser.add_argument("--power", action="store_true", help="also tell how often a truly better one is deployed")
    args = parser.parse_args()
    seeds = range(args.base, args.base + args.worlds)
    met = [tell_null(engine, seeds) for engine in (binary, graded)]
    if args.power:
        for engine in (binary, graded):
            tell_power(engine, seeds)
    return int(not all(met))


if __name__ == "__main__":
    raise SystemExit(main())
