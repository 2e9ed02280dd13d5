"""What can happen to an experiment: pure functions from one record to the next."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from flywheel.base.errors import BadInputError
from flywheel.serving.evidence import Evidence
from flywheel.serving.experiments import (
    COMPLETED,
    PAUSED,
    PENDING,
    ROLLED_BACK,
    RUNNING,
    Experiment,
    check_id,
)
from flywheel.serving.stage_clock import Moment, StageClock
from flywheel.serving.stages import begin_stage

if TYPE_CHECKING:
    from flywheel.serving.rule import RolloutConfig

OPERATOR = "operator"
RULE = "rule"
OVERRIDE = "operator override"


def pending(
    experiment_id: str, signature: str, modules: tuple[str, str], config: RolloutConfig, rule: str, now: Moment
) -> Experiment:
    """A new experiment at its first stage; `modules` are the paths of baseline and candidate.

    Raises:
        BadInputError: the id is none, or signature or modules cannot stand in a routing file.
    """
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
        baseline_module=modules[0],
        candidate_module=modules[1],
        previous_version=None,
        # Of its own for each experiment, so that the same users are not the first to meet every candidate.
        salt=secrets.token_hex(8),
        started_ms=now.wall_ms,
        stage_ms=now.wall_ms,
        clock=StageClock.begin(now),
        evidence=Evidence(),
        warmup_ms=(),
        checkpoint=None,
        decision=None,
        history=(),
    )
    try:
        experiment.route()
    except ValueError as error:
        msg = f"experiment {experiment_id!r}: {error}"
        raise BadInputError(msg) from error
    return experiment


def started(experiment: Experiment, now: Moment) -> Experiment:
    """A pending experiment whose route is in place."""
    return experiment.noted(
        now.iso, "started", "start", status=RUNNING, stage_ms=now.wall_ms, clock=StageClock.begin(now)
    )


def promoted(experiment: Experiment, percent: float, reason: str, by: str, now: Moment) -> Experiment:
    """The experiment at a later stage below 100 %, running.

    Raises:
        BadInputError: it is not at work, or has no later stage of that share.
    """
    _need_at_work(experiment, "promoted")
    later = experiment.config.stages[experiment.stage :]
    if percent not in later or percent >= 100:
        msg = f"{experiment.id}: {percent:g} % is no later stage; there are {', '.join(f'{p:g}' for p in later)}"
        raise BadInputError(msg)
    stage = experiment.config.stages.index(percent)
    return experiment.noted(
        now.iso,
        "promoted",
        reason,
        by=by,
        status=RUNNING,
        stage=stage + 1,
        candidate_traffic_percent=percent,
        pause_reason=None,
        stage_ms=now.wall_ms,
        clock=StageClock.begin(now),
        evidence=begin_stage(experiment.config, experiment.evidence, stage),
    )


def completed(experiment: Experiment, reason: str, by: str, now: Moment) -> Experiment:
    """The experiment at its end: everything goes to the candidate.

    Raises:
        BadInputError: it is neither running nor paused.
    """
    _need_at_work(experiment, "promoted")
    return experiment.noted(
        now.iso,
        "completed",
        reason,
        by=by,
        status=COMPLETED,
        stage=len(experiment.config.stages),
        candidate_traffic_percent=100,
        pause_reason=None,
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
    evidence = experiment.evidence
    if evidence.enough_at is not None:
        evidence = replace(evidence, enough_at=evidence.elapsed_minutes)
    clock = experiment.clock.advanced(now, experiment.config.tick_seconds, counting=False)
    return experiment.noted(
        now.iso, "resumed", "resume", status=RUNNING, pause_reason=None, evidence=evidence, clock=clock
    )


def _need_at_work(experiment: Experiment, verb: str) -> None:
    if experiment.status not in {RUNNING, PAUSED}:
        msg = f"{experiment.id}: is {experiment.status} and cannot be {verb}"
        raise BadInputError(msg)
