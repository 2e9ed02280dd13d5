"""What can happen to an experiment: pure functions from one record to the next."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from flywheel.base.errors import BadInputError
from flywheel.serving.candidates import beginners
from flywheel.serving.experiments import (
    COMPLETED,
    FAILED,
    PAUSED,
    PENDING,
    ROLLED_BACK,
    RUNNING,
    Experiment,
    check_id,
)
from flywheel.serving.shares import split, with_shares
from flywheel.serving.stage_clock import Moment, StageClock
from flywheel.serving.stages import begin_stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flywheel.serving.rule import RolloutConfig

OPERATOR = "operator"
RULE = "rule"
OVERRIDE = "operator override"


def pending(
    experiment_id: str,
    signature: str,
    baseline: str,
    candidates: Sequence[str],
    config: RolloutConfig,
    rule: str,
    now: Moment,
) -> Experiment:
    """A new experiment at its first stage; `baseline` and `candidates` are paths of modules.

    Raises:
        BadInputError: the id is none, signature or modules cannot stand in a routing file, or too many candidates.
    """
    try:
        taking = beginners(candidates, config)
    except ValueError as error:
        raise BadInputError(str(error)) from error
    experiment = Experiment(
        id=check_id(experiment_id),
        signature=signature,
        status=PENDING,
        created_at=now.iso,
        stage=1,
        candidate_traffic_percent=config.stages[0],
        rollback_reason=None,
        rollback_at=None,
        pause_reason=None,
        config=config,
        rule=rule,
        baseline_module=baseline,
        candidates=taking,
        previous_version=None,
        # Of its own for each experiment, so that the same users are not the first to meet every candidate.
        salt=secrets.token_hex(8),
        started_ms=now.wall_ms,
        stage_ms=now.wall_ms,
        clock=StageClock.begin(now),
        warmup_ms=(),
        checkpoint=None,
        decision=None,
        history=(),
    )
    experiment = with_shares(experiment)
    try:
        experiment.route()
    except ValueError as error:
        msg = f"experiment {experiment_id!r}: {error}"
        raise BadInputError(msg) from error
    return experiment


def started(experiment: Experiment, now: Moment) -> Experiment:
    """A pending experiment whose route is in place."""
    return experiment.noted(
        now.iso,
        "started",
        "start",
        status=RUNNING,
        started_ms=now.wall_ms,
        stage_ms=now.wall_ms,
        clock=StageClock.begin(now),
    )


def failed(experiment: Experiment, reason: str, now: Moment) -> Experiment:
    """A pending experiment that does not begin."""
    return experiment.noted(now.iso, "failed", reason, by=RULE, status=FAILED, candidate_traffic_percent=0)


def promoted(experiment: Experiment, percent: float, reason: str, by: str, now: Moment) -> Experiment:
    """The experiment at a later stage below 100 %, running; several candidates get shares by how this stage went.

    Raises:
        BadInputError: it is not at work, or has no later stage of that share.
    """
    need_at_work(experiment, "promoted")
    later = experiment.config.stages[experiment.stage :]
    if percent not in later or percent >= 100:
        msg = f"{experiment.id}: {percent:g} % is no later stage; there are {', '.join(f'{p:g}' for p in later)}"
        raise BadInputError(msg)
    stage = experiment.config.stages.index(percent)
    moved = split(experiment, percent)
    candidates = tuple(
        replace(item, evidence=begin_stage(experiment.config_of(item), item.evidence, stage))
        for item in moved.candidates
    )
    moved = with_shares(replace(moved, candidates=candidates))
    return moved.noted(
        now.iso,
        "promoted",
        reason,
        by=by,
        status=RUNNING,
        stage=stage + 1,
        pause_reason=None,
        stage_ms=now.wall_ms,
        clock=StageClock.begin(now),
    )


def completed(experiment: Experiment, reason: str, by: str, now: Moment) -> Experiment:
    """The experiment at its end: everything goes to the candidate.

    Raises:
        BadInputError: it is neither running nor paused, or has more than one candidate.
    """
    need_at_work(experiment, "promoted")
    if len(experiment.candidates) > 1:
        names = ", ".join(item.variant for item in experiment.candidates)
        msg = f"{experiment.id}: only one can have everything: choose --arm of {names}"
        raise BadInputError(msg)
    return experiment.noted(
        now.iso,
        "completed",
        reason,
        by=by,
        status=COMPLETED,
        stage=len(experiment.config.stages),
        candidate_traffic_percent=100,
        pause_reason=None,
        withdrawn=(),
    )


def rolled_back(experiment: Experiment, reason: str, by: str, now: Moment) -> Experiment:
    """The experiment with everything back at its baseline; also from completed."""
    return experiment.noted(
        now.iso,
        "rolled_back",
        reason,
        by=by,
        status=ROLLED_BACK,
        candidate_traffic_percent=0,
        rollback_reason=reason,
        rollback_at=now.iso,
        pause_reason=None,
    )


def paused(experiment: Experiment, reason: str, by: str, now: Moment) -> Experiment:
    """The experiment at its present share, with no promotion and its stage clock stopped; the guard stays.

    Raises:
        BadInputError: it is neither running nor paused.
    """
    if experiment.status not in {RUNNING, PAUSED}:
        msg = f"{experiment.id}: is {experiment.status}; only a running experiment can be paused"
        raise BadInputError(msg)
    return experiment.noted(now.iso, "paused", reason, by=by, status=PAUSED, pause_reason=reason)


def resumed(experiment: Experiment, now: Moment) -> Experiment:
    """The experiment running again; one that had stopped undecided has a whole deadline before it once more.

    Raises:
        BadInputError: it is not paused.
    """
    if experiment.status != PAUSED:
        msg = f"{experiment.id}: is {experiment.status}; only a paused experiment can be resumed"
        raise BadInputError(msg)
    candidates = []
    for item in experiment.candidates:
        evidence = item.evidence
        if evidence.enough_at is not None:
            evidence = replace(evidence, enough_at=evidence.elapsed_minutes)
        candidates.append(replace(item, evidence=evidence))
    clock = experiment.clock.advanced(now, experiment.config.tick_seconds, counting=False)
    return experiment.noted(
        now.iso, "resumed", "resume", status=RUNNING, pause_reason=None, candidates=tuple(candidates), clock=clock
    )


def need_at_work(experiment: Experiment, verb: str) -> None:
    """Refuse what only a running or paused experiment can undergo."""
    if experiment.status not in {RUNNING, PAUSED}:
        msg = f"{experiment.id}: is {experiment.status} and cannot be {verb}"
        raise BadInputError(msg)
