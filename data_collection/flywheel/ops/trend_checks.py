"""Checks for what gets worse slowly: each step is too small for an alert, together they are a trend.

A trend is Mann-Kendall's test over the newest `trend_window` figures at `trend_alpha`: it asks for order, not for a
size, so that one odd month neither makes nor hides one. Five that fall every time are the fewest that pass at 2 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flywheel.ops.exact_tests import falling_p
from flywheel.ops.findings import INFO, WARNING, Finding
from flywheel.ops.observed import DATASETS, ORCHESTRATION

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from flywheel.ops.config import MonitoringConfig
    from flywheel.ops.observed import DatasetFacts, RunFacts

Series = list[tuple["datetime", float]]


@dataclass(frozen=True)
class Kind:
    """A figure whose fall is told; `{name}` stands for the signature."""

    area: str
    check: str
    level: str
    title: str
    message: str
    action: str


GAINS = Kind(
    ORCHESTRATION, "improvement_trend", INFO, "Improvement Declining",
    "The optimizer gains less and less for {name}",
    "newer examples (--since-days, telemetry) or another --model find more than further --trials",
)  # fmt: skip
SCORES = Kind(
    ORCHESTRATION, "score_trend", WARNING, "Deployed Program Scores Falling",
    "What serves {name} scores less on the test split from run to run",
    "python monitoring.py canary; if the model has not changed, the test has become harder; "
    "python dataset_manager.py list --signature {name}",
)  # fmt: skip
QUALITY = Kind(
    DATASETS, "quality_trend", WARNING, "Dataset Quality Declining",
    "The mean quality of {name} falls from version to version",
    "python dataset_manager.py list --signature {name}; the provenance tells which source brings the low scores",
)  # fmt: skip


def check_trends(
    runs: Sequence[RunFacts], datasets: Mapping[str, Sequence[DatasetFacts]], config: MonitoringConfig
) -> Iterator[Finding]:
    """Every finding about the trends of improvement, of the deployed programs' scores and of the datasets' quality."""
    for name in dict.fromkeys(name for run in runs for name in run.signatures):
        results = [(run.started, run.signatures[name]) for run in runs if name in run.signatures]
        gains = [(at, facts.improvement_percent) for at, facts in results if facts.improvement_percent is not None]
        scores = [(at, 100 * facts.baseline_score) for at, facts in results if facts.baseline_score is not None]
        yield from _falling(GAINS, name, gains, config)
        yield from _falling(SCORES, name, scores, config)
    for name, versions in datasets.items():
        quality = [(version.created, version.quality) for version in versions]
        yield from _falling(QUALITY, name, quality, config, config.dataset_quality_trend_threshold)


def _falling(kind: Kind, name: str, series: Series, config: MonitoringConfig, least: float = 0.0) -> Iterator[Finding]:
    """The finding when the newest figures fall, by `least` of the first one or more in all."""
    series = series[-config.trend_window :]
    values = [round(value, 2) for _, value in series]
    if falling_p(values) > config.trend_alpha or values[0] - values[-1] < least * values[0]:
        return
    yield Finding(
        kind.area, kind.check, name, kind.level, kind.title,
        f"{kind.message.format(name=name)}: {values[0]:g} to {values[-1]:g} in {len(values)} steps",
        series[0][0], kind.action.format(name=name),
        {"signature": name, "values": values, "p_value": round(falling_p(values), 4)},
    )  # fmt: skip
