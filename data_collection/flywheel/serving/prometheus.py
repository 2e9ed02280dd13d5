"""Metrics of a rollout from Prometheus: the same counters that records give, as far as counters can give them."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flywheel.base.errors import DamagedError
from flywheel.serving.arm_ticks import Collected
from flywheel.serving.arms import ArmTick
from flywheel.serving.buckets import Buckets
from flywheel.serving.counters import Counters
from flywheel.serving.promql import CorruptError, UnansweredError, ask
from flywheel.serving.routing import BASELINE
from flywheel.serving.settings import EXPERIMENT, QUERIES, VARIANT, WINDOW
from flywheel.serving.window import SETTLING_MS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flywheel.serving.cutoffs import Cutoffs
    from flywheel.serving.experiments import Experiment
    from flywheel.serving.promql import Series
    from flywheel.serving.settings import PrometheusSettings

SCHEMA_VERSION = 1
# Before the first look: enough to meet a series that was there before the experiment.
LOOKBACK_MS = 5 * 60_000
# A monitor that was away for longer compares the two ends: counters have kept what they counted.
LONGEST_WINDOW_MS = 3_600_000
# Calls and their latencies are scraped while both are being counted; more than that is no skew.
FREE_SKEW, MOST_SKEW = 20, 0.05


@dataclass(slots=True)
class Pending:
    """What a variant's counters said that the look could not use yet: calls that latencies lack, scores without calls.

    `calls` may be negative: latencies that calls lack.
    """

    calls: int = 0
    score_sum: float = 0.0
    scored: int = 0


class PrometheusSource:
    """Follows one experiment's counters; `checkpoint` goes into its record, so nothing is counted twice or lost.

    Raises:
        DamagedError: the checkpoint is none of ours.
    """

    def __init__(self, settings: PrometheusSettings, checkpoint: Mapping[str, Any] | None) -> None:
        self._settings = settings
        self._counters: Counters | None = None
        self._pending: dict[str, Pending] = {}
        self._stage_ms: int | None = None
        self._seen = {"series": 0, "samples": 0}
        if checkpoint is not None:
            self._restore(checkpoint)

    def collect(self, experiment: Experiment, now_ms: int) -> Collected:
        """What is new of the experiment's present stage; a `problem` where nothing came, or nothing that can be."""
        if self._counters is None:
            self._counters = Counters(experiment.started_ms)
        if self._stage_ms != experiment.stage_ms:
            self._pending = {variant: Pending() for variant in _variants(experiment)}
            self._stage_ms = experiment.stage_ms
        at_ms = now_ms - math.ceil(self._settings.lag_seconds * 1000)
        if at_ms <= self._counters.covered_ms:
            return Collected()
        try:
            found = self._ask(experiment, at_ms)
        except UnansweredError as error:
            return Collected(problem=str(error), missed=True)
        except CorruptError as error:
            return Collected(problem=str(error))
        # The first stage's share holds from the first call that bears the experiment's id.
        first = experiment.stage_ms == experiment.started_ms
        floor_ms = experiment.stage_ms + (0 if first else SETTLING_MS)
        grown = self._counters.growth(found, floor_ms, at_ms)
        try:
            return self._collected(found, grown, experiment.candidates[0].evidence.cutoffs)
        except CorruptError as error:
            return Collected(problem=str(error))

    def exposures(self, _experiment_id: str) -> tuple[int, int]:
        """Counters know no units."""
        return 0, 0

    def account(self) -> dict[str, Any]:
        """What was read, for the tick log."""
        restarts = 0 if self._counters is None else self._counters.restarts
        return {"prometheus": {**self._seen, "restarts": restarts}}

    def checkpoint(self) -> dict[str, Any]:
        """Everything needed to go on in another process, for JSON."""
        return {
            "schema_version": SCHEMA_VERSION,
            "source": "prometheus",
            "counters": None if self._counters is None else self._counters.to_object(),
            "stage_ms": self._stage_ms,
            "pending": {name: [item.calls, item.score_sum, item.scored] for name, item in self._pending.items()},
        }

    def _restore(self, checkpoint: Mapping[str, Any]) -> None:
        try:
            if (checkpoint["source"], checkpoint["schema_version"]) != ("prometheus", SCHEMA_VERSION):
                raise DamagedError("checkpoint of Prometheus: another source or schema")
            counters = checkpoint["counters"]
            self._counters = None if counters is None else Counters.from_object(counters)
            self._stage_ms = checkpoint["stage_ms"]
            self._pending = {
                name: Pending(int(calls), float(total), int(scored))
                for name, (calls, total, scored) in checkpoint["pending"].items()
            }
            if self._stage_ms is not None and BASELINE not in self._pending:
                raise DamagedError("checkpoint of Prometheus: no baseline")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            msg = f"checkpoint of Prometheus: {error!r}"
            raise DamagedError(msg) from error

    def _ask(self, experiment: Experiment, at_ms: int) -> dict[str, list[Series]]:
        """The answers to every query for every variant, under `query variant`."""
        assert self._counters is not None  # noqa: S101 - for the type checker; collect() made it
        new = not self._counters.last
        window_ms = min(at_ms - self._counters.covered_ms + (LOOKBACK_MS if new else 0), LONGEST_WINDOW_MS)
        found: dict[str, list[Series]] = {}
        for name in QUERIES:
            query = getattr(self._settings, name)
            for variant in self._pending if query is not None else ():
                filled = query.replace(EXPERIMENT, experiment.id).replace(VARIANT, variant)
                filled = filled.replace(WINDOW, f"{window_ms}ms")
                found[f"{name} {variant}"] = ask(self._settings.url, filled, at_ms, self._settings.timeout_seconds)
        series = [item for items in found.values() for item in items]
        self._seen = {"series": len(series), "samples": sum(len(item.samples) for item in series)}
        return found

    def _collected(
        self, found: Mapping[str, Sequence[Series]], grown: Mapping[str, Sequence[float]], cutoffs: Cutoffs | None
    ) -> Collected:
        collected = Collected()
        for variant in self._pending:
            series, counts = found[f"latency_buckets {variant}"], grown[f"latency_buckets {variant}"]
            scale = self._settings.milliseconds_per_unit
            buckets = Buckets(_by_bound(series, counts, scale), scale * sum(grown[f"latency_sum {variant}"]))
            tick = self._tick(variant, grown, buckets, cutoffs)
            collected.latencies[variant] = buckets.histogram()
            if variant != BASELINE:
                collected.candidates[variant] = tick
                continue
            collected.baseline = tick
            if cutoffs is None:
                collected.warmup_ms = buckets.warmup()
        return collected

    def _tick(
        self, variant: str, grown: Mapping[str, Sequence[float]], buckets: Buckets, cutoffs: Cutoffs | None
    ) -> ArmTick:
        pending, timed = self._pending[variant], buckets.calls
        errors = _whole(sum(grown[f"errors {variant}"]), "errors")
        known = _whole(sum(grown[f"calls {variant}"]), "calls") + pending.calls
        # Every successful call has a latency, and an error may have one.
        calls = min(max(known, timed, errors), timed + errors)
        skew = known - calls
        if abs(skew) > max(FREE_SKEW, MOST_SKEW * calls):
            pending.calls = 0
            msg = f"{known} calls with {errors} errors, but {timed} latencies, which are of successes and timeouts"
            raise CorruptError(msg)
        pending.calls = skew
        total, squares = buckets.sums()
        scores = self._scores(pending, variant, grown, calls)
        return ArmTick(calls, errors, timed, total, squares, buckets.slow(cutoffs), 0, scores)

    def _scores(
        self, pending: Pending, variant: str, grown: Mapping[str, Sequence[float]], calls: int
    ) -> tuple[float, ...]:
        """The mean of the look's scores as one score: of the single ones nothing is known."""
        if self._settings.quality_sum is None:
            return ()
        pending.score_sum += sum(grown[f"quality_sum {variant}"])
        pending.scored += _whole(sum(grown[f"quality_count {variant}"]), "quality scores")
        if not (calls and pending.scored):
            return ()
        mean = pending.score_sum / pending.scored
        pending.score_sum, pending.scored = 0.0, 0
        return (min(mean, 1.0) if mean < 1 + 1e-9 else mean,)


