"""From interaction records to the counters of a look: what each arm did since the last one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from flywheel.serving.arms import ArmTick
from flywheel.serving.cutoffs import WARMUP_CALLS, freeze_cutoffs
from flywheel.serving.routing import BASELINE, CANDIDATE
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
    """A look's counters of both arms, and the first baseline latencies while the cut-offs wait for them."""

    candidate: ArmTick = _NO_CALLS
    baseline: ArmTick = _NO_CALLS
    warmup_ms: list[float] = field(default_factory=list)


def collect(experiment: Experiment, window: Window, now_ms: int) -> Collected:
    """Everything new of the experiment's present stage.

    Records from the moments in which routers may still have had the old share are left out, since every e-value rests
    on the share. Records that could not be read belong to nobody known: each arm bears them by its share.
    """
    before = _unusable(window)
    found = Collected()
    spans = {experiment.id: Span(experiment.started_ms, experiment.stage_ms)}
    for batch in window.tick(spans, now_ms):
        _add(found, batch.since(experiment.stage_ms + SETTLING_MS), experiment.evidence.cutoffs)
    unusable = _unusable(window) - before
    own = round(unusable * experiment.config.share(experiment.evidence.stage))
    found.candidate = replace(found.candidate, invalid=own)
    found.baseline = replace(found.baseline, invalid=unusable - own)
    return found


def _unusable(window: Window) -> int:
    return window.counts["invalid"] + window.counts["garbled"]


def _add(found: Collected, batch: Batch, cutoffs: Cutoffs | None) -> None:
    if batch.variant == CANDIDATE:
        found.candidate = _plus(found.candidate, batch, cutoffs)
    elif batch.variant == BASELINE:
        found.baseline = _plus(found.baseline, batch, cutoffs)
        if cutoffs is None:
            found.warmup_ms.extend(batch.latencies_ms[: WARMUP_CALLS - len(found.warmup_ms)])


def _plus(tick: ArmTick, batch: Batch, cutoffs: Cutoffs | None) -> ArmTick:
    latencies = batch.latencies_ms
    return ArmTick(
        tick.calls + batch.calls,
        tick.errors + batch.errors,
        tick.timed + len(latencies),
        tick.latency_sum_ms + sum(latencies),
        tick.latency_squares + sum(latency * latency for latency in latencies),
        _slow(tick.slow, latencies, cutoffs),
        tick.invalid,
        (*tick.scores, *batch.quality_scores),
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
