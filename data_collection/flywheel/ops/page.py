"""The dashboard as one self-contained page: health, runs, datasets, experiments, models, spend and alerts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.base.errors import BadInputError
from flywheel.base.files import write_atomic
from flywheel.base.progress import duration
from flywheel.base.text import one_line, visible
from flywheel.ops.charts import bar_chart, trend_chart
from flywheel.ops.findings import INFO, RUN_IN, severity, steps
from flywheel.ops.orchestration_checks import failure_streak, finished
from flywheel.ops.page_experiments import experiment_row
from flywheel.ops.rollout_checks import LIVE, live_first
from flywheel.ops.spend import month_spend, months_spend

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from flywheel.ops.findings import Finding
    from flywheel.ops.observed import CanaryFacts, DatasetFacts, RunFacts
    from flywheel.ops.view import View

TEMPLATE = Path(__file__).with_name("dashboard.html.jinja")
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
SHOWN_RUNS, SHOWN_EXPERIMENTS, SHOWN_MONTHS = 8, 20, 12
LONGEST = 300
HEALTHY = "healthy"


def render_page(view: View) -> str:
    """The page as HTML; every text from outside is escaped, and the page may load nothing."""
    import jinja2
    from markupsafe import Markup

    def drawn(svg: str) -> Markup:
        return Markup(svg)  # noqa: S704 - our own SVG: numbers, and names that it has escaped

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        shown=visible, brief=_brief, day=_day, usd=_usd, drawn=drawn, steps=steps, moment=_moment
    )
    observed, now = view.observed, view.now
    text: str = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        policy=POLICY,
        now=now,
        health=health(view.findings),
        tiles=list(tiles(view)),
        findings=view.findings,
        run_in=str(RUN_IN),
        runs_told=runs_told(view),
        runs=[run_row(run) for run in reversed(observed.runs[-SHOWN_RUNS:])],
        trends=[trend_row(name, points) for name, points in improvement_trends(observed.runs).items()],
        datasets=[dataset_row(versions) for versions in observed.versions().values()],
        experiments=[experiment_row(item, now) for item in live_first(observed.experiments)[:SHOWN_EXPERIMENTS]],
        canaries=[canary_row(canary) for canary in observed.canaries],
        spent=month_spend(observed, now),
        spend_chart=spend_chart(view),
        budget=view.config.monthly_budget_usd,
        alerts=list(reversed(view.state.recent)),
        waiting={name: len(alerts) for name, alerts in view.state.pending.items() if alerts},
        last_check=view.state.last_check,
    )
    return text


def write_page(path: Path, view: View) -> None:
    """The dashboard as one page in `path`; BadInputError when it cannot be written."""
    try:
        write_atomic(path, render_page(view))
    except OSError as error:
        msg = f"{path}: cannot be written: {error.strerror}"
        raise BadInputError(msg) from error


def health(findings: Sequence[Finding]) -> str:
    """`healthy`, or the level of the worst finding that is more than a note."""
    worst = max((finding.level for finding in findings), key=severity, default=INFO)
    return HEALTHY if worst == INFO else worst


def tiles(view: View) -> Iterator[tuple[str, str, str]]:
    """The first look: (what, how much, a word more)."""
    observed, now = view.observed, view.now
    over = finished(observed.runs, view.config, now)
    success = next((run for run in reversed(over) if run.success), None)
    streak = len(failure_streak(over))
    ago = "never" if success is None else _ago(now - success.started)
    yield "last successful run", ago, f"{streak} failed since" if streak else f"{len(over)} runs in all"
    deployed = sum(facts.deployed for run in over for facts in run.signatures.values())
    yield "programs deployed", str(deployed), f"{len(observed.canaries)} in use now"
    live = [item for item in observed.experiments if item.status in LIVE]
    back = sum(item.status == "rolled_back" for item in observed.experiments)
    yield "live experiments", str(len(live)), f"{back} rolled back, {len(observed.experiments)} in all"
    newest = [versions[-1] for versions in observed.versions().values()]
    yield "examples", f"{sum(facts.examples for facts in newest):,}", f"{len(newest)} datasets"
    budget, spent = view.config.monthly_budget_usd, month_spend(observed, now)
    told = f"of {_usd(budget)} this month" if budget is not None else "this month, no budget set"
    yield "spent", _usd(spent.usd), told + (f"; {spent.unpriced} of unknown price" if spent.unpriced else "")


def runs_told(view: View) -> str:
    """How many of the runs that are over succeeded."""
    over = finished(view.observed.runs, view.config, view.now)
    good = sum(run.success for run in over)
    return f"{good} of {len(over)} succeeded ({100 * good / len(over):.0f} %)" if over else ""


def run_row(run: RunFacts) -> dict[str, Any]:
    """A run's line: how it ended, what it decided, what it cost (None: a price that nobody knows)."""
    results = run.signatures.values()
    costs = [facts.cost_usd for facts in results if facts.lm_calls]
    known = [cost for cost in costs if cost is not None]
    outcome = "succeeded" if run.success else "under way or killed" if run.ended is None else "failed"
    return {
        "run_id": run.run_id,
        "started": run.started,
        "took": duration((run.ended - run.started).total_seconds()) if run.ended is not None else None,
        "outcome": outcome,
        "error": run.error,
        "verdicts": [
            (name, facts.verdict or "no verdict", facts.improvement_percent, facts.deployed)
            for name, facts in run.signatures.items()
        ],
        "cost": sum(known) if len(known) == len(costs) else None,
    }


