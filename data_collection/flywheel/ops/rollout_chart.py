"""A rollout over time as a picture: stages, error rate, latency, quality and e-values, as SVG or for a terminal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING, Any

from flywheel.base.text import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

Values = tuple[float | None, ...]
Series = tuple[tuple[str, Values], ...]
Row = dict[str, Any] | None

WIDTH, PANEL, LEFT, RIGHT, TOP, GAP = 860, 96, 64, 128, 44, 34
MOST_POINTS = 800
TERMINAL_COLUMNS = 60
_BLOCKS = "▁▂▃▄▅▆▇█"
# Told apart by colour-blind readers too (Okabe and Ito).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#a0528d", "#7a5c00", "#56b4e9", "#e69f00", "#000000", "#777777")


@dataclass(frozen=True)
class Panel:
    """Series over the same looks, `None` where nothing was known, and the line that matters, if any.

    `steps`: a value holds until the next look, so nothing is drawn in between.
    """

    title: str
    series: Series
    limit: float | None = None
    steps: bool = False

    @property
    def range(self) -> tuple[float, float]:
        """From 0 (or below) to the largest value or limit."""
        known = [value for _, values in self.series for value in values if value is not None]
        return min([0.0, *known]), max([self.limit or 0.0, *known]) or 1.0

    def colour(self, number: int) -> str:
        """Of a series; an arm's is the same in every panel, and the baseline's the first."""
        alone = self.series[0][0] != "baseline" and self.series[number][0].startswith(("candidate", "share"))
        return COLOURS[(number + alone) % len(COLOURS)]


def panels(ticks: Sequence[dict[str, Any]]) -> list[Panel]:
    """What the looks show; those that saw nothing are left out."""
    arms = _arms(ticks)
    evidence = _evidence(next(iter(arms.values()))) if len(arms) == 1 else _strongest(arms)
    bounds = [_known(row, "e_bound") for rows in arms.values() for row in rows if row is not None]
    bound = math.log10(max(value for value in bounds if value is not None)) if any(bounds) else None
    of_each = "" if len(arms) == 1 else "the strongest of each candidate, "
    found = [
        Panel("candidate's share, %", _shares(ticks, list(arms)), steps=True),
        Panel("error rate, %", _compared(arms, "error_rate_baseline", "error_rate_candidate", 100)),
        Panel("mean latency, ms", _compared(arms, "latency_ms_baseline", "latency_ms_candidate")),
        Panel("95th percentile of latency, ms", _compared(arms, "latency_ms_p95_baseline", "latency_ms_p95_candidate")),
        Panel("quality", _compared(arms, "quality_score_baseline", "quality_score")),
        Panel(f"evidence of harm, {of_each}log10 of the e-value; the dashed line rolls back", evidence, bound),
    ]
    return [panel for panel in found if any(value is not None for _, values in panel.series for value in values)]


def marks(ticks: Sequence[dict[str, Any]]) -> list[tuple[int, str]]:
    """The looks that changed something: which one, and what it did."""
    return [(place, tick["action"]) for place, tick in enumerate(ticks) if tick["action"] != "hold"]


def _arms(ticks: Sequence[dict[str, Any]]) -> dict[str, list[Row]]:
    """Each candidate's figures by look, None where it took no part; looks of older versions know only `candidate`."""
    rows: list[dict[str, Row]] = [
        {name: arm["figures"] for name, arm in tick["arms"].items()}
        if "arms" in tick
        else {tick.get("variant", "candidate"): tick["figures"]}
        for tick in ticks
    ]
    names = sorted({name for row in rows for name in row})
    return {name: [row.get(name) for row in rows] for name in names} or {"candidate": []}


def _known(row: Row, name: str) -> float | None:
    # A look of an older version may lack a figure.
    return None if row is None else row.get(name)


def _column(rows: Sequence[Row], name: str, scale: float = 1) -> Values:
    return tuple(None if (value := _known(row, name)) is None else scale * value for row in rows)


def _shares(ticks: Sequence[dict[str, Any]], names: Sequence[str]) -> Series:
    """Each candidate's share in percent; one alone has the stage's."""
    if len(names) == 1:
        return (("share", tuple(_known(tick["figures"], "percent") for tick in ticks)),)

    def share(tick: dict[str, Any], name: str) -> float | None:
        if "arms" in tick:
            return _known(tick["arms"].get(name), "traffic_percent")
        return _known(tick["figures"], "percent") if tick.get("variant") == name else None

    return tuple((name, tuple(share(tick, name) for tick in ticks)) for name in names)


