"""From interaction records to the counters of a look: what each arm did since the last one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from flywheel.serving.arms import ArmTick
from flywheel.serving.bucketing import BUCKETS, threshold
from flywheel.serving.cutoffs import WARMUP_CALLS, freeze_cutoffs
from flywheel.serving.histogram import Histogram
from flywheel.serving.routing import BASELINE
from flywheel.serving.window import SETTLING_MS, Span

if TYPE_CHECKING:
    from flywheel.serving.arms import Slow
    from flywheel.serving.cutoffs import Cutoffs
    from flywheel.serving.evidence import Evidence
    from flywheel.serving.experiments import Experiment
    from flywheel.serving.window import Batch, Window

_NO_SLOW = (0, 0, 0)
_NO_CALLS = ArmTick()


@dataclass(slots=True)
class Collected:
    """A look's counters by variant, their latencies, and the first of the baseline's while cut-offs wait for them.

    `problem` says why there are none; `missed` that they may yet come, else what came cannot be trusted.
    """

    candidates: dict[str, ArmTick] = field(default_factory=dict)
    baseline: ArmTick = _NO_CALLS
    warmup_ms: list[float] = field(default_factory=list)
    latencies: dict[str, Histogram] = field(default_factory=dict)
    problem: str | None = None
    missed: bool = False


class Source(Protocol):
    """Where metrics come from; its checkpoint, kept in the experiment's record, lets another process go on."""

    def collect(self, experiment: Experiment, now_ms: int) -> Collected:
        """Everything new of the experiment's present stage."""

    def exposures(self, experiment_id: str) -> tuple[int, int]:
        """Of the units watched in the present stage, how many met more than one variant: (met several, watched)."""

    def account(self) -> dict[str, Any]:
        """What was read and what became of it, for the tick log."""

    def checkpoint(self) -> dict[str, Any]:
        """How far has been read, for JSON."""


@dataclass(frozen=True, slots=True)
class RecordSource:
    """Interaction records, followed by a window."""

    window: Window

    def collect(self, experiment: Experiment, now_ms: int) -> Collected:
        """Everything new of the experiment's present stage."""
        return collect(experiment, self.window, now_ms)

    def exposures(self, experiment_id: str) -> tuple[int, int]:
        """Of the units watched in the present stage, how many met more than one variant: (met several, watched)."""
        return self.window.multiple_exposures(experiment_id)

    def account(self) -> dict[str, Any]:
        """What became of lines and files."""
        return {"records": dict(self.window.counts), "files": dict(self.window.file_counts)}

    def checkpoint(self) -> dict[str, Any]:
        """How far files have been read."""
        return self.window.checkpoint()


def collect(experiment: Experiment, window: Window, now_ms: int) -> Collected:
    """Everything new of the experiment's present shares.

    Records from the moments in which routers may still have had the old shares are left out, since every e-value rests
    on them. Records that could not be read belong to nobody known: each arm bears them by its share.
    """
    before = _unusable(window)
    found = Collected({item.variant: _NO_CALLS for item in experiment.candidates})
    scores: dict[str, list[float]] = {variant: [] for variant in (*found.candidates, BASELINE)}
    spans = {experiment.id: Span(experiment.started_ms, experiment.stage_ms)}
    for batch in window.tick(spans, now_ms):
        if batch.variant in scores:
            own = batch.since(experiment.stage_ms + SETTLING_MS)
            _add(found, own, experiment.candidates[0].evidence.cutoffs)
            # In lists: a look after a long time has many batches, and a tuple would be copied for each.
            scores[batch.variant].extend(own.quality_scores)

    def whole(tick: ArmTick, variant: str) -> ArmTick:
        return replace(tick, scores=tuple(scores[variant]), drawn=window.drawn(experiment.id, variant))

    found.candidates = {name: whole(item, name) for name, item in found.candidates.items()}
    found.baseline = whole(found.baseline, BASELINE)
    _share_out(found, experiment, _unusable(window) - before)
    return found


def _share_out(found: Collected, experiment: Experiment, unusable: int) -> None:
    left = unusable
    for item in experiment.candidates:
        width = item.width if experiment.shared else threshold(experiment.candidate_traffic_percent)
        own = round(unusable * width / BUCKETS)
        left -= own
        found.candidates[item.variant] = replace(found.candidates[item.variant], invalid=own)
    found.baseline = replace(found.baseline, invalid=max(0, left))


def _unusable(window: Window) -> int:
    return window.counts["invalid"] + window.counts["garbled"]


def _add(found: Collected, batch: Batch, cutoffs: Cutoffs | None) -> None:
    latencies = batch.latencies_ms
    found.latencies.setdefault(batch.variant, Histogram()).update(latencies)
    if batch.variant != BASELINE:
        found.candidates[batch.variant] = _plus(found.candidates[batch.variant], batch, latencies, cutoffs)
        return
    found.baseline = _plus(found.baseline, batch, latencies, cutoffs)
    if cutoffs is None:
        found.warmup_ms.extend(latencies[: WARMUP_CALLS - len(found.warmup_ms)])


def _plus(tick: ArmTick, batch: Batch, latencies: list[float], cutoffs: Cutoffs | None) -> ArmTick:
    return ArmTick(
        tick.calls + batch.calls,
        tick.errors + batch.errors,
        tick.timed + len(latencies),
        tick.latency_sum_ms + sum(latencies),
        tick.latency_squares + sum(latency * latency for latency in latencies),
        _slow(tick.slow, latencies, cutoffs),
        tick.invalid,
    )


def _slow(slow: Slow, latencies: list[float], cutoffs: Cutoffs | None) -> Slow:
    if cutoffs is None:
        return _NO_SLOW
    low, middle, high = (
        count + sum(latency > limit for latency in latencies) for count, limit in zip(slow, cutoffs, strict=True)
    )
    return low, middle, high


def warmed(evidence: Evidence, latencies: tuple[float, ...]) -> tuple[Evidence, tuple[float, ...]]:
    """The evidence with its cut-offs frozen once enough baseline latencies are there, and those still waiting."""
    if evidence.cutoffs is not None:
        return evidence, ()
    if len(latencies) < WARMUP_CALLS:
        return evidence, latencies
    return replace(evidence, cutoffs=freeze_cutoffs(latencies[:WARMUP_CALLS])), ()
