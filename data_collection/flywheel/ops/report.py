"""A run told to people: the verdict table for a terminal, and report.html, one file with no external request."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from flywheel.base import cli
from flywheel.base.files import to_json, write_atomic
from flywheel.base.progress import duration
from flywheel.base.text import one_line, visible
from flywheel.ops.charts import Interval, interval_chart
from flywheel.ops.runs import SUMMARY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from flywheel.ops.runs import RunSummary, SignatureResult

REPORT = "report.html"
TEMPLATE = Path(__file__).with_name("report.html.jinja")
NOTHING = "-"


def score_text(value: float | None) -> str:
    """A score 0-1 as `0.474`."""
    return NOTHING if value is None else f"{value:.3f}"


def percent_text(value: float | None) -> str:
    """`12.3 %`."""
    return NOTHING if value is None else f"{value:.1f} %"


def change_text(result: SignatureResult) -> str:
    """`+58.5 % (+12.0 to +90.1)`."""
    if result.improvement_percent is None or result.improvement_ci is None:
        return NOTHING
    low, high = result.improvement_ci
    return f"{result.improvement_percent:+.1f} % ({low:+.1f} to {high:+.1f})"


def times_text(value: float | None) -> str:
    """`1.45x`."""
    return NOTHING if value is None else f"{value:.2f}x"


def usd_text(value: float | None) -> str:
    """`$1.23`; a price that nobody knows is said, not shown as nothing."""
    return "unknown price" if value is None else f"${value:.2f}"


def verdict_lines(summary: RunSummary) -> Iterator[str]:
    """The verdicts as a table for a terminal, each with its reason."""
    width = max((len(name) for name in summary.signatures), default=0)
    yield ""
    yield f"{'signature':{width}}  baseline  optimized  {'change (95 % interval)':28}  verdict"
    for name, result in summary.signatures.items():
        scores = f"{score_text(result.baseline_score):>8}  {score_text(result.optimized_score):>9}"
        rolled = f", rolled out as {result.experiment_id}" if result.experiment_id else ""
        verdict = (result.verdict or "none") + (", deployed" if result.deployed else one_line(rolled))
        yield f"{name:{width}}  {scores}  {change_text(result):28}  {verdict}"
        if result.verdict_reason:
            yield f"{'':{width}}  {one_line(result.verdict_reason, 300)}"
    if summary.error:
        yield f"error: {one_line(summary.error, 300)}"
    yield ""


def tell_and_write(summary: RunSummary, folder: Path) -> None:
    """Write summary and report into the run's folder; verdicts and paths for people, and as JSON."""
    summary.write(folder)
    write_atomic(folder / REPORT, render(summary, folder))
    for line in verdict_lines(summary):
        cli.say(line)
    cli.say(f"summary: {folder / SUMMARY}")
    cli.say(f"report:  {folder / REPORT}")
    verdicts = {name: result.verdict for name, result in summary.signatures.items()}
    where = {"summary": str(folder / SUMMARY), "report": str(folder / REPORT)}
    cli.emit(to_json({"run_id": summary.run_id, "success": summary.success, "verdicts": verdicts, **where}).rstrip())


def render(summary: RunSummary, folder: Path) -> str:
    """report.html of a run; every text is made visible and escaped, and the page may load nothing."""
    import jinja2
    from markupsafe import Markup

    from flywheel.ops.report_parts import part_of

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, finalize=_shown
    )
    environment.filters.update(
        score=score_text, percent=percent_text, usd=usd_text, took=duration, counts=_counts, times=times_text
    )
    text: str = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        summary=summary,
        intervals=Markup(_intervals(summary)),  # noqa: S704 - our own SVG; the names in it are escaped
        parts={name: part_of(name, result, summary, folder) for name, result in summary.signatures.items()},
    )
    return text


def _shown(value: object) -> object:
    """What the page prints for a value: our own SVG as it is, anything else as visible text."""
    from markupsafe import Markup

    return value if isinstance(value, Markup) else visible(str(value))


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"


def _intervals(summary: RunSummary) -> str:
    rows = [
        Interval(
            name, result.improvement_ci[0], result.improvement_percent, result.improvement_ci[1], result.verdict or ""
        )
        for name, result in summary.signatures.items()
        if result.improvement_ci is not None and result.improvement_percent is not None
    ]
    return interval_chart(rows, float(summary.config["min_improvement"])) if rows else ""
