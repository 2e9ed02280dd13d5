"""An experiment as status and list show it: the record without the machinery, and in words what traffic does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flywheel.base.text import one_line
from flywheel.serving.bucketing import PER_PERCENT
from flywheel.serving.experiments import COMPLETED, PAUSED, PENDING, TERMINAL
from flywheel.serving.settings import config_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flywheel.serving.candidates import Candidate
    from flywheel.serving.experiments import Experiment
    from flywheel.serving.rule import RolloutConfig


def summary(experiment: Experiment) -> dict[str, Any]:
    """For JSON; `decision` is the last look's, None before the first."""
    return {
        "id": experiment.id,
        "experiment_id": experiment.id,
        "signature": experiment.signature,
        "status": experiment.status,
        "final_status": experiment.status if experiment.status in TERMINAL else None,
        "created_at": experiment.created_at,
        "stage": experiment.stage,
        "stages": len(experiment.config.stages),
        "stage_minutes": round(experiment.clock.minutes, 2),
        "candidate_traffic_percent": experiment.candidate_traffic_percent,
        "traffic": traffic(experiment),
        "rollback_reason": experiment.rollback_reason,
        "rollback_at": experiment.rollback_at,
        "pause_reason": experiment.pause_reason,
        "baseline_module": experiment.baseline_module,
        "candidate_module": experiment.candidate_module,
        "candidates": [_candidate(item, experiment) for item in experiment.candidates],
        "ended_candidates": list(experiment.ended),
        "rule": experiment.rule,
        "config": config_object(experiment.config),
        "metrics": "records" if experiment.prometheus is None else "prometheus",
        "shadow": experiment.shadow,
        "decision": experiment.decision,
    }


def traffic(experiment: Experiment) -> str:
    """What the state means for those who call, in one sentence."""
    share = f"{experiment.candidate_traffic_percent:g} %"
    if experiment.status == PENDING:
        return "the start was interrupted: the baseline serves; start it again or roll it back"
    if experiment.status == PAUSED:
        one = len(experiment.candidates) == 1
        who = "the candidate keeps its" if one else "the candidates keep their"
        return f"{who} {share}, with the guard at work: harm still rolls back; nothing is promoted until `resume`"
    if experiment.status == COMPLETED:
        return "the candidate serves everything"
    if experiment.status in TERMINAL:
        return "the baseline serves everything"
    if experiment.at_holdback:
        return f"the candidate serves {share}; the rest is held back on the baseline until `promote`"
    return f"the candidate serves {share}" if len(experiment.candidates) == 1 else f"the candidates serve {share}"


def line(experiment: Experiment) -> str:
    """One line for people: where it stands, and what the last look made of it."""
    words = [f"{experiment.id}: {experiment.signature}: {experiment.status}"]
    if experiment.live:
        words.append(f"stage {experiment.stage} of {len(experiment.config.stages)}")
    words.append(traffic(experiment))
    reason = experiment.rollback_reason or experiment.pause_reason
    if reason is None and experiment.live and experiment.decision is not None:
        reason = f"{experiment.decision['action']}: {experiment.decision['text']}"
    return one_line("; ".join(words if reason is None else [*words, reason]))


def event(entry: Mapping[str, Any]) -> str:
    """One line for people of what happened once."""
    share = f"{entry['candidate_traffic_percent']:g} %"
    what = f"{entry['event']} by {entry['by']}: {entry['reason']}"
    return one_line(f"{entry['at']} stage {entry['stage']}, {share}: {what}")


def look(entry: Mapping[str, Any]) -> str:
    """One line for people of what a look decided."""
    return one_line(f"{entry['at']} {entry['action']}: {entry['text']}")


def guard_hint(experiment: Experiment) -> str:
    """What to do now that traffic flows: nothing guards it but a monitor."""
    watch = f"ab_testing_framework.py monitor --experiment-id {experiment.id} --daemon"
    return f"{experiment.id}: {traffic(experiment)}; only a monitor guards it: {watch}"


def _candidate(item: Candidate, experiment: Experiment) -> dict[str, Any]:
    live = experiment.live and experiment.shared
    share = item.width / PER_PERCENT if live else experiment.candidate_traffic_percent
    return {"variant": item.variant, "module": item.module, "traffic_percent": share}


def slowed(config: RolloutConfig, interval: float | None) -> list[str]:
    """What so many seconds between looks do to a stage's time, where they are more than two ticks."""
    most = 2 * config.tick_seconds
    if interval is None or interval <= most:
        return []
    much = f"a stage ages by at most {most:g} s a look and takes {interval / most:.2g} times as long"
    return [f"--interval {interval:g}: {much}; or set tick_seconds in the --config of the next start"]
