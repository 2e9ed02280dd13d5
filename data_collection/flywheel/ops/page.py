"""The dashboard as one self-contained page: health, runs, datasets, experiments, spend and alerts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.base.text import visible
from flywheel.ops.charts import sparkline
from flywheel.ops.findings import INFO, severity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from flywheel.ops.config import MonitoringConfig
    from flywheel.ops.findings import Finding
    from flywheel.ops.observed import DatasetFacts, ExperimentFacts, Observed, RunFacts
    from flywheel.ops.state import MonitoringState

TEMPLATE = Path(__file__).with_name("dashboard.html.jinja")
SHOWN_RUNS = 12
SHOWN_EXPERIMENTS = 20
HEALTHY = "healthy"


def render_page(
    observed: Observed, state: MonitoringState, findings: Sequence[Finding], config: MonitoringConfig, now: datetime
) -> str:
    """The page as HTML; every text from outside is escaped, and the page may load nothing."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters.update(shown=visible, day=_day)
    environment.globals.update(spark=lambda values, label: Markup(sparkline(values, label)))  # noqa: S704 - numbers
    spent, unpriced = month_spend(observed.runs, now)
    text: str = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        now=now,
        health=health(findings),
        findings=findings,
        runs=[run_row(run) for run in reversed(observed.runs[-SHOWN_RUNS:])],
        trends=improvement_trends(observed.runs),
        datasets=[dataset_row(versions) for versions in observed.versions().values()],
        experiments=[experiment_row(item) for item in reversed(observed.experiments[-SHOWN_EXPERIMENTS:])],
        spent=spent,
        unpriced=unpriced,
        budget=config.monthly_budget_usd,
        alerts=list(reversed(state.recent)),
        last_check=state.last_check,
    )
    return text


def health(findings: Sequence[Finding]) -> str:
    """`healthy`, or the level of the worst finding that is more than a note."""
    worst = max((finding.level for finding in findings), key=severity, default=INFO)
    return HEALTHY if worst == INFO else worst


def run_row(run: RunFacts) -> dict[str, Any]:
    """A run's line: how it ended, what it decided, what it cost (None: a price that nobody knows)."""
    results = run.signatures.values()
    costs = [facts.cost_usd for facts in results if facts.lm_calls]
    known = [cost for cost in costs if cost is not None]
    outcome = "succeeded" if run.success else "under way or killed" if run.ended is None else "failed"
    return {
        "run_id": run.run_id,
        "started": run.started,
        "outcome": outcome,
        "error": run.error,
        "verdicts": [
            (name, facts.verdict or "none", facts.improvement_percent) for name, facts in run.signatures.items()
        ],
        "cost": sum(known) if len(known) == len(costs) else None,
    }


def improvement_trends(runs: Sequence[RunFacts]) -> Mapping[str, list[float]]:
    """By signature the measured improvements in percent, oldest first."""
    trends: dict[str, list[float]] = {}
    for run in runs:
        for name, facts in run.signatures.items():
            if facts.improvement_percent is not None:
                trends.setdefault(name, []).append(facts.improvement_percent)
    return trends


def dataset_row(versions: Sequence[DatasetFacts]) -> dict[str, Any]:
    """A dataset's line: the newest version, and how quality and size went."""
    return {
        "latest": versions[-1],
        "quality": [facts.quality for facts in versions],
        "examples": [float(facts.examples) for facts in versions],
    }


def experiment_row(experiment: ExperimentFacts) -> dict[str, Any]:
    """An experiment's line with its timeline: (when, what, share in percent, why)."""
    keys = ("at", "event", "candidate_traffic_percent", "reason")
    timeline = [tuple(line.get(key, "") for key in keys) for line in experiment.history]
    return {"facts": experiment, "timeline": timeline}


def month_spend(runs: Sequence[RunFacts], now: datetime) -> tuple[float, int]:
    """US dollars of this calendar month's runs, and how many results used a model of unknown price."""
    month = [run for run in runs if (run.started.year, run.started.month) == (now.year, now.month)]
    results = [facts for run in month for facts in run.signatures.values()]
    known = sum(facts.cost_usd for facts in results if facts.cost_usd is not None)
    return known, sum(facts.lm_calls > 0 and facts.cost_usd is None for facts in results)


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"
