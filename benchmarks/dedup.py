"""Finding near-duplicates: how many are found, and for how much, against all pairs and another MinHash library.

    uv run --group bench benchmarks/dedup.py

Every measurement is a fresh process on the same texts: 8-60 words of a vocabulary with Zipf's frequencies, a third of
them copies of others with up to a quarter of their words replaced, dropped or misspelt. "Exact" compares every text
with every other (rapidfuzz's cdist, normalised indel similarity of sorted words, at least 0.85); at 100,000 texts a
thousand of them with all, which estimates recall. The peer takes as many permutations and bands as we, on words, and
has its candidates verified likewise. CPU seconds are those of all threads.
Exit code 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "data_collection"))

import numpy as np  # noqa: E402 - needs the path above
from rapidfuzz import process  # noqa: E402
from rapidfuzz.distance import Indel  # noqa: E402

from flywheel.data.lsh import BANDS, ROWS, Index  # noqa: E402
from flywheel.data.similarity import similar_pairs, sorted_words, verified  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

NEAR = 0.85
PERMUTATIONS = BANDS * ROWS
SMALL, MEDIUM, LARGE, SAMPLE, FRESH = 5_000, 10_000, 100_000, 1_000, 1_000
GROWTH = (25_000, 50_000, LARGE)
Pairs = set[tuple[int, int]]


def corpus(count: int) -> list[str]:
    """The same texts each time, normalised as ours are before they are compared."""
    rng = random.Random(20_251_104)
    known = ["".join(rng.choices("abcdefghijklmnoprstuvwyz", k=rng.randint(3, 10))) for _ in range(20_000)]
    weights = [1 / (rank + 10) for rank in range(len(known))]
    drawn = iter(rng.choices(known, weights, k=70 * count))
    originals: list[list[str]] = []
    texts = []
    for _ in range(count):
        if originals and rng.random() < 1 / 3:
            words = _edited(rng.choice(originals), rng, known)
        else:
            words = [next(drawn) for _ in range(rng.randint(8, 60))]
            originals.append(words)
        texts.append(sorted_words(" ".join(words)))
    return texts


def _edited(words: list[str], rng: random.Random, known: list[str]) -> list[str]:
    copy = list(words)
    for _ in range(rng.randint(0, len(copy) // 4)):
        place = rng.randrange(len(copy))
        how = rng.randrange(3)
        if how == 0 or len(copy) < len(words) // 2:
            copy[place] = rng.choice(known)
        elif how == 1:
            del copy[place]
        else:
            at = rng.randrange(len(copy[place]))
            copy[place] = copy[place][:at] + rng.choice("abcdefgh") + copy[place][at + 1 :]
    return copy


def ours(texts: list[str]) -> Pairs:
    """Pairs as data_validator.py and dataset_manager.py find them."""
    return {(i, j) for i, j, _ in similar_pairs(texts, NEAR)}


def exact(texts: list[str]) -> Pairs:
    """Every text against every other."""
    return _compared(texts, range(len(texts)))


def sampled(texts: list[str]) -> Pairs:
    """A thousand texts, spread over all, against every other."""
    return _compared(texts, range(0, len(texts), len(texts) // SAMPLE))


def _compared(texts: list[str], rows: Iterable[int]) -> Pairs:
    positions, found = list(rows), set()
    for begin in range(0, len(positions), 500):
        some = positions[begin : begin + 500]
        scores = process.cdist(
            [texts[n] for n in some], texts, scorer=Indel.normalized_similarity, score_cutoff=NEAR,
            dtype=np.float32, workers=-1,
        )  # fmt: skip
        pairs = ((some[int(row)], int(column)) for row, column in zip(*np.nonzero(scores), strict=True))
        found |= {(min(i, j), max(i, j)) for i, j in pairs if i != j}
    return found


def datasketch(texts: list[str]) -> Pairs:
    """MinHashLSH of datasketch, on words."""
    from datasketch import MinHash, MinHashLSH

    hashes = MinHash.bulk([[word.encode() for word in set(text.split())] for text in texts], num_perm=PERMUTATIONS)
    lsh = MinHashLSH(num_perm=PERMUTATIONS, params=(BANDS, ROWS))
    candidates: Pairs = set()
    for number, one in enumerate(hashes):
        candidates |= {(int(other), number) for other in lsh.query(one)}
        lsh.insert(number, one)
    return _checked(texts, candidates)


def _checked(texts: list[str], candidates: Pairs) -> Pairs:
    older, newer = (np.array(side, dtype=np.int64) for side in zip(*sorted(candidates), strict=True))
    return {pair for pair, _ in verified(texts, older, newer, NEAR)}


def incremental(texts: list[str]) -> tuple[Pairs, float]:
    """The last thousand texts against an index of all before; the CPU seconds of these alone."""
    index = Index()
    index.add(texts[:-FRESH])
    begin = time.process_time()
    found = {
        pair for older, newer in index.candidates(texts[-FRESH:]) for pair, _ in verified(texts, older, newer, NEAR)
    }
    return found, time.process_time() - begin


WAYS: dict[str, Callable[[list[str]], Any]] = {
    "ours": ours, "exact": exact, "sampled": sampled, "datasketch": datasketch,
    "incremental": incremental,
}  # fmt: skip


def measure(way: str, count: int) -> None:
    """One measurement, in this process; prints it as JSON."""
    texts = corpus(count)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin, wall = time.process_time(), time.perf_counter()
    found = WAYS[way](texts)
    seconds, wall = time.process_time() - begin, time.perf_counter() - wall
    if way == "incremental":
        found, seconds = found
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    facts = {"cpu": seconds, "wall": wall, "mb": peak / 1024, "texts_mb": before / 1024}
    print(json.dumps({**facts, "pairs": sorted(found)}))


class Measured:
    """What a fresh process measured."""

    def __init__(self, way: str, count: int) -> None:
        command = [sys.executable, __file__, "--measure", way, "--count", str(count)]
        facts = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        self.cpu, self.wall, self.mb = facts["cpu"], facts["wall"], facts["mb"]
        self.pairs = {(i, j) for i, j in facts["pairs"]}
        print(f"# {way}, {count}: {len(self.pairs)} pairs, {self.cpu:.2f} CPU s, {self.mb:.0f} MB", flush=True)

    def recall(self, truth: Pairs) -> float:
        """The share of the true pairs that were found."""
        return len(self.pairs & truth) / len(truth)


def report(name: str, value: float, unit: str, goal: float | None = None, *, least: bool = False) -> bool:
    """Print one line; whether the goal, where there is one, is met."""
    met = goal is None or (value >= goal if least else value <= goal)
    sign = ">=" if least else "<="
    print(
        f"{name}: {value:.4g} {unit}" + ("" if goal is None else f" (goal {sign} {goal:g}) {'ok' if met else 'short'}")
    )
    return met


def main() -> int:
    """Print the figures; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", choices=WAYS, help="one measurement in this process")
    parser.add_argument("--count", type=int, default=MEDIUM, help="how many texts it takes")
    args = parser.parse_args()
    if args.measure is not None:
        measure(args.measure, args.count)
        return 0
    truth = Measured("exact", SMALL)
    met = [report(f"recall at {SMALL}", Measured("ours", SMALL).recall(truth.pairs), "of 1", 1.0, least=True)]
    truth, own = Measured("exact", MEDIUM), Measured("ours", MEDIUM)
    met.append(report(f"recall at {MEDIUM}", own.recall(truth.pairs), "of 1", 0.998, least=True))
    met.append(report(f"wall time at {MEDIUM} against cdist on all cores", own.wall / truth.wall, "x", 1 / 60))
    report(f"CPU at {MEDIUM} against cdist", own.cpu / truth.cpu, "x")
    peer = Measured("datasketch", MEDIUM)
    report(f"datasketch's recall at {MEDIUM}", peer.recall(truth.pairs), "of 1")
    report(f"datasketch's CPU at {MEDIUM} against ours", peer.cpu / own.cpu, "x")
    sizes = {count: Measured("ours", count) for count in GROWTH}
    truth, own = Measured("sampled", LARGE), sizes[LARGE]
    met.append(report(f"recall at {LARGE}, estimated", own.recall(truth.pairs), "of 1", 0.99, least=True))
    met.append(report(f"CPU at {LARGE}", own.cpu, "s", 15))
    met.append(report(f"memory at {LARGE}", own.mb, "MB", 600))
    exponent = math.log(own.cpu / sizes[GROWTH[0]].cpu) / math.log(LARGE / GROWTH[0])
    met.append(report(f"growth from {GROWTH[0]} to {LARGE}, n to the", exponent, "", 1.3))
    met.append(report(f"{FRESH} more against {LARGE}", Measured("incremental", LARGE + FRESH).cpu, "CPU s", 0.5))
    return int(not all(met))


if __name__ == "__main__":
    raise SystemExit(main())
