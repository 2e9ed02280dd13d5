"""One look at a live experiment: new evidence in, the rule's decision applied, everything on the record."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from flywheel.serving.arm_ticks import warmed
from flywheel.serving.arms import ArmTick
from flywheel.serving.bucketing import PER_PERCENT
from flywheel.serving.contest import INCONCLUSIVE, settled
from flywheel.serving.evidence import add_tick, blind
from flywheel.serving.experiments import PAUSED, POINT_RULE, Experiment
from flywheel.serving.exposure import MOST_EXPOSED
from flywheel.serving.gaps import METRICS_MISSING
from flywheel.serving.routing import BASELINE, CANDIDATE
from flywheel.serving.sequential import decide, decide_point

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flywheel.serving.arm_ticks import Collected, Source
    from flywheel.serving.candidates import Candidate
    from flywheel.serving.evidence import Evidence
    from flywheel.serving.sequential import Decision
    from flywheel.serving.stage_clock import Moment

CLOCK_WENT_BACK = "clock_went_back"
MULTIPLE_EXPOSURES = "multiple_exposures"
_NO_CALLS = ArmTick()


@dataclass(frozen=True, slots=True)
class Look:
    """The experiment after a look, and the line that the tick log keeps of it."""

    experiment: Experiment
    line: dict[str, Any]


def tick(experiment: Experiment, source: Source, now: Moment) -> Look:
    """Take in what is new of a running or paused experiment, decide on each candidate, and apply the decisions.

    A paused experiment is still guarded: it is rolled back on harm, but neither promoted nor timed out; so is one at
    its holdback. A look at which a clock shows less than at the last one reads nothing and decides nothing.
    """
    if experiment.clock.went_backwards(now):
        return _held(experiment, now)
    clock = experiment.clock.advanced(now, experiment.config.tick_seconds, counting=experiment.status != PAUSED)
    found = source.collect(experiment, now.wall_ms)
    waiting, warmup = (*experiment.warmup_ms, *found.warmup_ms), experiment.warmup_ms
    candidates = []
    for item in experiment.candidates:
        evidence, warmup = warmed(_taken_in(experiment, item, found, clock.minutes), waiting)
        candidates.append(replace(item, evidence=evidence))
    seen = replace(
        experiment,
        clock=clock,
        candidates=tuple(candidates),
        warmup_ms=warmup,
        latencies=experiment.latencies.plus(experiment.stage, found.latencies),
        checkpoint=source.checkpoint(),
    )
    exposed = source.exposures(experiment.id)
    decisions = {item.variant: _decided(seen, item, exposed) for item in seen.candidates}
    line = {**_line(seen, decisions, now, exposed), **source.account()}
    return Look(settled(replace(seen, decision=line), decisions, now), line)


def _taken_in(experiment: Experiment, candidate: Candidate, found: Collected, minutes: float) -> Evidence:
    if found.problem is not None:
        return blind(candidate.evidence, found.problem, minutes, bad=not found.missed)
    own = found.candidates.get(candidate.variant, _NO_CALLS)
    return add_tick(experiment.config_of(candidate), candidate.evidence, own, found.baseline, minutes)


def _decided(experiment: Experiment, candidate: Candidate, exposed: tuple[int, int]) -> Decision:
    """The rule's decision on one candidate, as far as the experiment's state lets it be one."""
    rule = decide_point if experiment.rule == POINT_RULE else decide
    found = _trusted(rule(experiment.config_of(candidate), candidate.evidence), *exposed)
    if found.action == "hold" or (found.action == "rollback" and found.reason != METRICS_MISSING):
        return found
    if experiment.status == PAUSED:
        return replace(found, action="hold", text=f"paused; {found.text}", next_percent=None)
    if experiment.at_holdback:
        return replace(found, action="hold", text=f"holdback until `promote`; {found.text}", next_percent=None)
    return found


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
    experiment: Experiment, decisions: Mapping[str, Decision], now: Moment, exposed: tuple[int, int]
) -> dict[str, Any]:
    """The first candidate's figures, and of several each one's decision and figures under `arms`."""
    first = next(iter(decisions.values()))
    joint = first if len(decisions) == 1 else _joint(decisions)
    line = {
        "at": now.iso,
        "action": joint.action,
        "reasons": list(joint.reasons),
        "text": joint.text,
        "next_percent": joint.next_percent,
        "notes": list(joint.notes),
        "variant": experiment.candidates[0].variant,
        "figures": _figures(experiment, experiment.candidates[0].variant, first),
        "units_exposed_twice": exposed[0],
        "units_watched": exposed[1],
    }
    if len(decisions) > 1:
        shares = {item.variant: item.width / PER_PERCENT for item in experiment.candidates}
        line["arms"] = {
            name: {
                "action": item.action,
                "reasons": list(item.reasons),
                "text": item.text,
                "traffic_percent": shares[name],
                "figures": _figures(experiment, name, item),
            }
            for name, item in decisions.items()
        }
    return line


def _figures(experiment: Experiment, variant: str, decision: Decision) -> dict[str, Any]:
    """A candidate's figures and its latencies' percentiles, all under `candidate` whatever its variant's name."""
    arms = experiment.latencies.arms
    own = {name: arms[found] for name, found in ((CANDIDATE, variant), (BASELINE, BASELINE)) if found in arms}
    latencies = replace(experiment.latencies, arms=own)
    return {**asdict(decision.figures), **latencies.figures((CANDIDATE, BASELINE))}


def _joint(decisions: Mapping[str, Decision]) -> Decision:
    """What the look comes to for several candidates: the decision that all of them wait for, and everybody's words."""
    order = ("rollback", "hold", INCONCLUSIVE, "promote")
    foremost = min(decisions.values(), key=lambda found: order.index(found.action))
    text = "; ".join(f"{name}: {found.action}: {found.text}" for name, found in decisions.items())
    return replace(foremost, text=text)