def _variants(experiment: Experiment) -> tuple[str, ...]:
    return (*(item.variant for item in experiment.candidates), BASELINE)


def _by_bound(series: Sequence[Series], counts: Sequence[float], scale: float) -> dict[float, int]:
    """Counts of all histograms together by bound in ms.

    Raises:
        CorruptError: a bound that is no number, or histograms of different bounds, which cannot be added.
    """
    found: Counter[float] = Counter()
    histograms: dict[tuple[tuple[str, str], ...], set[float]] = {}
    for item, count in zip(series, counts, strict=True):
        try:
            bound = float(item.labels["le"]) * scale
        except (KeyError, ValueError) as error:
            msg = f"a latency bucket without a bound: {dict(item.labels)!r}"
            raise CorruptError(msg) from error
        found[bound] += _whole(count, "latency bucket")
        rest = tuple(sorted((name, text) for name, text in item.labels.items() if name != "le"))
        histograms.setdefault(rest, set()).add(bound)
    if any(bounds != found.keys() for bounds in histograms.values()) or not all(bound >= 0 for bound in found):
        raise CorruptError("latency histograms with different buckets cannot be added")
    return dict(found)


def _whole(value: float, name: str) -> int:
    if abs(value - round(value)) > 1e-6 * max(1.0, value):
        msg = f"{name}: grew by {value!r}, which is no number of calls; the query must give raw counters"
        raise CorruptError(msg)
    return round(value)
