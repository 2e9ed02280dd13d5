"""Small charts as inline SVG; colours come from the page's CSS variables, so that they follow light and dark."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from html import escape
from typing import TYPE_CHECKING

from flywheel.base.text import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

# Narrow enough to be read on a phone without scrolling.
WIDTH, ROW, LEFT, RIGHT, TOP = 360, 44, 16, 16, 26
LINE_HEIGHT, LINE_WIDTH, MARGIN = 150, 360, 36
SMALL_WIDTH, SMALL_HEIGHT = 340, 120
SHORT = timedelta(days=4)
SMALL_LEFT, SMALL_RIGHT, SMALL_TOP, SMALL_BOTTOM = 52, 12, 12, 26


@dataclass(frozen=True)
class Interval:
    """A row of an interval chart: improvement in percent with its 95 % interval."""

    name: str
    low: float
    middle: float
    high: float
    kind: str


def interval_chart(rows: Sequence[Interval], threshold: float) -> str:
    """Improvements with their intervals on one scale, with lines at 0 and at the threshold; an SVG element."""
    low = min([0.0, *(row.low for row in rows)])
    high = max([threshold, *(row.high for row in rows)])
    pad = (high - low) * 0.06 or 1.0
    low, high = low - pad, high + pad

    def x(value: float) -> float:
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    height = TOP + ROW * len(rows) + 24
    parts = [_rule(x(0), height, "0 %", "axis"), _rule(x(threshold), height, f"{threshold:g} %", "goal")]
    for number, row in enumerate(rows):
        y = TOP + ROW * number + ROW * 0.7
        parts.append(
            f'<text x="{LEFT}" y="{y - 13:.1f}" class="name">{escape(one_line(row.name))}</text>'
            f'<line x1="{x(row.low):.1f}" x2="{x(row.high):.1f}" y1="{y}" y2="{y}" class="whisker {row.kind}"/>'
            f'<circle cx="{x(row.middle):.1f}" cy="{y}" r="5" class="dot {row.kind}"/>'
        )
    label = "Improvement over the baseline in percent, with 95 % intervals"
    return _svg(WIDTH, height, label, "".join(parts))


def _rule(x: float, height: float, text: str, kind: str) -> str:
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 8}" y2="{height - 20}" class="{kind}"/>'
        f'<text x="{x:.1f}" y="{height - 6 if kind == "axis" else TOP - 12}" class="tick">{text}</text>'
    )


def trial_chart(scores: Sequence[float], best: Sequence[float]) -> str:
    """Each trial's score (dots) and the best full score so far (line), 0-100; an SVG element."""
    step = (LINE_WIDTH - 2 * MARGIN) / max(1, len(scores) - 1)

    def at(index: int, value: float) -> str:
        return f"{MARGIN + step * index:.1f},{LINE_HEIGHT - 24 - value / 100 * (LINE_HEIGHT - 40):.1f}"

    grid = "".join(
        f'<line x1="{MARGIN}" x2="{LINE_WIDTH - MARGIN}" y1="{at(0, v).split(",")[1]}" y2="{at(0, v).split(",")[1]}" '
        f'class="grid"/><text x="{MARGIN - 8}" y="{float(at(0, v).split(",")[1]) + 4:.1f}" class="value">{v}</text>'
        for v in (0, 50, 100)
    )
    points = [at(index, score).split(",") for index, score in enumerate(scores)]
    dots = "".join(f'<circle cx="{x}" cy="{y}" r="4" class="dot trial"/>' for x, y in points)
    line = f'<polyline points="{" ".join(at(i, b) for i, b in enumerate(best))}" class="best"/>'
    caption = f'<text x="{LINE_WIDTH / 2}" y="{LINE_HEIGHT - 4}" class="tick">trial 1 to {len(scores)}</text>'
    return _svg(LINE_WIDTH, LINE_HEIGHT, "Score by trial on the validation split", grid + line + dots + caption)


@dataclass(frozen=True)
class Axes:
    """Where values and moments stand in a small chart, which is read on a phone as it is."""

    start: datetime
    end: datetime
    low: float
    high: float

    def x(self, moment: datetime) -> float:
        """The place of a moment; the middle where all are one."""
        span = (self.end - self.start).total_seconds()
        share = (moment - self.start).total_seconds() / span if span else 0.5
        return SMALL_LEFT + share * (SMALL_WIDTH - SMALL_LEFT - SMALL_RIGHT)

    def y(self, value: float) -> float:
        """The place of a value; the middle where all are one."""
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return SMALL_HEIGHT - SMALL_BOTTOM - share * (SMALL_HEIGHT - SMALL_BOTTOM - SMALL_TOP)

    def frame(self, unit: str) -> str:
        """Grid lines at the lowest and highest value, and the first and last day."""
        parts = []
        for value in sorted({self.low, self.high}):
            y = self.y(value)
            parts.append(
                f'<line x1="{SMALL_LEFT}" x2="{SMALL_WIDTH - SMALL_RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
                f'<text x="{SMALL_LEFT - 6}" y="{y + 4:.1f}" class="value">{value:.4g}{unit}</text>'
            )
        bottom = SMALL_HEIGHT - 6
        form = "%m-%d %H:%M" if self.end - self.start < SHORT else "%Y-%m-%d"
        first, last = self.start.strftime(form), self.end.strftime(form)
        parts.append(f'<text x="{SMALL_LEFT}" y="{bottom}" class="start">{first}</text>')
        if last != first:
            parts.append(f'<text x="{SMALL_WIDTH - SMALL_RIGHT}" y="{bottom}" class="value">{last}</text>')
        return "".join(parts)


