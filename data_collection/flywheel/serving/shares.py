"""The shares of an experiment's candidates: the buckets they get, and what evidence is told of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from flywheel.serving.bucketing import PER_PERCENT, threshold
from flywheel.serving.candidates import conditional_share, shared

if TYPE_CHECKING:
    from flywheel.serving.experiments import Experiment


def with_buckets(experiment: Experiment) -> Experiment:
    """The experiment with its one candidate's first buckets written out, so that others can have theirs."""
    if experiment.shared:
        return experiment
    width = threshold(experiment.candidate_traffic_percent)
    return replace(experiment, candidates=(replace(experiment.candidates[0], buckets=((0, width),)),))


def split(experiment: Experiment, percent: float) -> Experiment:
    """The experiment with `percent` for its candidates, or 5 % each where that is more, by how this stage went."""
    if not experiment.shared:
        return replace(experiment, candidate_traffic_percent=percent)
    given = shared(experiment.candidates, experiment.withdrawn, percent, experiment.config)
    return replace(experiment, candidates=given, withdrawn=())


def with_shares(experiment: Experiment) -> Experiment:
    """The experiment with its total, and every candidate's share against the baseline, by the buckets they have."""
    if not experiment.shared:
        return experiment
    candidates = experiment.candidates
    told = tuple(
        replace(item, evidence=replace(item.evidence, share=conditional_share(item, candidates, experiment.withdrawn)))
        for item in candidates
    )
    total = sum(item.width for item in candidates) / PER_PERCENT
    return replace(experiment, candidates=told, candidate_traffic_percent=total)
