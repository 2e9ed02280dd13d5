"""--predict: can a signature's test tell a gain of the wanted size at all, and what gain is to be expected?

The test's standard error comes from its size and the variance of a paired difference, which is measured in earlier runs
with groups as the units (cluster-robust), and blended with an assumed one (programs that disagree on one in five binary
items; examples of a group count as one) that is worth ten examples. A gain can be told when a test at the verdict's own
error rate finds it 4 times of 5. The expected gain is a forecast from earlier runs (forecast.py).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from statistics import NormalDist, fmean
from typing import TYPE_CHECKING

from flywheel.base.files import to_json
from flywheel.data.store import newest
from flywheel.data.test_uses import FAMILY_ALPHA, MOST_USES
from flywheel.data.whole import load_whole
from flywheel.learning.forecast import forecast
from flywheel.learning.pairs import group_of
from flywheel.learning.verdict import ASSUMED_VARIANCE, power_factor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from flywheel.base.past import Past
    from flywheel.data.examples import Example

ALPHA = FAMILY_ALPHA / MOST_USES
ASSUMED_WEIGHT = 10
FEWEST_GROUPS = 5


@dataclass(frozen=True)
class Prediction:
    """One signature's. Points are of 100 and percentages of the baseline; None: not known.

    `variance` is that of a paired difference of scores 0-1, an example's share of the group effect included, measured
    on `variance_examples` of earlier runs (0: assumed); `discordance` is the share of them on which the programs
    differed. `wanted_points` is the smallest improvement to deploy: where no baseline was ever measured, the most it
    can be. `detects`: whether the test tells such a gain 4 times of 5; None: it depends on the baseline's score.
    `expected_*` is the forecast of the next true improvement, its interval of 95 %; `chance` that it is deployed by its
    first test.
    """

    signature: str
    train: int
    val: int
    test: int
    test_groups: int
    variance: float
    variance_examples: int
    discordance: float | None
    baseline_score: float | None
    wanted_percent: float
    wanted_points: float
    detectable_points: float | None
    detects: bool | None
    examples_needed: int
    runs: int
    past_points: tuple[float, ...]
    expected_points: float | None
    expected_interval: tuple[float, float] | None
    chance: float | None


def predict(
    signature: str, examples: Sequence[Example], past: Sequence[Past], wanted_percent: float, model: str | None = None
) -> Prediction:
    """What a run on these examples can tell and may bring; `past` is the signature's, oldest first.

    Where earlier runs had the same model, only they are gone by.
    """
    past = [run for run in past if run.model == model] or past
    sizes = Counter(str(example.split) for example in examples)
    groups = {example.id or "": group_of(example) for example in examples}
    test = [group_of(example) for example in examples if example.split == "test"]
    variance, counted, discordance = _spread(past, groups, _assumed(test))
    baseline = past[-1].next_baseline if past else None
    wanted = wanted_percent * (1.0 if baseline is None else baseline)
    error = 100 * math.sqrt(variance / len(test)) if test else None
    detectable = None if error is None else power_factor(ALPHA) * error
    searches = [run for run in past if run.search]
    found = forecast([(run.points, run.standard_error) for run in searches]) if searches else None
    least = None if error is None else max(wanted, NormalDist().inv_cdf(1 - ALPHA / 2) * error)
    return Prediction(
        signature=signature,
        train=sizes["train"],
        val=sizes["val"],
        test=sizes["test"],
        test_groups=len(set(test)),
        variance=variance,
        variance_examples=counted,
        discordance=discordance,
        baseline_score=baseline,
        wanted_percent=wanted_percent,
        wanted_points=wanted,
        detectable_points=detectable,
        detects=_detects(detectable, wanted, baseline),
        examples_needed=_needed(variance, wanted),
        runs=len(searches),
        past_points=tuple(round(run.points, 2) for run in searches),
        expected_points=found.mean if found else None,
        expected_interval=found.interval() if found else None,
        chance=found.reaches(least, error) if found and least is not None and error is not None else None,
    )


def tell_stored(
    root: Path,
    names: Sequence[str],
    past: Mapping[str, Sequence[Past]],
    wanted: tuple[float, str],
    tell: Callable[[str], None],
) -> str:
    """The predictions for the latest stored datasets as JSON, and as a table for `tell`; `wanted`: percent and model.

    Raises:
        BadInputError: a dataset cannot be read.
        DamagedError: one is not whole.
    """
    stored = {name: load_whole(root, name)[1] if newest(root, name) is not None else [] for name in names}
    found = [predict(name, stored[name], past.get(name, ()), *wanted) for name in names]
    for row in table(found):
        tell(row)
    return to_json([asdict(prediction) for prediction in found]).rstrip()


def _detects(detectable: float | None, wanted: float, baseline: float | None) -> bool | None:
    if detectable is None or detectable > wanted:
        return False
    return None if baseline is None else True


def _needed(variance: float, wanted: float) -> int:
    """How many test examples would tell a gain of so many points; at least 1, and 0 where every gain is enough."""
    return math.ceil(variance * (100 * power_factor(ALPHA) / wanted) ** 2) if wanted > 0 else 0


def _assumed(test_groups: Sequence[str]) -> float:
    """The variance to assume: examples of a group are taken to succeed and fail together (Kish 1965)."""
    sizes = Counter(test_groups).values()
    effect = sum(size * size for size in sizes) / len(test_groups) if test_groups else 1.0
    return ASSUMED_VARIANCE * effect


def _spread(past: Sequence[Past], groups: Mapping[str, str], assumed: float) -> tuple[float, int, float | None]:
    """The variance of a paired difference, how many examples it was measured on, and how many of them differed."""
    measured = [found for run in past if (found := _clustered(run.differences, groups)) is not None]
    counted = sum(count for _, count in measured)
    total = sum(variance * count for variance, count in measured) + ASSUMED_WEIGHT * assumed
    differing = [difference != 0 for run in past for _, difference in run.differences]
    return total / (counted + ASSUMED_WEIGHT), counted, fmean(differing) if differing else None


def _clustered(differences: Sequence[tuple[str, float]], groups: Mapping[str, str]) -> tuple[float, int] | None:
    """An example's part of the mean difference's variance, groups as units (Liang and Zeger 1986), and the count.

    None for too few groups.
    """
    if not differences:
        return None
    mean = fmean(difference for _, difference in differences)
    sums: dict[str, float] = defaultdict(float)
    for name, difference in differences:
        sums[groups.get(name, name)] += difference - mean
    if len(sums) < FEWEST_GROUPS:
        return None
    count = len(differences)
    small = len(sums) / (len(sums) - 1)
    return small * sum(total**2 for total in sums.values()) / count, count


def line(found: Prediction) -> str:
    """One line for people: what the test can tell, and what is to be expected."""
    return f"{found.signature}: {_told(found)}; expected improvement: {_expected(found)}"


def _told(found: Prediction) -> str:
    gain = f"a {found.wanted_percent:g} % gain"
    at_most = "at most " if found.baseline_score is None else ""
    size = f"{gain} ({at_most}{found.wanted_points:.1f} points)"
    if found.detectable_points is None:
        return f"no test examples, nothing can be told; about {found.examples_needed:,} would tell {size}"
    can = {True: f"can tell {size}", False: f"cannot tell {size}", None: f"can tell {gain} of a high baseline score"}
    tells = f"{found.test} test examples tell {found.detectable_points:.1f} points or more"
    needed = "" if found.detects else f", about {found.examples_needed:,} would"
    return f"{tells}: {can[found.detects]}{needed}"


def _expected(found: Prediction) -> str:
    if found.expected_points is None or found.expected_interval is None:
        return "no history"
    low, high = found.expected_interval
    runs = f"{found.runs} run{'s' if found.runs > 1 else ''}"
    chance = "" if found.chance is None else f", chance to deploy {found.chance:.0%}"
    return f"{found.expected_points:+.1f} points ({low:+.1f} to {high:+.1f}) from {runs}{chance}"


def table(predictions: Sequence[Prediction]) -> Iterator[str]:
    """The predictions for a terminal."""
    width = max((len(found.signature) for found in predictions), default=9)
    yield f"{'signature':{width}}  train/val/test (groups)  tells from  wanted      told?  expected (95 %)"
    for found in predictions:
        splits = f"{found.train}/{found.val}/{found.test} ({found.test_groups})"
        tells = "-" if found.detectable_points is None else f"{found.detectable_points:.1f} points"
        mark = "<= " if found.baseline_score is None else ""
        told = {True: "yes", False: "no", None: "maybe"}[found.detects]
        wanted = f"{mark}{found.wanted_points:.1f}"
        yield f"{found.signature:{width}}  {splits:23}  {tells:>11}  {wanted:10}  {told:5}  {_expected(found)}"
    yield ""
    for found in predictions:
        yield line(found)
