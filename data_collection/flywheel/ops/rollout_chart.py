"""A rollout over time as a picture: stages, error rate, latency, quality and e-values, as SVG or for a terminal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING, Any

from flywheel.base.errors import BadInputError
from flywheel.base.files import write_atomic
from flywheel.base.text import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Values = tuple[float | None, ...]

WIDTH, PANEL, LEFT, RIGHT, TOP, GAP = 860, 96, 64, 128, 44, 34
MOST_POINTS = 800
TERMINAL_COLUMNS = 60
_BLOCKS = "▁▂▃▄▅▆▇█"
# Told apart by colour-blind readers too (Okabe and Ito).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#a0528d")


@dataclass(frozen=True)
class Panel:
    """Series over the same looks, `None` where nothing was known, and the line that matters, if any."""

    title: str
    series: tuple[tuple[str, Values], ...]
    limit: float | None = None

    @property
    def range(self) -> tuple[float, float]:
        """From 0 (or below) to the largest value or limit."""
        known = [value for _, values in self.series for value in values if value is not None]
        return min([0.0, *known]), max([self.limit or 0.0, *known]) or 1.0


def save(path: Path, title: str, ticks: Sequence[dict[str, Any]]) -> None:
    """Write the picture as SVG; BadInputError when it cannot be written."""
    try:
        write_atomic(path, svg(title, ticks))
    except OSError as error:
        msg = f"{path}: cannot be written: {error.strerror}"
        raise BadInputError(msg) from error


def panels(ticks: Sequence[dict[str, Any]]) -> list[Panel]:
    """What the looks show; those that saw nothing are left out."""
    rows = [tick["figures"] for tick in ticks]

    def column(name: str, scale: float = 1) -> Values:
        # A look of an older version may lack a figure.
        return tuple(None if row.get(name) is None else scale * row[name] for row in rows)

    def pair(name: str, scale: float = 1) -> tuple[tuple[str, Values], ...]:
        return ("baseline", column(f"{name}_baseline", scale)), ("candidate", column(f"{name}_candidate", scale))

    quality = ("baseline", column("quality_score_baseline")), ("candidate", column("quality_score"))
    evidence = tuple((name, _logs(column(f"e_{name}"))) for name in ("errors", "latency", "quality", "emergency"))
    bound = math.log10(rows[-1]["e_bound"]) if rows else None
    found = [
        Panel("candidate's share, %", (("share", column("percent")),)),
        Panel("error rate, %", pair("error_rate", 100)),
        Panel("mean latency, ms", pair("latency_ms")),
        Panel("95th percentile of latency, ms", pair("latency_ms_p95")),
        Panel("quality", quality),
        Panel("evidence of harm, log10 of the e-value; the dashed line rolls back", evidence, bound),
    ]
    return [panel for panel in found if any(value is not None for _, values in panel.series for value in values)]


def _logs(values: Values) -> Values:
    return tuple(None if value is None else math.log10(max(value, 1e-3)) for value in values)


def usable(ticks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The looks that have figures, at most `MOST_POINTS` of them evenly spread, the last included."""
    found = [tick for tick in ticks if tick["figures"]]
    step = max(1, math.ceil(len(found) / MOST_POINTS))
    return found[::-1][::step][::-1]


def svg(title: str, ticks: Sequence[dict[str, Any]]) -> str:
    """The picture as an SVG document; without looks it says so."""
    shown = usable(ticks)
    minutes = minutes_of(shown)
    drawn = panels(shown)
    height = TOP + len(drawn) * (PANEL + GAP) + 20
    heading = one_line(title) if drawn else f"{one_line(title)}: nothing seen yet"
    parts = [f'<text x="{LEFT}" y="22" class="title">{escape(heading)}</text>']
    for number, panel in enumerate(drawn):
        parts.append(_panel_svg(panel, minutes, TOP + number * (PANEL + GAP)))
    if drawn:
        parts.append(
            f'<text x="{WIDTH - RIGHT}" y="{height - 8}" class="end">{minutes[-1]:.0f} min since the first look</text>'
        )
    style = (
        "text{font:12px system-ui,sans-serif;fill:#222}.title{font-size:15px;font-weight:600}.end{text-anchor:end}"
        ".frame{stroke:#bbb;fill:none}.limit{stroke:#222;stroke-dasharray:5 4}.line{fill:none;stroke-width:1.8}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">'
        f"<title>{escape(heading)}</title><style>{style}</style>"
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def minutes_of(ticks: Sequence[dict[str, Any]]) -> list[float]:
    """When each look was, in minutes since the first."""
    moments = [datetime.fromisoformat(tick["at"]) for tick in ticks]
    return [(moment - moments[0]).total_seconds() / 60 for moment in moments]


def _panel_svg(panel: Panel, minutes: Sequence[float], top: float) -> str:
    low, high = panel.range
    span, width = max(minutes) or 1.0, WIDTH - LEFT - RIGHT

    def y(value: float) -> float:
        return top + PANEL - (value - low) / (high - low) * PANEL

    parts = [
        f'<text x="{LEFT}" y="{top - 6}">{escape(panel.title)}</text>',
        f'<rect x="{LEFT}" y="{top}" width="{width}" height="{PANEL}" class="frame"/>',
        f'<text x="{LEFT - 6}" y="{top + 10}" class="end">{high:.4g}</text>',
        f'<text x="{LEFT - 6}" y="{top + PANEL}" class="end">{low:.4g}</text>',
    ]
    if panel.limit is not None:
        parts.append(f'<path d="M{LEFT} {y(panel.limit):.1f}h{width}" class="limit"/>')
    for number, (name, values) in enumerate(panel.series):
        places = [(LEFT + minute / span * width, value) for minute, value in zip(minutes, values, strict=True)]
        path = " ".join(_segments([(x, None if value is None else y(value)) for x, value in places]))
        colour = COLOURS[number]
        parts.append(f'<path d="{path}" class="line" stroke="{colour}"/>')
        label = f'x="{WIDTH - RIGHT + 10}" y="{top + 14 + 16 * number}" style="fill:{colour}"'
        parts.append(f"<text {label}>{escape(name)} {_last(values)}</text>")
    return "".join(parts)


def _segments(points: Sequence[tuple[float, float | None]]) -> list[str]:
    """Path commands; a gap where nothing is known."""
    commands, pen_down = [], False
    for x, y in points:
        if y is not None:
            commands.append(f"{'L' if pen_down else 'M'}{x:.1f} {y:.1f}")
        pen_down = y is not None
    return commands


def _last(values: Values) -> str:
    known = [value for value in values if value is not None]
    return f"{known[-1]:.4g}" if known else "-"


def lines(ticks: Sequence[dict[str, Any]]) -> list[str]:
    """The same for a terminal: a line of blocks for each series, with its last value."""
    shown = usable(ticks)
    found = []
    for panel in panels(shown):
        low, high = panel.range
        found.append(f"{panel.title} ({low:.4g} .. {high:.4g})")
        found += [f"  {name:9} {_blocks(values, low, high)} {_last(values)}" for name, values in panel.series]
    return found or ["nothing seen yet"]


def _blocks(values: Values, low: float, high: float) -> str:
    step = max(1, math.ceil(len(values) / TERMINAL_COLUMNS))
    chosen = values[::-1][::step][::-1]
    return "".join(
        " " if value is None else _BLOCKS[round((value - low) / (high - low) * (len(_BLOCKS) - 1))] for value in chosen
    )
