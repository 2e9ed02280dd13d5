"""The report's charts of one signature: both programs' scores, score against cost, spend by stage."""

from __future__ import annotations

import math
from html import escape
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from flywheel.base.text import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flywheel.base.evaluations import Evaluation, Retested, Usage
    from flywheel.ops.runs import StageSpend

WIDTH, EDGE = 360, 16
SCORE_ROW, SCORE_TOP = 44, 10
COST_HEIGHT, COST_LEFT, COST_BOTTOM = 190, 44, 40
BAR_ROW = 40
# An e-value may be 0 as far as a float can tell.
EVIDENCE_HEIGHT, LEAST_EVIDENCE = 150, 1e-3
Z95 = 1.96
PER = 1000


def scores_chart(evaluation: Evaluation) -> str:
    """Mean test score of both programs with each mean's own 95 % interval (normal, clipped to 0-1); an SVG or ''."""
    pairs = [(t.baseline, t.optimized) for t in evaluation.test if t.baseline is not None and t.optimized is not None]
    if not pairs:
        return ""
    sides = zip(("baseline", "optimized"), zip(*pairs, strict=True), strict=True)
    body = [_score_scale(2)]
    for number, (name, scores) in enumerate(sides):
        mean = fmean(scores)
        half = Z95 * stdev(scores) / math.sqrt(len(scores)) if len(scores) > 1 else 0.0
        y = SCORE_TOP + SCORE_ROW * number + SCORE_ROW * 0.7
        low, high = _across(max(0.0, mean - half)), _across(min(1.0, mean + half))
        body.append(
            f'<text x="{EDGE}" y="{y - 13:.1f}" class="name">{name} {mean:.3f}</text>'
            f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y:.1f}" y2="{y:.1f}" class="whisker {name}"/>'
            f'<circle cx="{_across(mean):.1f}" cy="{y:.1f}" r="5" class="dot {name}"/>'
        )
    return _svg(SCORE_TOP + SCORE_ROW * 2 + 26, "Mean test score of both programs, 0 to 1", "".join(body))


def _across(score: float) -> float:
    return EDGE + score * (WIDTH - 2 * EDGE)


def _score_scale(rows: int) -> str:
    bottom = SCORE_TOP + SCORE_ROW * rows + 6
    return "".join(
        f'<line x1="{_across(v):.1f}" x2="{_across(v):.1f}" y1="{SCORE_TOP}" y2="{bottom}" class="grid"/>'
        f'<text x="{_across(v):.1f}" y="{bottom + 15}" class="tick">{v:g}</text>'
        for v in (0, 0.5, 1)
    )


