"""Checks over the dataset versions of each signature."""

from __future__ import annotations

import shlex
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from flywheel.base.clock import iso
from flywheel.ops.findings import ERROR, INFO, WARNING, Finding
from flywheel.ops.observed import DATASETS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from flywheel.ops.config import MonitoringConfig
    from flywheel.ops.observed import DatasetFacts


def check_datasets(
    datasets: Mapping[str, Sequence[DatasetFacts]], config: MonitoringConfig, now: datetime
) -> Iterator[Finding]:
    """Every finding about the datasets."""
    for versions in datasets.values():
        yield from quality_drop(versions, config)
        yield from shrunk(versions)
        yield from not_growing(versions, config, now)
        yield from one_source(versions, config)


def quality_drop(versions: Sequence[DatasetFacts], config: MonitoringConfig) -> Iterator[Finding]:
    """A warning when the newest version's quality is clearly below the one before it, an error when far below."""
    if len(versions) < 2:
        return
    previous, latest = versions[-2:]
    drop = (previous.quality - latest.quality) / previous.quality if previous.quality > 0 else 0.0
    if drop <= config.dataset_quality_drop_threshold:
        return
    name = latest.signature
    yield Finding(
        DATASETS, "quality_drop", name,
        ERROR if drop > config.dataset_quality_drop_error_threshold else WARNING,
        "Dataset Quality Degradation",
        f"Quality score dropped {100 * drop:.1f}% for {name}",
        latest.created,
        f"jq .statistics {shlex.quote(latest.folder)}/metadata.json; "
        f"python dataset_manager.py list --signature {name}",
        {
            "signature": name,
            "latest_version": latest.version,
            "previous_version": previous.version,
            "latest_quality": latest.quality,
            "previous_quality": previous.quality,
            "drop_percent": round(100 * drop, 1),
        },
    )  # fmt: skip


def shrunk(versions: Sequence[DatasetFacts]) -> Iterator[Finding]:
    """A warning when the newest version has fewer examples than the one before it."""
    if len(versions) < 2 or versions[-1].examples >= versions[-2].examples:
        return
    previous, latest = versions[-2:]
    name = latest.signature
    yield Finding(
        DATASETS, "shrunk", name, WARNING,
        "Dataset Shrank",
        f"{name} went from {previous.examples} to {latest.examples} examples",
        latest.created,
        f"python dataset_manager.py list --signature {name}; `create` makes a version of just what it is given, "
        "`add` keeps what there was",
        {
            "signature": name,
            "latest_version": latest.version,
            "previous_version": previous.version,
            "latest_examples": latest.examples,
            "previous_examples": previous.examples,
        },
    )  # fmt: skip


def not_growing(versions: Sequence[DatasetFacts], config: MonitoringConfig, now: datetime) -> Iterator[Finding]:
    """A note when no version with more examples has come for some cycles."""
    grown = versions[0]
    for earlier, later in pairwise(versions):
        grown = later if later.examples > earlier.examples else grown
    if now - grown.created <= timedelta(days=config.dataset_no_growth_days):
        return
    name = grown.signature
    yield Finding(
        DATASETS, "not_growing", name, INFO,
        "Dataset Not Growing",
        f"{name} has had no more examples since {grown.created:%Y-%m-%d}",
        grown.created,
        "mine further back (--since-days), raise --synthetic-target, or collect from production",
        {"signature": name, "examples": versions[-1].examples, "last_growth": iso(grown.created)},
    )  # fmt: skip


def one_source(versions: Sequence[DatasetFacts], config: MonitoringConfig) -> Iterator[Finding]:
    """A note when one source gave more of the newest version than the gates would let through."""
    latest = versions[-1]
    if not latest.sources or latest.examples == 0:
        return
    source, count = max(latest.sources.items(), key=lambda item: item[1])
    share = count / latest.examples
    if share <= config.dataset_max_source_share:
        return
    name = latest.signature
    yield Finding(
        DATASETS, "one_source", name, INFO,
        "Dataset Source Diversity Low",
        f"{100 * share:.0f}% of {name} comes from {source}",
        latest.created,
        "raise the targets of the other sources (--git-target, --synthetic-target, --since-days)",
        {"signature": name, "version": latest.version, "source": source, "share_percent": round(100 * share, 1)},
    )  # fmt: skip
