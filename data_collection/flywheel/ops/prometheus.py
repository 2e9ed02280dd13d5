"""The same figures in Prometheus' text format, for node_exporter's textfile collector. Base units, all gauges."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from flywheel.ops.fields import LARGEST
from flywheel.ops.findings import LEVELS
from flywheel.ops.orchestration_checks import failure_streak, finished
from flywheel.ops.page import improvement_trends
from flywheel.ops.spend import month_spend
from flywheel.ops.variant_checks import VARIANTS, candidates, figure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from flywheel.ops.config import MonitoringConfig
    from flywheel.ops.findings import Finding
    from flywheel.ops.observed import ExperimentFacts, Observed
    from flywheel.ops.view import View

# With traffic of its own; a pending one has none yet.
SERVING = frozenset({"running", "paused"})
STATUSES = ("pending", "running", "paused", "completed", "rolled_back", "failed")
Sample = tuple["Mapping[str, str]", float]


@dataclass(frozen=True)
class Gauge:
    """A metric with its samples: (labels, value)."""

    name: str
    help: str
    samples: Sequence[Sample]

    def lines(self) -> Iterator[str]:
        """The metric in text format; nothing without a sample."""
        if not self.samples:
            return
        yield f"# HELP flywheel_{self.name} {self.help}"
        yield f"# TYPE flywheel_{self.name} gauge"
        for labels, value in self.samples:
            inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
            yield f"flywheel_{self.name}{f'{{{inside}}}' if inside else ''} {value!r}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def metrics_text(view: View) -> str:
    """All metrics as text, with a final newline."""
    observed, config, now = view.observed, view.config, view.now
    gauges = (
        *_runs(observed, config, now),
        *_experiments(observed),
        *_datasets(observed),
        *_models(observed),
        *_health(observed, view.findings, view.state.last_check),
    )
    return "".join(f"{line}\n" for gauge in gauges for line in gauge.lines())


def _plain(value: float | None) -> list[Sample]:
    return [] if value is None else [({}, value)]


def _each(key: str, values: Iterable[tuple[str, float]]) -> list[Sample]:
    return [({key: name}, value) for name, value in values]


def _runs(observed: Observed, config: MonitoringConfig, now: datetime) -> Iterator[Gauge]:
    over = finished(observed.runs, config, now)
    last = observed.runs[-1].started.timestamp() if observed.runs else None
    success = next((run.started.timestamp() for run in reversed(over) if run.success), None)
    gains = _each(
        "signature", ((name, values[-1][1] / 100) for name, values in improvement_trends(observed.runs).items())
    )
    outcomes = Counter("succeeded" if run.success else "failed" for run in over)
    counts = _each("outcome", ((name, outcomes[name]) for name in ("succeeded", "failed")))
    yield Gauge("runs", "Optimization runs that are over, by outcome.", counts)
    yield Gauge("last_run_timestamp_seconds", "When the newest optimization run began.", _plain(last))
    yield Gauge("last_success_timestamp_seconds", "When the newest successful run began.", _plain(success))
    yield Gauge("consecutive_failures", "Failed runs since the last successful one.", _plain(len(failure_streak(over))))
    yield Gauge("improvement_ratio", "Newest measured improvement over the baseline.", gains)
    spent = month_spend(observed, now).usd
    yield Gauge("month_cost_dollars", "Known cost of this calendar month's runs and canaries.", _plain(spent))


def _experiments(observed: Observed) -> Iterator[Gauge]:
    counts = Counter(experiment.status for experiment in observed.experiments)
    yield Gauge("experiments", "A/B experiments by status.", _each("status", ((s, counts[s]) for s in STATUSES)))
    shares = [
        ({"experiment": item.experiment_id, "signature": item.signature}, item.share / 100)
        for item in observed.experiments
        if item.status in SERVING
    ]
    yield Gauge("experiment_candidate_ratio", "Share of traffic that goes to a live experiment's candidate.", shares)
    variants = [found for item in observed.experiments if item.status in SERVING for found in _variants(item)]
    errors = [sample for found in variants for sample in _errors(*found)]
    latencies = [sample for found in variants for sample in _latencies(*found)]
    yield Gauge("experiment_error_ratio", "Share of failed calls in a live experiment's stage.", errors)
    yield Gauge("experiment_latency_seconds", "Latency percentiles of a live experiment's stage.", latencies)


def _variants(item: ExperimentFacts) -> Iterator[tuple[ExperimentFacts, str, str]]:
    """The experiment as each variant's figures tell it, the figures' name for it, and its own; the baseline once."""
    for number, (name, found) in enumerate(candidates(item)):
        if number == 0:
            yield found, VARIANTS[1], VARIANTS[1]
        yield found, VARIANTS[0], name


def _errors(item: ExperimentFacts, variant: str, name: str) -> Iterator[Sample]:
    rate = figure(item, f"error_rate_{variant}")
    if rate is not None and 0 <= rate <= 1:
        yield {"experiment": item.experiment_id, "variant": name}, rate


def _latencies(item: ExperimentFacts, variant: str, name: str) -> Iterator[Sample]:
    for percent in (50, 95, 99):
        value = figure(item, f"latency_ms_p{percent}_{variant}")
        if value is not None and 0 <= value <= LARGEST:
            yield {"experiment": item.experiment_id, "variant": name, "percentile": f"{percent:g}"}, value / 1000


def _datasets(observed: Observed) -> Iterator[Gauge]:
    newest = [(name, versions[-1]) for name, versions in observed.versions().items()]
    examples = _each("signature", ((name, facts.examples) for name, facts in newest))
    quality = _each("signature", ((name, facts.quality / 100) for name, facts in newest))
    yield Gauge("dataset_examples", "Examples in the newest version.", examples)
    yield Gauge("dataset_quality_ratio", "Mean quality score of the newest version, 0-1.", quality)


def _models(observed: Observed) -> Iterator[Gauge]:
    latest = [(canary.signature, canary.scores[-1]) for canary in observed.canaries if canary.scores]
    scores = ((name, score.mean) for name, score in latest if score.mean is not None)
    asked = ((name, datetime.fromisoformat(score.at).timestamp()) for name, score in latest)
    yield Gauge("canary_score_ratio", "Newest canary score of a deployed program, 0-1.", _each("signature", scores))
    yield Gauge("canary_timestamp_seconds", "When a canary was last scored.", _each("signature", asked))


def _health(observed: Observed, findings: Sequence[Finding], checked: datetime | None) -> Iterator[Gauge]:
    waiting = _each("channel", ((item.channel, item.alerts) for item in observed.undelivered))
    last = _plain(checked.timestamp() if checked is not None else None)
    counts = Counter(finding.level for finding in findings)
    used = _each("path", ((disk.path, disk.used_percent / 100) for disk in observed.disks))
    yield Gauge("findings", "What the checks find now, by level.", _each("level", ((x, counts[x]) for x in LEVELS)))
    yield Gauge("last_check_timestamp_seconds", "When the checks last ran and alerted.", last)
    yield Gauge("undelivered_alerts", "Alerts that wait for a channel which does not take them.", waiting)
    yield Gauge("disk_used_ratio", "Use of the file systems that hold runs, experiments and datasets.", used)
