"""The dashboard live in a terminal: the same figures as the page, as many as fit the window."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Literal

from flywheel.base.errors import OK, BadInputError, FlywheelError
from flywheel.base.signals import EXIT_CODE, TerminatedError, sigterm_raises
from flywheel.base.text import one_line
from flywheel.ops.page import health, improvement_trends, run_row, tiles
from flywheel.ops.page_experiments import NONE
from flywheel.ops.rollout_checks import LIVE
from flywheel.ops.variant_checks import VARIANTS, figure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rich.console import Group, RenderableType
    from rich.table import Table
    from rich.text import Text

    from flywheel.ops.observed import ExperimentFacts
    from flywheel.ops.view import View

STYLES = {
    **dict.fromkeys(("healthy", "succeeded", "deploy", "completed"), "green"),
    **dict.fromkeys(("error", "critical", "failed", "rolled_back"), "bold red"),
    **dict.fromkeys(("warning", "inconclusive", "paused"), "yellow"),
    "running": "cyan",
}
SHOWN_RUNS, SHOWN_EXPERIMENTS, SHOWN_ALERTS, SHOWN_FINDINGS = 4, 5, 4, 6
WIDEST = 32
BLOCKS = "▁▂▃▄▅▆▇█"


def watch(look: Callable[[], View], every: int) -> int:
    """Show the dashboard until Ctrl-C (0) or SIGTERM (143), looking again every so many seconds.

    Raises:
        BadInputError: stdout is no terminal.
    """
    if not sys.stdout.isatty():
        msg = "--watch needs a terminal; `dashboard` alone prints JSON, --html writes a page"
        raise BadInputError(msg)
    from rich.console import Console
    from rich.live import Live

    console = Console()
    shown = screen(look())
    try:
        with sigterm_raises(), Live(shown, console=console, screen=True, auto_refresh=False) as live:
            while True:
                threading.Event().wait(every)
                live.update(_looked(look), refresh=True)
    except KeyboardInterrupt:
        return OK
    except TerminatedError:
        return EXIT_CODE


def _looked(look: Callable[[], View]) -> RenderableType:
    """The screen now; a configuration that has become unusable is told, and looked for again."""
    try:
        return screen(look())
    except FlywheelError as error:
        return _text(f"cannot look: {error}", "bold red")


def screen(view: View) -> Group:
    """Everything, the most urgent first: rich cuts at the end what does not fit the window."""
    from rich.console import Group

    status = health(view.findings)
    title = _text("DSPy flywheel", "bold").append("  ")
    title.append_text(_styled(status))
    title.append(f"   {view.now:%Y-%m-%d %H:%M:%S} UTC", style="dim")
    title.append("   Ctrl-C ends it", style="dim")
    tables = (_findings(view), _experiments(view), _runs(view), _improvements(view), _datasets(view), _alerts(view))
    parts: list[RenderableType] = [title, _tiles(view), *tables]
    return Group(*parts)


def _text(text: str, style: str = "") -> Text:
    """Text of anybody's, as it is: rich reads no markup in it, and nothing in it moves the cursor."""
    from rich.text import Text

    return Text(one_line(text, 400), style=style)


def _styled(text: str) -> Text:
    return _text(text, STYLES.get(text, ""))


def _table(title: str, wide: str, *columns: str, right: Iterable[str] = ()) -> Table:
    """A table in which all columns keep their width but the `wide` one, which takes what is left."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False, expand=True)
    for name in columns:
        least = None if name == wide else WIDEST
        side: Literal["left", "right"] = "right" if name in right else "left"
        ratio = 1 if name == wide else None
        table.add_column(name, justify=side, overflow="ellipsis", no_wrap=True, max_width=least, ratio=ratio)
    return table


def _tiles(view: View) -> Text:
    text = _text("")
    for what, much, more in tiles(view):
        text.append(f"{what} ", style="dim").append(much, style="bold").append(f" ({more})   ", style="dim")
    return text


def _findings(view: View) -> RenderableType:
    if not view.findings:
        return _text("Nothing is wrong.", "green")
    table = _table(f"Findings ({len(view.findings)})", "message", "level", "what", "since", "message")
    for finding in view.findings[:SHOWN_FINDINGS]:
        since = f"{finding.since:%m-%d %H:%M}"
        table.add_row(_styled(finding.level), _text(finding.title), since, _text(finding.message))
    return table


def _runs(view: View) -> Table:
    table = _table("Runs", "verdicts", "run", "outcome", "verdicts", "cost", right=("cost",))
    for run in reversed(view.observed.runs[-SHOWN_RUNS:]):
        row = run_row(run)
        verdicts = ", ".join(
            f"{name} {verdict}" + (f" {gain:+.1f} %" if gain is not None else "")
            for name, verdict, gain, _ in row["verdicts"]
        )
        cost = "unknown" if row["cost"] is None else f"${row['cost']:.2f}"
        table.add_row(_text(run.run_id), _styled(row["outcome"]), _text(row["error"] or verdicts), cost)
    return table


def _improvements(view: View) -> Table:
    table = _table("Improvement, run by run", "trend", "signature", "newest", "trend", right=("newest",))
    for name, points in improvement_trends(view.observed.runs).items():
        values = [value for _, value in points]
        table.add_row(_text(name), f"{values[-1]:+.1f} %", sparkline(values))
    return table


def sparkline(values: list[float]) -> str:
    """The values as blocks from their lowest to their highest, the newest 40."""
    shown = values[-40:]
    low, high = min(shown), max(shown)
    span = (high - low) or 1.0
    return "".join(BLOCKS[round((value - low) / span * (len(BLOCKS) - 1))] for value in shown)


def _experiments(view: View) -> Table:
    columns = ("id", "signature", "status", "share", "calls", "errors", "p95 ms")
    table = _table("Experiments (candidate / baseline)", "signature", *columns, right=columns[3:])
    ordered = sorted(view.observed.experiments, key=lambda item: (item.status not in LIVE, -item.created.timestamp()))
    for item in ordered[:SHOWN_EXPERIMENTS]:
        table.add_row(
            _text(item.experiment_id), _text(item.signature), _styled(item.status), f"{item.share:g} %",
            _both(item, "{}_calls", 1, ",.0f"), _both(item, "error_rate_{}", 100, ".1f", " %"),
            _both(item, "latency_ms_p95_{}", 1, ",.0f"),
        )  # fmt: skip
    return table


def _both(item: ExperimentFacts, key: str, factor: float, form: str, unit: str = "") -> str:
    """`candidate / baseline`, in the order of VARIANTS."""
    values = [figure(item, key.format(variant)) for variant in VARIANTS]
    return " / ".join(NONE if value is None else f"{value * factor:{form}}{unit}" for value in values)


def _datasets(view: View) -> Table:
    table = _table(
        "Datasets", "sources", "signature", "version", "examples", "quality", "trend", "sources", right=("examples",)
    )
    for name, versions in view.observed.versions().items():
        latest = versions[-1]
        sources = ", ".join(f"{source} {count}" for source, count in latest.sources.items())
        trend = sparkline([facts.quality for facts in versions])
        table.add_row(
            _text(name), _text(latest.version), str(latest.examples), f"{latest.quality:.1f}", trend, _text(sources)
        )
    return table


def _alerts(view: View) -> Table:
    table = _table("Recent alerts", "message", "when", "level", "what", "message")
    for alert in reversed(view.state.recent[-SHOWN_ALERTS:]):
        when = _text(str(alert["timestamp"])[:16].replace("T", " "))
        table.add_row(when, _styled(str(alert["level"])), _text(str(alert["title"])), _text(str(alert["message"])))
    return table