def improvement_trends(runs: Sequence[RunFacts]) -> Mapping[str, list[tuple[datetime, float]]]:
    """By signature the measured improvements in percent with their run's start, oldest first."""
    trends: dict[str, list[tuple[datetime, float]]] = {}
    for run in runs:
        for name, facts in run.signatures.items():
            if facts.improvement_percent is not None:
                trends.setdefault(name, []).append((run.started, facts.improvement_percent))
    return trends


def trend_row(name: str, points: Sequence[tuple[datetime, float]]) -> dict[str, Any]:
    """A signature's improvements as a chart."""
    return {"name": name, "now": points[-1][1], "chart": trend_chart(points, "improvement", " %", zero=True)}


def dataset_row(versions: Sequence[DatasetFacts]) -> dict[str, Any]:
    """A dataset's newest version, where its examples come from (percent), and how quality and size went."""
    latest = versions[-1]
    total = sum(latest.sources.values()) or 1
    return {
        "latest": latest,
        "versions": len(versions),
        "sources": [(name, count, 100 * count / total) for name, count in latest.sources.items()],
        "quality": trend_chart([(facts.created, facts.quality) for facts in versions], "mean quality"),
        "growth": trend_chart([(facts.created, float(facts.examples)) for facts in versions], "examples", zero=True),
    }


def canary_row(canary: CanaryFacts) -> dict[str, Any]:
    """A deployed program's canary: its newest score, and how the scores went."""
    points = [(datetime.fromisoformat(s.at), s.mean) for s in canary.scores]
    known = [(at, mean) for at, mean in points if mean is not None]
    latest = canary.scores[-1] if canary.scores else None
    return {
        "signature": canary.signature,
        "program": Path(canary.folder).name,
        "latest": latest,
        "chart": trend_chart(known, "canary score"),
    }


def spend_chart(view: View) -> str:
    """US dollars a month, against the budget."""
    months = list(months_spend(view.observed).items())[-SHOWN_MONTHS:]
    bars = [(name, spend.usd) for name, spend in months]
    return bar_chart(bars, view.config.monthly_budget_usd, "US dollars spent by month", "$") if bars else ""


def _ago(age: timedelta) -> str:
    seconds = max(0.0, age.total_seconds())
    return f"{seconds / 86400:.0f} days ago" if seconds > 2 * 86400 else f"{duration(seconds)} ago"


def _brief(text: str) -> str:
    return one_line(text, LONGEST)


def _day(moment: datetime) -> str:
    from markupsafe import Markup

    return Markup(f"<time>{moment:%Y-%m-%d %H:%M}</time>")  # noqa: S704 - figures alone; a time is never broken


def _moment(text: str) -> str:
    """A moment as a file has it, as people read it; what is none stays as it is, made safe."""
    try:
        return _day(datetime.fromisoformat(text).astimezone(UTC))
    except (ValueError, OverflowError):
        return _brief(text)


def _usd(value: float) -> str:
    return f"${value:,.2f}"
