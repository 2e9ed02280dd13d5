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
from flywheel.ops.rollout_checks import live_first
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
# A terminal as it comes, 80 x 24, shows the most urgent of each, and no figure cut off.
NARROW, LOW, FEWER = 110, 34, 2
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
    shown = screen(look(), *console.size)
    try:
        with sigterm_raises(), Live(shown, console=console, screen=True, auto_refresh=False) as live:
            while True:
                threading.Event().wait(every)
                live.update(_looked(look, *console.size), refresh=True)
    except KeyboardInterrupt:
        return OK
    except TerminatedError:
        return EXIT_CODE


def _looked(look: Callable[[], View], width: int, height: int) -> RenderableType:
    """The screen now; a configuration that has become unusable is told, and looked for again."""
    try:
        return screen(look(), width, height)
    except FlywheelError as error:
        return _text(f"cannot look: {error}", "bold red")


def screen(view: View, width: int, height: int) -> Group:
    """Everything for a window of so many columns and rows, the most urgent first: rich cuts off what does not fit."""
    from rich.console import Group
    from rich.text import Text

    status = health(view.findings)
    title = _text("DSPy flywheel", "bold").append("  ")
    title.append_text(_styled(status))
    title.append(f"   {view.now:%Y-%m-%d %H:%M:%S} UTC", style="dim")
    title.append("   Ctrl-C ends it", style="dim")
    narrow, fewer = width < NARROW, FEWER if height < LOW else 0
    tables: tuple[Table | Text, ...] = (
        _findings(view, SHOWN_FINDINGS - fewer, narrow=narrow),
        _experiments(view, SHOWN_EXPERIMENTS - fewer, narrow=narrow),
        _runs(view, SHOWN_RUNS - fewer),
        _improvements(view),
        _datasets(view, narrow=narrow),
        _alerts(view, narrow=narrow),
    )
    parts: list[RenderableType] = [title, _tiles(view, width, brief=fewer > 0)]
    for table in tables:
        parts += ["", table if isinstance(table, Text) or table.row_count else _text(f"{table.title}: none yet", "dim")]
    return Group(*parts)


def _text(text: str, style: str = "") -> Text:
    """Text of anybody's, as it is: rich reads no markup in it, and nothing in it moves the cursor."""
    from rich.text import Text

    return Text(one_line(text, 400), style=style)


def _styled(text: str) -> Text:
    return _text(text, STYLES.get(text, ""))


def _table(title: str, wide: str, *columns: str, right: Iterable[str] = ()) -> Table:
    """A table in which all columns keep their width but the `wide` one, which takes what is left."""
    from rich.table import Table

    table = Table(
        title=title, title_justify="left", title_style="bold", header_style="dim", box=None, pad_edge=False,
        padding=(0, 2, 0, 0), expand=True,
    )  # fmt: skip
    for name in columns:
        least = None if name == wide else WIDEST
        side: Literal["left", "right"] = "right" if name in right else "left"
        ratio = 1 if name == wide else None
        table.add_column(name, justify=side, overflow="ellipsis", no_wrap=True, max_width=least, ratio=ratio)
    return table


def _tiles(view: View, width: int, *, brief: bool) -> Text:
    """The figures of the page's tiles, as many a line as there is room for."""
    text, left = _text(""), width
    for what, much, more in tiles(view):
        tile = _text(f"{what} ", "dim").append(" ").append(much, style="not dim bold")
        if not brief:
            tile.append(f" ({more})", style="dim")
        if tile.cell_len > left and left < width:
            text.append("\n")
            left = width
        text.append_text(tile).append("   ")
        left -= tile.cell_len + 3
    return text


def _findings(view: View, most: int, *, narrow: bool) -> Table | Text:
    if not view.findings:
        return _text("Nothing is wrong.", "green")
    columns = ("level", "since", "message") if narrow else ("level", "what", "since", "message")
    table = _table(f"Findings ({len(view.findings)})", "message", *columns)
    for finding in view.findings[:most]:
        title = () if narrow else (_text(finding.title),)
        table.add_row(_styled(finding.level), *title, f"{finding.since:%m-%d %H:%M}", _text(finding.message))
    return table


def _runs(view: View, most: int) -> Table:
    table = _table("Runs", "verdicts", "run", "outcome", "verdicts", "cost", right=("cost",))
    for run in reversed(view.observed.runs[-most:]):
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


def _experiments(view: View, most: int, *, narrow: bool) -> Table:
    columns = ("id", *(() if narrow else ("signature",)), "status", "share", "calls", "errors", "p95 ms")
    table = _table("Experiments (candidate / baseline)", "id" if narrow else "signature", *columns, right=columns[-4:])
    for item in live_first(view.observed.experiments)[:most]:
        signature = () if narrow else (_text(item.signature),)
        table.add_row(
            _text(item.experiment_id), *signature, _styled(item.status), f"{item.share:g} %",
            _both(item, "{}_calls", 1, ",.0f"), _both(item, "error_rate_{}", 100, ".1f", " %"),
            _both(item, "latency_ms_p95_{}", 1, ",.0f"),
        )  # fmt: skip
    return table


def _both(item: ExperimentFacts, key: str, factor: float, form: str, unit: str = "") -> str:
    """`candidate/baseline`, in the order of VARIANTS."""
    values = [figure(item, key.format(variant)) for variant in VARIANTS]
    told = "/".join(NONE if value is None else f"{value * factor:{form}}" for value in values)
    return told if values == [None, None] else told + unit


def _datasets(view: View, *, narrow: bool) -> Table:
    columns = ("signature", "version", "examples", "quality", "trend", *(() if narrow else ("sources",)))
    table = _table("Datasets", "signature" if narrow else "sources", *columns, right=("examples",))
    for name, versions in view.observed.versions().items():
        latest = versions[-1]
        sources = ", ".join(f"{source} {count}" for source, count in latest.sources.items())
        table.add_row(
            _text(name), _text(latest.version), str(latest.examples), f"{latest.quality:.1f}",
            sparkline([facts.quality for facts in versions]), *(() if narrow else (_text(sources),)),
        )  # fmt: skip
    return table


def _alerts(view: View, *, narrow: bool) -> Table:
    columns = ("when", "level", *(() if narrow else ("what",)), "message")
    table = _table("Recent alerts", "message", *columns)
    for alert in reversed(view.state.recent[-SHOWN_ALERTS:]):
        when = _text(str(alert["timestamp"])[:16].replace("T", " "))
        title = () if narrow else (_text(str(alert["title"])),)
        message = alert["title"] if narrow else alert["message"]
        table.add_row(when, _styled(str(alert["level"])), *title, _text(str(message)))
    return table
