"""Evidence: what production's interaction records say about each experiment and variant since the last look."""

from __future__ import annotations

import gc
from collections import Counter, deque
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from flywheel.base.errors import DamagedError
from flywheel.serving.exposure import Exposure
from flywheel.serving.samples import (
    ERROR,
    EXPERIMENT,
    LATENCY,
    QUALITY,
    SUCCESS,
    TIMESTAMP,
    UNIT,
    Sample,
    Table,
    is_timeout,
    samples,
)
from flywheel.serving.tail import Tail

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

FUTURE_MS = 5 * 60_000
HORIZON_MS = 14 * 24 * 3_600_000
# Routers follow a new share within a second of each other: only what comes after that can be a broken promise.
SETTLING_MS = 5_000
RECENT_KEYS = 4_000
KEPT_KEYS = 1_000
SCHEMA_VERSION = 2
OUTCOMES = ("counted", "unattributed", "other_experiment", "invalid", "garbled", "duplicate", "late", "future")


@dataclass(frozen=True, slots=True)
class Span:
    """An experiment's times in milliseconds since the epoch: its start, and the last change of its shares."""

    started_ms: int
    stage_ms: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Calls of one variant in the order read; a look yields any number of batches for it, each of bounded size."""

    experiment_id: str
    variant: str
    samples: list[Sample]

    @property
    def calls(self) -> int:
        """All calls, failed ones included."""
        return len(self.samples)

    @property
    def errors(self) -> int:
        """Calls that failed."""
        return self.calls - [sample[SUCCESS] for sample in self.samples].count(True)

    @property
    def timestamps_ms(self) -> list[int]:
        """When each call began, one for each sample."""
        return [sample[TIMESTAMP] for sample in self.samples]

    @property
    def latencies_ms(self) -> list[float]:
        """Of successful calls and timeouts: a candidate must not look quick because it fails at once."""
        return [sample[LATENCY] for sample in self.samples if sample[SUCCESS] or is_timeout(sample[ERROR])]

    @property
    def quality_scores(self) -> list[float]:
        """Those that were scored, 0 .. 1; not scored is not zero."""
        return [sample[QUALITY] for sample in self.samples if sample[QUALITY] is not None]

    def since(self, moment_ms: int) -> Self:
        """The part that began at `moment_ms` or later, such as a stage's."""
        return type(self)(
            self.experiment_id, self.variant, [item for item in self.samples if item[TIMESTAMP] >= moment_ms]
        )


