"""One look at a live experiment: new evidence in, the rule's decision applied, everything on the record."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from flywheel.serving import transitions
from flywheel.serving.arm_ticks import warmed
from flywheel.serving.evidence import add_tick, blind
from flywheel.serving.experiments import PAUSED, POINT_RULE, Experiment
from flywheel.serving.routing import BASELINE, CANDIDATE
from flywheel.serving.sequential import METRICS_MISSING, decide, decide_point

if TYPE_CHECKING:
    from flywheel.serving.arm_ticks import Collected, Source
    from flywheel.serving.evidence import Evidence
    from flywheel.serving.sequential import Decision
    from flywheel.serving.stage_clock import Moment

CLOCK_WENT_BACK = "clock_went_back"
MULTIPLE_EXPOSURES = "multiple_exposures"
INCONCLUSIVE = "inconclusive"
# A unit id that two people share is nothing; a hundredth of all units meeting both variants is broken routing.
MOST_EXPOSED = 0.01


@dataclass(frozen=True, slots=True)
class Look:
    """The experiment after a look, and the line that the tick log keeps of it."""

    experiment: Experiment
    line: dict[str, Any]


def tick(experiment: Experiment, source: Source, now: Moment) -> Look:
    """Take in what is new of a running or paused experiment, decide, and apply the decision.

    A paused experiment is still guarded: it is rolled back on harm, but neither promoted nor timed out. A look at which
    a clock shows less than at the last one reads nothing and decides nothing.
    """
    if experiment.clock.went_backwards(now):
        return _held(experiment, now)
    running = experiment.status != PAUSED
    clock = experiment.clock.advanced(now, experiment.config.tick_seconds, counting=running)
    found = source.collect(experiment, now.wall_ms)
    evidence = _taken_in(experiment, found, clock.minutes)
    evidence, warmup = warmed(evidence, (*experiment.warmup_ms, *found.warmup_ms))
    latencies = experiment.latencies.plus(experiment.stage, found.latencies)
    exposed = source.exposures(experiment.id)
    rule = decide_point if experiment.rule == POINT_RULE else decide
    decision = _trusted(rule(experiment.config, evidence), *exposed)
    if not running and (decision.action != "rollback" or decision.reason == METRICS_MISSING):
        decision = replace(decision, action="hold", text=f"paused; {decision.text}", next_percent=None)
    percentiles = latencies.figures((CANDIDATE, BASELINE))
    line = {**_line(decision, now, percentiles, exposed), **source.account()}
    seen = replace(
        experiment,
        clock=clock,
        evidence=evidence,
        warmup_ms=warmup,
        latencies=latencies,
        checkpoint=source.checkpoint(),
        decision=line,
    )
    return Look(_applied(seen, decision, now), line)


def _taken_in(experiment: Experiment, found: Collected, minutes: float) -> Evidence:
    if found.problem is not None:
        return blind(experiment.evidence, found.problem, minutes, bad=not found.missed)
    return add_tick(experiment.config, experiment.evidence, found.candidate, found.baseline, minutes)


def _held(experiment: Experiment, now: Moment) -> Look:
    """Nothing counted, and all times moved to what the clock says now: records must not be late by its error."""
    clock = experiment.clock.advanced(now, experiment.config.tick_seconds, counting=False)
    moved = replace(
        experiment,
        clock=clock,
        started_ms=min(experiment.started_ms, now.wall_ms),
        stage_ms=min(experiment.stage_ms, now.wall_ms),
    )
    figures = {} if experiment.decision is None else experiment.decision["figures"]
    text = "a clock shows less than at the last look; nothing was read"
    line = {"at": now.iso, "action": "hold", "reasons": [CLOCK_WENT_BACK], "text": text, "figures": figures}
    return Look(replace(moved, decision=line), line)


def _trusted(decision: Decision, crossed: int, watched: int) -> Decision:
    """The decision, unless it would promote while units meet both variants."""
    if decision.action != "promote" or crossed <= MOST_EXPOSED * watched:
        return decision
    now = decision.figures
    action = "hold" if now.elapsed_minutes < now.deadline_minutes else INCONCLUSIVE
    text = f"{crossed} of {watched} units met both variants at one share"
    return replace(decision, action=action, reasons=(MULTIPLE_EXPOSURES,), text=text, next_percent=None)  # type: ignore[arg-type]


def _line(
    decision: Decision, now: Moment, percentiles: dict[str, float | None], exposed: tuple[int, int]
) -> dict[str, Any]:
    return {
        "at": now.iso,
        "action": decision.action,
        "reasons": list(decision.reasons),
        "text": decision.text,
        "next_percent": decision.next_percent,
        "notes": list(decision.notes),
        "figures": {**asdict(decision.figures), **percentiles},
        "units_exposed_twice": exposed[0],
        "units_watched": exposed[1],
    }


def _applied(experiment: Experiment, decision: Decision, now: Moment) -> Experiment:
    if decision.action == "rollback":
        return transitions.rolled_back(experiment, decision.reason, transitions.RULE, now)
    if decision.action == INCONCLUSIVE:
        return transitions.paused(experiment, f"{INCONCLUSIVE}: {decision.text}", transitions.RULE, now)
    if decision.action == "promote":
        if decision.next_percent is None or decision.next_percent >= 100:
            return transitions.completed(experiment, decision.text, transitions.RULE, now)
        return transitions.promoted(experiment, decision.next_percent, decision.text, transitions.RULE, now)
    return experiment
