"""An experiment as the page shows it: its staircase of shares, what each variant did, and the evidence of harm."""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING, Any

from flywheel.ops.charts import step_chart
from flywheel.ops.fields import Fields
from flywheel.ops.rollout_checks import LIVE, SHARE, automatic_reason, changed_at
from flywheel.ops.variant_checks import candidates, figure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flywheel.ops.observed import ExperimentFacts

    Form = Callable[[float], str]

NONE = "–"  # noqa: RUF001 - a dash as wide as a figure
E_VALUES = (
    ("e_errors", "errors"),
    ("e_emergency", "emergency"),
    ("e_latency", "latency"),
    ("e_quality", "quality below its limit"),
    ("e_quality_delta", "quality below the baseline's"),
)
PERCENTILES = (50, 95, 99)


def experiment_row(experiment: ExperimentFacts, now: datetime) -> dict[str, Any]:
    """What the template shows of an experiment."""
    live = experiment.status in LIVE
    reason = experiment.rollback_reason
    return {
        "facts": experiment,
        "live": live,
        "reason": reason and (automatic_reason(reason) or reason),
        "told": share_told(experiment),
        "ended": None if live else changed_at(experiment),
        "timeline": list(timeline(experiment)),
        "staircase": staircase(experiment, now),
        "candidates": [
            {
                "name": name,
                "variants": list(variants(found)),
                "evidence": list(evidence(found)),
                "bound": figure(found, "e_bound"),
            }
            for name, found in candidates(experiment)
        ],
    }


def _told(value: float | None, form: Form) -> str:
    return NONE if value is None else form(value)


def _signed(value: float, form: Form) -> str:
    return ("+" if value >= 0 else "-") + form(abs(value))


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %"


def _points(value: float) -> str:
    return f"{100 * value:.2f} pp"


def _ms(value: float) -> str:
    return f"{value:,.0f} ms"


def _score(value: float) -> str:
    return f"{value:.3f}"


def timeline(experiment: ExperimentFacts) -> Iterator[tuple[str, ...]]:
    """What happened: (when, what, share in percent, why)."""
    for line in experiment.history:
        yield tuple(str(line.get(key, "")) for key in ("at", "event", SHARE, "reason"))


def share_told(experiment: ExperimentFacts) -> str:
    """The candidate's share now, or the largest one that an ended experiment reached."""
    if experiment.status not in LIVE:
        return f"reached {max([0.0, *(share for _, share in _steps(experiment))]):g} %"
    return f"{experiment.share:g} % on the candidate{'s' if len(experiment.arms) > 1 else ''}"


def _steps(experiment: ExperimentFacts) -> list[tuple[datetime, float]]:
    """When which share began, oldest first; lines of the history that say no moment or share are left out."""
    steps = []
    for line in experiment.history:
        share = line.get(SHARE)
        if isinstance(share, int | float) and not isinstance(share, bool) and _has_moment(line):
            steps.append((Fields(line, experiment.experiment_id).moment("at"), min(max(float(share), 0.0), 100.0)))
    return sorted(steps)


def staircase(experiment: ExperimentFacts, now: datetime) -> str:
    """The candidate's share over time as a chart."""
    steps = _steps(experiment)
    end = now if experiment.status in LIVE else steps[-1][0] if steps else now
    return step_chart(steps, end, "The candidate's share of the traffic over time")


def _has_moment(line: dict[str, Any]) -> bool:
    try:
        return datetime.fromisoformat(line["at"]).year in range(1971, 3000)
    except (KeyError, TypeError, ValueError):
        return False


def variants(experiment: ExperimentFacts) -> Iterator[tuple[str, ...]]:
    """The figures of the present stage: (what, baseline, candidate, difference and its bound)."""

    def row(name: str, key: str, form: Form, delta: str = "", change: Form = _ms) -> tuple[str, ...]:
        told = [_told(figure(experiment, key.format(arm)), form) for arm in ("baseline", "candidate")]
        difference, limit = figure(experiment, delta), figure(experiment, f"{delta}_upper")
        end = "" if difference is None else _signed(difference, change)
        return name, *told, end + ("" if limit is None else f" (below {_signed(limit, change)})")

    rows = [
        row("calls", "{}_calls", _count),
        row("errors", "error_rate_{}", _percent, "error_rate_delta", _points),
        row("latency", "latency_ms_{}", _ms, "latency_delta_ms"),
        *(row(f"p{q}", f"latency_ms_p{q}_{{}}", _ms) for q in PERCENTILES),
    ]
    quality = [figure(experiment, key) for key in ("quality_score_baseline", "quality_score")]
    low = figure(experiment, "quality_score_lower")
    rows.append(("quality", *(_told(q, _score) for q in quality), "" if low is None else f"above {_score(low)}"))
    return (cells for cells in rows if cells[1:3] != (NONE, NONE))


def evidence(experiment: ExperimentFacts) -> Iterator[tuple[str, str, int]]:
    """Each e-value, and how far on its logarithm's way to the bound it is (0-100), where a rollback may follow."""
    bound = figure(experiment, "e_bound")
    for key, name in E_VALUES:
        value = figure(experiment, key)
        if value is None or bound is None or bound <= 1:
            continue
        way = math.log(value) / math.log(bound) if value > 1 else 0.0
        yield name, f"{value:.3g}", round(100 * min(way, 1.0))
