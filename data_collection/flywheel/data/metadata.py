"""metadata.json and provenance.jsonl of a dataset version."""

from __future__ import annotations

import hashlib
import statistics
from collections import Counter
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from flywheel.data.examples import Example, canonical

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from flywheel.data.signatures.types import Signature


class QualityScores(BaseModel):
    """Quality scores of a version's examples, 0-100, higher is better."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: float
    median: float
    min: float
    max: float
    count: int


class Statistics(BaseModel):
    """What a version is made of; `completeness` counts the label's values, where the signature has a label."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: dict[str, int]
    difficulty: dict[str, int]
    categories: dict[str, int]
    completeness: dict[str, int] | None = None
    quality_scores: QualityScores
    splits: dict[str, int]


class DatasetMetadata(BaseModel):
    """metadata.json of one version; `files` has the SHA-256 of its other files, `salt` what leaf hashes start with.

    `erased` keeps the leaf (see `leaf`) of each example whose body was erased, by the example's id: together with the
    leaves of the rows that are left it still gives `content_hash`. `example_count` counts those that are left.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    sequence: int
    signature: str
    created: str
    parent_version: str | None
    source: str
    notes: str
    example_count: int
    salt: str
    content_hash: str
    files: dict[str, str]
    statistics: Statistics
    erased: dict[str, str] = {}


def leaf(salt: str, row: Mapping[str, Any]) -> str:
    """An example's leaf: SHA-256, as hex, over the salt and the row's canonical content."""
    return hashlib.sha256((salt + canonical(row)).encode("utf-8", "surrogatepass")).hexdigest()


def content_hash(salt: str, rows: Iterable[Mapping[str, Any]], erased: Iterable[str] = ()) -> str:
    """SHA-256 over the sorted leaves of the rows and of what was erased: equal sets of rows, equal hash."""
    leaves = sorted([*(leaf(salt, row) for row in rows), *erased])
    return hashlib.sha256(b"".join(map(bytes.fromhex, leaves))).hexdigest()


def summarize(signature: Signature, examples: Sequence[Example]) -> Statistics:
    """Count the examples; every one must have its source, quality score and split.

    Raises:
        ValueError: no examples.
    """
    if not examples:
        msg = "a dataset version needs at least one example"
        raise ValueError(msg)
    scores = [e.metadata.quality_score for e in examples if e.metadata.quality_score is not None]
    label = signature.label
    return Statistics(
        sources=_count(e.metadata.source for e in examples),
        difficulty=_count(e.metadata.difficulty for e in examples),
        categories=_count(e.metadata.category for e in examples),
        completeness=_count(str(e.outputs[label]).lower() for e in examples) if label is not None else None,
        quality_scores=QualityScores(
            mean=round(statistics.fmean(scores), 2),
            median=round(statistics.median(scores), 2),
            min=min(scores),
            max=max(scores),
            count=len(scores),
        ),
        splits=_count(e.split for e in examples),
    )


def _count(values: Iterable[str | None]) -> dict[str, int]:
    return dict(sorted(Counter(value if value is not None else "unknown" for value in values).items()))


def provenance_row(example: Example, timestamp: str) -> dict[str, Any]:
    """One line of provenance.jsonl: where an example came from, and everything its source knew."""
    extra = example.metadata.model_extra or {}
    row = {
        "example_id": example.id,
        "source": example.metadata.source,
        "timestamp": extra.get("timestamp", timestamp),
        "quality_score": example.metadata.quality_score,
        "group": example.metadata.group,
    }
    return {**row, **{key: value for key, value in extra.items() if key not in row}}