def cost_chart(before: Usage, after: Usage, scores: tuple[float, float], floor_score: float | None) -> str:
    """Score (0-1) against what an example takes: USD for 1,000 where the price is known, else tokens; an SVG.

    The floor's score is a dashed line.
    """
    prices = before.cost_usd, after.cost_usd
    if prices[0] is not None and prices[1] is not None and max(prices[0], prices[1]) > 0:
        taken, unit = [prices[0] * PER, prices[1] * PER], f"USD for {PER:,} examples"
    else:
        taken, unit = [usage.input_tokens + usage.output_tokens for usage in (before, after)], "tokens an example"
    most = max(taken) * 1.25 or 1.0
    floor = COST_HEIGHT - COST_BOTTOM

    def at(cost: float, score: float) -> tuple[float, float]:
        return COST_LEFT + cost / most * (WIDTH - COST_LEFT - EDGE), floor - score * (floor - EDGE)

    grid = "".join(
        f'<line x1="{COST_LEFT}" x2="{WIDTH - EDGE}" y1="{at(0, v)[1]:.1f}" y2="{at(0, v)[1]:.1f}" class="grid"/>'
        f'<text x="{COST_LEFT - 6}" y="{at(0, v)[1] + 4:.1f}" class="value">{v:g}</text>'
        for v in (0, 0.5, 1)
    )
    (x1, y1), (x2, y2) = (at(cost, score) for cost, score in zip(taken, scores, strict=True))
    dots = f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="grid"/>'
    if floor_score is not None:
        y = at(0, floor_score)[1]
        dots += f'<line x1="{COST_LEFT}" x2="{WIDTH - EDGE}" y1="{y:.1f}" y2="{y:.1f}" class="goal"/>'
    for name, x, y in (("baseline", x1, y1), ("optimized", x2, y2)):
        dots += f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" class="dot {name}"/>'
    ticks = "".join(
        f'<text x="{at(value, 0)[0]:.1f}" y="{floor + 16}" class="tick">{_figure(value)}</text>'
        for value in (0, most / 2)
    )
    ticks += f'<text x="{WIDTH - EDGE}" y="{floor + 16}" class="value">{_figure(most)}</text>'
    caption = f'<text x="{(WIDTH + COST_LEFT) / 2:.0f}" y="{COST_HEIGHT - 6}" class="tick">{unit}</text>'
    return _svg(COST_HEIGHT, f"Test score against {unit}", grid + dots + ticks + caption)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def evidence_chart(tests: Sequence[Retested], enough: float) -> str:
    """The e-value after each month's test on a logarithmic scale, and a dashed line at what is enough; an SVG or ''."""
    if not tests:
        return ""
    values = [max(test.e_value, LEAST_EVIDENCE) for test in tests]
    low, high = min(0.1, *values), max(enough * 2, *values)
    floor, left = EVIDENCE_HEIGHT - 26, COST_LEFT

    def y(value: float) -> float:
        share = (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))
        return floor - share * (floor - EDGE)

    def x(number: int) -> float:
        return left + (number + 0.5) * (WIDTH - left - EDGE) / len(values)

    body = "".join(
        f'<line x1="{left}" x2="{WIDTH - EDGE}" y1="{y(mark):.1f}" y2="{y(mark):.1f}" class="{kind}"/>'
        f'<text x="{left - 6}" y="{y(mark) + 4:.1f}" class="value">{mark:g}</text>'
        for mark, kind in ((1, "grid"), (enough, "goal"))
    )
    line = " ".join(f"{x(n):.1f},{y(value):.1f}" for n, value in enumerate(values))
    body += f'<polyline points="{line}" class="best"/>'
    for number, (test, value) in enumerate(zip(tests, values, strict=True)):
        body += (
            f'<circle cx="{x(number):.1f}" cy="{y(value):.1f}" r="4" class="dot trial"/>'
            f'<text x="{x(number):.1f}" y="{EVIDENCE_HEIGHT - 6}" class="tick">{_day(test)}</text>'
        )
    return _svg(EVIDENCE_HEIGHT, f"Evidence after each of {len(values)} tests", body)


def _day(test: Retested) -> str:
    """`2025-11-04`, from `run_20251104_120000`; any other name as it is, for HTML."""
    digits = test.run_id.removeprefix("run_")[:8]
    day = f"{digits[:4]}-{digits[4:6]}-{digits[6:]}" if len(digits) == 8 and digits.isdecimal() else test.run_id
    return escape(one_line(day, 16))


def spend_chart(stages: Mapping[str, StageSpend]) -> str:
    """Calls of each stage that reached the model, as bars with their cost; an SVG or ''."""
    rows = [(name, stage) for name, stage in stages.items() if stage.calls or stage.cached_calls]
    if not rows:
        return ""
    most = max(stage.calls for _, stage in rows) or 1
    body = []
    for number, (name, stage) in enumerate(rows):
        y = BAR_ROW * number + 18
        cost = "price unknown" if stage.cost_usd is None else f"${stage.cost_usd:.2f}"
        cached = f" + {stage.cached_calls} cached" if stage.cached_calls else ""
        width = stage.calls / most * (WIDTH - 2 * EDGE)
        body.append(
            f'<text x="{EDGE}" y="{y}" class="name">{escape(one_line(name, 22))}</text>'
            f'<text x="{WIDTH - EDGE}" y="{y}" class="value">{stage.calls} calls{cached}, {cost}</text>'
            f'<rect x="{EDGE}" y="{y + 6}" width="{max(width, 1):.1f}" height="8" rx="2" class="bar"/>'
        )
    return _svg(BAR_ROW * len(rows) + 8, "Model calls by stage", "".join(body))


def _svg(height: float, label: str, body: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(label)}">{body}</svg>'
