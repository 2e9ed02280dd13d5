"""How often a candidate that is not truly better is deployed: the null experiment.

In each world ten candidates answer as well as the baseline, by a deterministic engine: every example has a difficulty
of its own, and whether (binary) or how well (graded) a program answers depends on world, program and example. The best
on the validation split is compared with the baseline on a test of 40 examples and judged, by the system's own code.
Chance makes some candidate look better in every world; a rule that believed it would deploy every time. What stays
undecided is retested on 40 fresh examples a month, as the system does, until it is deployed or given up.

Run as: uv run benchmarks/null_experiment.py BASE   (worlds BASE to BASE + 399, for each metric)
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


def examples(split: str, count: int) -> list[Example]:
    """Examples of one split, each a group of its own."""
    rows = ({"id": f"{split}{n}", "metadata": {"group": f"{split}{n}", "source": "git"}} for n in range(count))
    return [Example.model_validate({"inputs": {}, "outputs": {}, **row}) for row in rows]


def answers(engine: Engine, world: int, program: str, asked: list[Example]) -> list[Scored]:
    """What a program scores on the examples."""
    return [Scored(engine(world, program, example.id or ""), {}) for example in asked]


@dataclass(frozen=True)
class Judged:
    """One world: the verdict on its best candidate, how much better it looked (points), and what retests came to."""

    verdict: str
    val_points: float
    test_points: float
    finally_deployed: bool


def judged(engine: Engine, world: int) -> Judged:
    """Select on val, compare on test, judge, retest."""
    val = examples("val", N_VAL)
    names = [f"candidate {n}" for n in range(CANDIDATES)]
    means = {name: fmean(s.score or 0.0 for s in answers(engine, world, name, val)) for name in (BASELINE, *names)}
    best = max(names, key=lambda name: means[name])
    items = tested(engine, world, best, "test")
    found = compare(items, world, FAMILY_ALPHA / MOST_USES)
    rule = Rule(MIN_IMPROVEMENT, seed=world)
    verdict = judge(found, rule).verdict
    evidence = Evidence(baseline=BASELINE).after(items, "first")
    later: Verdict | None = Verdict(verdict, "")
    month = 0
    while later is not None and later.verdict == INCONCLUSIVE:
        month += 1
        evidence = evidence.after(tested(engine, world, best, f"month {month} test"), f"month {month}")
        later = decide(evidence, rule)
    points = 100 * (means[best] - means[BASELINE]), 100 * (found.optimized_score - found.baseline_score)
    return Judged(str(verdict), *points, finally_deployed=later is not None and later.verdict == DEPLOY)


def tested(engine: Engine, world: int, candidate: str, split: str) -> list[Item]:
    """Both programs' scores on the examples of a test."""
    asked = examples(split, N_TEST)
    return Pairs(asked, *(answers(engine, world, name, asked) for name in (BASELINE, candidate))).items()


def main() -> int:
    """Judge every world with both metrics; 1 when too many candidates were deployed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("base", type=int, metavar="BASE", help="the first world's seed")
    parser.add_argument("--worlds", type=int, default=WORLDS, metavar="N", help="how many worlds")
    args = parser.parse_args()
    most = MOST_DEPLOYED * args.worlds / WORLDS
    short = False
    for engine in (binary, graded):
        begun = time.process_time()
        worlds = [judged(engine, world) for world in range(args.base, args.base + args.worlds)]
        counts = Counter(world.verdict for world in worlds)
        name = engine.__name__
        print(f"{name}: {dict(sorted(counts.items()))}; {time.process_time() - begun:.0f} CPU s")
        val, test = fmean(world.val_points for world in worlds), fmean(world.test_points for world in worlds)
        print(f"{name}: the chosen looked {val:+.1f} points better on val, {test:+.2f} on test")
        eager = sum(world.test_points > 0 for world in worlds)
        print(f"{name}: a rule that deploys what looks better on test would have deployed {eager}")
        print(f"{name}: deployed at last, after retests: {sum(world.finally_deployed for world in worlds)}")
        ok = counts[DEPLOY] <= most
        short = short or not ok
        told = "ok" if ok else "short"
        print(f"{name} deployed: {counts[DEPLOY]} of {args.worlds} (goal <= {most:g}) {told}")
    return int(short)


if __name__ == "__main__":
    raise SystemExit(main())
