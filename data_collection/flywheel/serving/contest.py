"""What can happen among several candidates: one withdrawn, one joining, one chosen; and the look's joint decision."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from flywheel.base.errors import BadInputError
from flywheel.serving import transitions
from flywheel.serving.candidates import Candidate, chances, check_number, variant_name
from flywheel.serving.evidence import Evidence
from flywheel.serving.shares import split, with_buckets, with_shares
from flywheel.serving.stage_clock import StageClock
from flywheel.serving.stages import begin_round

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flywheel.serving.experiments import Experiment
    from flywheel.serving.sequential import Decision
    from flywheel.serving.stage_clock import Moment

INCONCLUSIVE = "inconclusive"
NOT_THE_BEST = "not the best"


def withdrawn(experiment: Experiment, reasons: Mapping[str, str], by: str, now: Moment) -> Experiment:
    """The experiment without the candidates that `reasons` names; their buckets go to the baseline's module.

    They are nobody's evidence there until the shares change, so that every other candidate keeps its share against the
    baseline and with it all that was counted; only what is under way at this moment is left out.

    Raises:
        BadInputError: it is not at work, has no such candidate, or no other one.
    """
    transitions.need_at_work(experiment, "changed")
    gone = [item for item in experiment.candidates if item.variant in reasons]
    left = tuple(item for item in experiment.candidates if item.variant not in reasons)
    if len(gone) < len(reasons) or not left:
        names = ", ".join(item.variant for item in experiment.candidates)
        msg = f"{experiment.id}: cannot withdraw {', '.join(reasons)} of {names}; one must be left, else `rollback` all"
        raise BadInputError(msg)
    ended = tuple(
        {"at": now.iso, "variant": item.variant, "module": item.module, "by": by, "reason": reasons[item.variant]}
        for item in gone
    )
    buckets = sorted([*experiment.withdrawn, *(pair for item in gone for pair in item.buckets)])
    changed = replace(
        experiment, candidates=left, ended=(*experiment.ended, *ended), withdrawn=tuple(buckets), stage_ms=now.wall_ms
    )
    words = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    return with_shares(changed).noted(now.iso, "arm_withdrawn", words, by=by)


def joined(experiment: Experiment, module: str, now: Moment) -> Experiment:
    """The experiment with a further candidate; the stage begins anew, and what was seen of the others still counts.

    Those that start together share alpha; the first that joins later adds a half of it, the next a quarter: all false
    rollbacks together stay below 2 alpha.

    Raises:
        BadInputError: it is not at work, is at its holdback, or has eight candidates.
    """
    transitions.need_at_work(experiment, "joined")
    if experiment.at_holdback:
        msg = f"{experiment.id}: is at its holdback; `promote` ends it, then start another experiment"
        raise BadInputError(msg)
    try:
        check_number(len(experiment.candidates) + 1)
    except ValueError as error:
        msg = f"{experiment.id}: {error}"
        raise BadInputError(msg) from error
    earlier = sum(line["event"] == "arm_joined" for line in experiment.history)
    name = variant_name(len(experiment.candidates) + len(experiment.ended) + 1)
    first = experiment.candidates[0].evidence
    evidence = Evidence(stage=first.stage, cutoffs=first.cutoffs)
    newcomer = Candidate(name, module, experiment.config.alpha / 2 ** (earlier + 1), evidence=evidence)
    placed = with_buckets(experiment)
    placed = replace(placed, candidates=(*placed.candidates, newcomer))
    moved = split(placed, experiment.config.stages[experiment.stage - 1])
    candidates = tuple(
        item
        if item.variant == name
        else replace(item, evidence=begin_round(experiment.config_of(item), item.evidence, None))
        for item in moved.candidates
    )
    moved = replace(moved, candidates=candidates, stage_ms=now.wall_ms, clock=StageClock.begin(now))
    return with_shares(moved).noted(now.iso, "arm_joined", f"{name}: {module}", by=transitions.OPERATOR)


def chosen(experiment: Experiment, variant: str, by: str, now: Moment) -> Experiment:
    """The experiment with that candidate alone.

    Raises:
        BadInputError: it is not at work or has no such candidate.
    """
    others = {item.variant: NOT_THE_BEST for item in experiment.candidates if item.variant != variant}
    if len(others) == len(experiment.candidates):
        names = ", ".join(item.variant for item in experiment.candidates)
        msg = f"{experiment.id}: no candidate {variant!r}; there are {names}"
        raise BadInputError(msg)
    return withdrawn(experiment, others, by, now) if others else experiment


def raised(experiment: Experiment, percent: float, reason: str, now: Moment) -> Experiment:
    """The experiment promoted by the rule to `percent`; where only one can go on, it is the likeliest best."""
    if percent >= 100 or percent == experiment.config.holdback_stage:
        odds = chances(experiment.candidates, experiment.config)
        experiment = chosen(experiment, max(odds, key=lambda name: odds[name]), transitions.RULE, now)
    if percent >= 100:
        return transitions.completed(experiment, reason, transitions.RULE, now)
    return transitions.promoted(experiment, percent, reason, transitions.RULE, now)


def settled(experiment: Experiment, decisions: Mapping[str, Decision], now: Moment) -> Experiment:
    """The experiment after a look's decision on each candidate.

    Whoever is to be rolled back goes at once. The stage rises when every candidate is proved harmless; those that stay
    unproved at their deadline are withdrawn where another is proved, and where none is, all is paused.
    """
    harmed = {name: found.reason for name, found in decisions.items() if found.action == "rollback"}
    if len(harmed) == len(decisions):
        return transitions.rolled_back(experiment, next(iter(harmed.values())), transitions.RULE, now)
    if harmed:
        return withdrawn(experiment, harmed, transitions.RULE, now)
    undecided = {name: found for name, found in decisions.items() if found.action == INCONCLUSIVE}
    proved = [found for found in decisions.values() if found.action == "promote"]
    if len(undecided) + len(proved) < len(decisions):
        return experiment
    if undecided and proved:
        reasons = {name: f"{INCONCLUSIVE}: {found.text}" for name, found in undecided.items()}
        return withdrawn(experiment, reasons, transitions.RULE, now)
    if undecided:
        words = "; ".join(found.text for found in undecided.values())
        return transitions.paused(experiment, f"{INCONCLUSIVE}: {words}", transitions.RULE, now)
    percent = proved[0].next_percent
    text = proved[0].text if len(proved) == 1 else "; ".join(f"{n}: {found.text}" for n, found in decisions.items())
    return raised(experiment, 100 if percent is None else percent, text, now)