def _compared(arms: dict[str, list[Row]], baseline: str, candidate: str, scale: float = 1) -> Series:
    """The baseline beside every candidate; each candidate's figures tell of the same baseline."""
    each = tuple((name, _column(rows, candidate, scale)) for name, rows in arms.items())
    alike = zip(*(_column(rows, baseline, scale) for rows in arms.values()), strict=True)
    return ("baseline", tuple(next((value for value in row if value is not None), None) for row in alike)), *each


def _evidence(rows: Sequence[Row]) -> Series:
    """What each test has against the candidate; quality's two must both be large."""
    found = [(name, _logs(_column(rows, f"e_{name}"))) for name in ("errors", "latency", "emergency")]
    if any(_known(row, "quality_scores") for row in rows):
        found.insert(2, ("quality", _logs(_quality(rows))))
    return tuple(found)


def _strongest(arms: dict[str, list[Row]]) -> Series:
    def most(row: Row) -> float | None:
        known = [_known(row, name) for name in ("e_errors", "e_latency", "e_emergency")]
        if _known(row, "quality_scores"):
            known.append(_quality([row])[0])
        return max((value for value in known if value is not None), default=None)

    return tuple((name, _logs(tuple(most(row) for row in rows))) for name, rows in arms.items())


def _quality(rows: Sequence[Row]) -> Values:
    both = zip(_column(rows, "e_quality"), _column(rows, "e_quality_delta"), strict=True)
    return tuple(one if other is None or one is None else min(one, other) for one, other in both)


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
        parts.append(_panel_svg(panel, minutes, TOP + number * (PANEL + GAP), marks(shown)))
    if drawn:
        parts.append(
            f'<text x="{WIDTH - RIGHT}" y="{height - 8}" class="end">{minutes[-1]:.0f} min since the first look</text>'
        )
    style = (
        "text{font:12px system-ui,sans-serif;fill:#222}.title{font-size:15px;font-weight:600}.end{text-anchor:end}"
        ".frame{stroke:#bbb;fill:none}.limit{stroke:#222;stroke-dasharray:5 4}.line{fill:none;stroke-width:1.8}"
        ".mark{stroke:#999;stroke-dasharray:2 3}.rollback{stroke:#c00}"
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


def _panel_svg(panel: Panel, minutes: Sequence[float], top: float, changes: Sequence[tuple[int, str]]) -> str:
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
    for place, action in changes:
        parts.append(
            f'<path d="M{LEFT + minutes[place] / span * width:.1f} {top}v{PANEL}" class="{escape(action)} mark"/>'
        )
    if panel.limit is not None:
        parts.append(f'<path d="M{LEFT} {y(panel.limit):.1f}h{width}" class="limit"/>')
    for number, (name, values) in enumerate(panel.series):
        places = [(LEFT + minute / span * width, value) for minute, value in zip(minutes, values, strict=True)]
        points = [(x, None if value is None else y(value)) for x, value in places]
        path = " ".join(_segments(points, steps=panel.steps))
        colour = panel.colour(number)
        parts.append(f'<path d="{path}" class="line" stroke="{colour}"/>')
        label = f'x="{WIDTH - RIGHT + 10}" y="{top + 14 + 16 * number}" style="fill:{colour}"'
        parts.append(f"<text {label}>{escape(name)} {_last(values)}</text>")
    return "".join(parts)


def _segments(points: Sequence[tuple[float, float | None]], *, steps: bool) -> list[str]:
    """Path commands; a gap where nothing is known."""
    commands, pen_down = [], False
    for x, y in points:
        if y is not None:
            across = f"H{x:.1f} " if pen_down and steps else ""
            commands.append(f"{across}{'L' if pen_down else 'M'}{x:.1f} {y:.1f}")
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
        width = max(9, *(len(name) for name, _ in panel.series))
        found.append(f"{panel.title} ({low:.4g} .. {high:.4g})")
        found += [f"  {name:{width}} {_blocks(values, low, high)} {_last(values)}" for name, values in panel.series]
    return found or ["nothing seen yet"]


def _blocks(values: Values, low: float, high: float) -> str:
    step = max(1, math.ceil(len(values) / TERMINAL_COLUMNS))
    chosen = values[::-1][::step][::-1]
    return "".join(
        " " if value is None else _BLOCKS[round((value - low) / (high - low) * (len(_BLOCKS) - 1))] for value in chosen
    )
