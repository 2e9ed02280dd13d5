"""An experiment as status and list show it: the record without the machinery, and in words what traffic does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flywheel.serving.bucketing import PER_PERCENT
from flywheel.serving.experiments import COMPLETED, PAUSED, PENDING, TERMINAL
from flywheel.serving.settings import config_object

if TYPE_CHECKING:
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