def trend_chart(points: Sequence[tuple[datetime, float]], label: str, unit: str = "", *, zero: bool = False) -> str:
    """How a figure went over time, oldest first, the newest marked; with `zero`, 0 is on the chart. Empty for none."""
    if not points:
        return ""
    values = [value for _, value in points] + ([0.0] if zero else [])
    axes = Axes(points[0][0], points[-1][0], min(values), max(values))
    places = [(axes.x(at), axes.y(value)) for at, value in points]
    body = axes.frame(unit)
    if axes.low < 0 < axes.high:
        y = axes.y(0)
        body += f'<line x1="{SMALL_LEFT}" x2="{SMALL_WIDTH - SMALL_RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="axis"/>'
    body += f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in places)}" class="best"/>'
    body += "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" class="dot trial"/>' for x, y in places[:-1])
    body += f'<circle cx="{places[-1][0]:.1f}" cy="{places[-1][1]:.1f}" r="5" class="dot trial"/>'
    told = f"{label}: {points[0][1]:g}{unit} to {points[-1][1]:g}{unit} in {len(points)} steps"
    return _svg(SMALL_WIDTH, SMALL_HEIGHT, told, body)


def step_chart(steps: Sequence[tuple[datetime, float]], end: datetime, label: str) -> str:
    """A share in percent that holds from each moment to the next, as an area from 0 to 100; empty for no steps."""
    if not steps:
        return ""
    axes = Axes(steps[0][0], max(end, steps[-1][0]), 0, 100)
    path = [f"M{axes.x(steps[0][0]):.1f} {axes.y(0):.1f}"]
    for at, share in steps:
        path.append(f"H{axes.x(at):.1f}V{axes.y(min(max(share, 0), 100)):.1f}")
    path.append(f"H{axes.x(axes.end):.1f}V{axes.y(0):.1f}Z")
    return _svg(SMALL_WIDTH, SMALL_HEIGHT, label, f'<path d="{"".join(path)}" class="area"/>' + axes.frame("%"))


def bar_chart(bars: Sequence[tuple[str, float]], limit: float | None, label: str, unit: str = "") -> str:
    """A bar a name from 0 up, and a dashed line at the limit; empty for no bars."""
    if not bars:
        return ""
    high = max([value for _, value in bars] + [limit or 0.0]) or 1.0
    width = (SMALL_WIDTH - SMALL_LEFT - SMALL_RIGHT) / len(bars)
    floor, ceiling = SMALL_HEIGHT - SMALL_BOTTOM, SMALL_TOP

    def y(value: float) -> float:
        return floor - value / high * (floor - ceiling)

    parts = [
        (
            f'<text x="{SMALL_LEFT - 6}" y="{y(high) + 4:.1f}" class="value">{unit}{high:.3g}</text>'
            f'<text x="{SMALL_LEFT - 6}" y="{floor + 4}" class="value">{unit}0</text>'
        )
    ]
    for number, (name, value) in enumerate(bars):
        x = SMALL_LEFT + number * width
        bar = min(width * 0.7, 36)
        parts.append(
            f'<rect x="{x + (width - bar) / 2:.1f}" y="{y(value):.1f}" width="{bar:.1f}" '
            f'height="{floor - y(value):.1f}" class="bar"/>'
        )
        if number % max(1, -(-len(bars) // 5)) == 0:
            parts.append(f'<text x="{x + width / 2:.1f}" y="{SMALL_HEIGHT - 6}" class="tick">{escape(name)}</text>')
    if limit is not None:
        line = f'x1="{SMALL_LEFT}" x2="{SMALL_WIDTH - SMALL_RIGHT}" y1="{y(limit):.1f}" y2="{y(limit):.1f}"'
        parts.append(f'<line {line} class="goal"/>')
    return _svg(SMALL_WIDTH, SMALL_HEIGHT, label, "".join(parts))


def _svg(width: float, height: float, label: str, body: str) -> str:
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">{body}</svg>'