class Window:
    """Follows a folder of interaction records and yields what is new of the experiments asked for.

    `counts` says what became of every line: counted, or why not. Memory is bounded whatever the folder holds.

    Raises:
        DamagedError: the checkpoint is none of ours.
    """

    def __init__(self, folder: Path, checkpoint: Mapping[str, Any] | None = None) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(OUTCOMES, 0))
        # Two generations of keys: a duplicate is found for at least RECENT_KEYS samples after its first.
        self._recent: set[str | None] = set()
        self._older: set[str | None] = set()
        self._newest: deque[str | None] = deque(maxlen=KEPT_KEYS)
        self._exposures: dict[str, Exposure] = {}
        self._tail = Tail(folder, None if checkpoint is None else self._restore(checkpoint))

    @property
    def file_counts(self) -> Mapping[str, int]:
        """What happened to files: truncated, replaced, copied, unreadable, overlong lines."""
        return self._tail.counts

    def tick(self, experiments: Mapping[str, Span], now_ms: int) -> Iterator[Batch]:
        """What was added since the last tick, batch after batch.

        Exhaust it before `checkpoint`. Samples before their experiment's start or older than 14 days are late, those
        more than 5 minutes ahead of `now_ms` future; neither is evidence.
        """
        self._keep_exposures(experiments)
        for lines in self._tail.chunks():
            yield from self._batches(self._evidence(lines, experiments, now_ms), experiments)

    def _evidence(self, lines: bytes, experiments: Mapping[str, Span], now_ms: int) -> Table:
        with _no_collection():
            table, odd = samples(lines)
        table = self._fresh(self._timely(table, experiments, now_ms))
        self.counts.update(odd, counted=len(table.samples))
        return table

    def _batches(self, table: Table, experiments: Mapping[str, Span]) -> Iterator[Batch]:
        drawn: dict[str, dict[str, list[str | None]]] = {}
        for experiment_id, variant, part in table.by_arm():
            batch = Batch(experiment_id, variant, part)
            drawn.setdefault(experiment_id, {})[variant] = _exposed(batch, experiments[experiment_id])
            yield batch
        for experiment_id, chunk in drawn.items():
            self._exposures[experiment_id].add(chunk)

    def multiple_exposures(self, experiment_id: str) -> tuple[int, int]:
        """Of the units watched in the present stage, how many met more than one variant: (met several, watched)."""
        exposure = self._exposures.get(experiment_id)
        return (0, 0) if exposure is None else (len(exposure.crossed), exposure.watched)

    def drawn(self, experiment_id: str, variant: str) -> int:
        """How often routing drew the variant at the present shares: units, each once, and calls without a unit's id."""
        exposure = self._exposures.get(experiment_id)
        return 0 if exposure is None else exposure.drawn.get(variant, 0)

    def checkpoint(self) -> dict[str, Any]:
        """Everything needed to go on in another process, for JSON; holds unit ids, so keep it as private as records."""
        return {
            "schema_version": SCHEMA_VERSION,
            "tail": self._tail.checkpoint(),
            "counts": dict(self.counts),
            "recent": [name for name in self._newest if name is not None],
            "exposures": {name: exposure.to_object() for name, exposure in self._exposures.items()},
        }

    def _restore(self, checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            if checkpoint["schema_version"] != SCHEMA_VERSION:
                msg = f"checkpoint of telemetry: schema {checkpoint['schema_version']!r}, expected {SCHEMA_VERSION}"
                raise DamagedError(msg)
            self.counts.update(checkpoint["counts"])
            self._newest.extend(checkpoint["recent"])
            self._recent.update(self._newest)
            exposures = checkpoint["exposures"].items()
            self._exposures = {name: Exposure.from_object(value) for name, value in exposures}
            tail: Mapping[str, Any] = checkpoint["tail"]
        except (KeyError, TypeError, AttributeError) as error:
            msg = f"checkpoint of telemetry: {error!r}"
            raise DamagedError(msg) from error
        return tail

    def _keep_exposures(self, experiments: Mapping[str, Span]) -> None:
        known = self._exposures
        self._exposures = {
            name: known[name] if name in known and known[name].stage_ms == span.stage_ms else Exposure(span.stage_ms)
            for name, span in experiments.items()
        }

    def _timely(self, table: Table, experiments: Mapping[str, Span], now_ms: int) -> Table:
        names = set(table.columns[EXPERIMENT])
        times = table.columns[TIMESTAMP]
        if times and names <= experiments.keys():
            floor = max(now_ms - HORIZON_MS, *(experiments[name].started_ms for name in names))
            if min(times) >= floor and max(times) <= now_ms + FUTURE_MS:
                return table
        outcomes = [_outcome(sample, experiments, now_ms) for sample in table.samples]
        self.counts.update(outcome for outcome in outcomes if outcome)
        return table.where(not outcome for outcome in outcomes)

    def _fresh(self, table: Table) -> Table:
        """The samples whose key was not among the recent ones; a sample with nothing to tell it by is new."""
        names = table.keys()
        new = set(names)
        if len(new) < len(names) or not (new.isdisjoint(self._recent) and new.isdisjoint(self._older)):
            table = table.where([self._is_new(name) for name in names])
            self.counts["duplicate"] += len(names) - len(table.samples)
        self._recent |= new
        self._newest.extend(names)
        if len(self._recent) >= RECENT_KEYS:
            self._older, self._recent = self._recent, set()
        return table

    def _is_new(self, name: str | None) -> bool:
        if name is None:
            return True
        known = name in self._recent or name in self._older
        self._recent.add(name)
        return not known


@contextmanager
def _no_collection() -> Iterator[None]:
    """Spare the collector hundreds of fresh rows that are free of cycles and about to go."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _exposed(batch: Batch, span: Span) -> list[str | None]:
    """The units that met the variant once the stage's shares had reached every router."""
    settled = span.stage_ms + SETTLING_MS
    return [sample[UNIT] for sample in batch.samples if sample[TIMESTAMP] >= settled]


def _outcome(sample: Sample, experiments: Mapping[str, Span], now_ms: int) -> str:
    """Why a sample is no evidence; empty where it is."""
    span = experiments.get(sample[EXPERIMENT])
    if span is None:
        return "other_experiment"
    if sample[TIMESTAMP] < max(span.started_ms, now_ms - HORIZON_MS):
        return "late"
    return "future" if sample[TIMESTAMP] > now_ms + FUTURE_MS else ""
