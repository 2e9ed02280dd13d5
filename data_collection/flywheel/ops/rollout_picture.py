"""A rollout over time as a file: SVG drawn by hand, PNG by matplotlib, which the extra `plots` brings."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.base.errors import BadInputError
from flywheel.base.files import write_atomic
from flywheel.base.text import one_line
from flywheel.ops.rollout_chart import lines, marks, minutes_of, panels, svg, usable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from flywheel.ops.rollout_chart import Panel

INCHES_WIDE, INCHES_A_PANEL, DOTS_AN_INCH = 9.6, 1.7, 120


def picture(title: str, ticks: Sequence[dict[str, Any]], output: str | None) -> str:
    """The looks for a terminal; also drawn into `output`, as PNG where its name ends in .png, else as SVG.

    Raises:
        BadInputError: the file cannot be written, or PNG is wanted and matplotlib missing.
    """
    if output is not None:
        try:
            write_atomic(Path(output), png(title, ticks) if output.lower().endswith(".png") else svg(title, ticks))
        except OSError as error:
            msg = f"{output}: cannot be written: {error.strerror}"
            raise BadInputError(msg) from error
    return "\n".join(lines(ticks))


def png(title: str, ticks: Sequence[dict[str, Any]]) -> bytes:
    """The picture as a PNG; without looks it says so.

    Raises:
        BadInputError: matplotlib is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        msg = "PNG needs matplotlib: `uv sync --extra plots` brings it; a file name ending in .svg needs nothing"
        raise BadInputError(msg) from error
    shown = usable(ticks)
    drawn = panels(shown)
    figure = Figure(figsize=(INCHES_WIDE, 0.8 + INCHES_A_PANEL * max(1, len(drawn))), dpi=DOTS_AN_INCH)
    FigureCanvasAgg(figure)
    heading = one_line(title) if drawn else f"{one_line(title)}: nothing seen yet"
    # An id or a signature is no mathematics.
    figure.suptitle(heading, fontsize=11, parse_math=False)
    if drawn:
        minutes = minutes_of(shown)
        axes = figure.subplots(len(drawn), 1, sharex=True, squeeze=False)[:, 0]
        for panel, axis in zip(drawn, axes, strict=True):
            _draw(axis, panel, minutes)
            for place, action in marks(shown):
                axis.axvline(
                    minutes[place], color="#cc0000" if action == "rollback" else "#999999", linestyle=":", linewidth=1
                )
        axes[-1].set_xlabel("minutes since the first look", fontsize=8)
        height = figure.get_figheight()
        figure.subplots_adjust(left=0.08, right=0.82, top=1 - 0.6 / height, bottom=0.5 / height, hspace=0.42)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def _draw(axis: Axes, panel: Panel, minutes: Sequence[float]) -> None:
    low, high = panel.range
    axis.set_title(panel.title, fontsize=8, loc="left", parse_math=False)
    axis.set_ylim(low, high + 0.05 * (high - low))
    axis.tick_params(labelsize=7)
    if panel.limit is not None:
        axis.axhline(panel.limit, color="#222222", linewidth=1, linestyle="--")
    for number, (name, values) in enumerate(panel.series):
        shown = [float("nan") if value is None else value for value in values]
        style = "steps-post" if panel.steps else "default"
        axis.plot(minutes, shown, color=panel.colour(number), linewidth=1.4, label=name, drawstyle=style)
    axis.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
