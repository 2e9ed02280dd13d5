"""Small charts as inline SVG; colours come from the page's CSS variables, so that they follow light and dark."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from flywheel.base.text import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH, ROW, LEFT, RIGHT, TOP = 640, 34, 190, 20, 26
LINE_HEIGHT, LINE_WIDTH, MARGIN = 150, 640, 36
SPARK_WIDTH, SPARK_HEIGHT = 160, 36


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
        y = TOP + ROW * number + ROW / 2
        parts.append(
            f'<text x="{LEFT - 12}" y="{y + 4:.1f}" class="name">{escape(one_line(row.name))}</text>'
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


def sparkline(values: Sequence[float], label: str) -> str:
    """A small line of how a figure went, oldest first, the newest marked; an SVG element, empty for no values."""
    if not values:
        return ""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    step = (SPARK_WIDTH - 12) / max(1, len(values) - 1)
    points = [
        (6 + step * index, SPARK_HEIGHT - 6 - (value - low) / span * (SPARK_HEIGHT - 12))
        for index, value in enumerate(values)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    x, y = points[-1]
    body = f'<polyline points="{line}" class="best"/><circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" class="dot trial"/>'
    return _svg(SPARK_WIDTH, SPARK_HEIGHT, f"{label}: {low:g} to {high:g}, now {values[-1]:g}", body)


def _svg(width: float, height: float, label: str, body: str) -> str:
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">{body}</svg>'
