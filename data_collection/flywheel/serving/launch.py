"""How an experiment begins or gets a further candidate: what the operator named is found, checked and put to work."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from flywheel.base import cli
from flywheel.base.paths import private_folder
from flywheel.serving import rollout, transitions
from flywheel.serving.access import problems
from flywheel.serving.inputs import deployed_champion, find_module, read_config
from flywheel.serving.rule import held_back

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flywheel.serving.daemon import Setting
    from flywheel.serving.experiments import Experiment
    from flywheel.serving.order import Order


def prepared(order: Order, setting: Setting) -> Experiment:
    """The experiment that would begin, pending, with nothing written; all that the order says is checked."""
    config, source = read_config(order.config, order.metrics, order.prometheus_url)
    if order.holdback is not None:
        config = held_back(config, order.holdback)
    baseline, candidates = _baseline(order, setting), _candidates(order)
    experiment = transitions.pending(
        order.experiment_id, order.signature, baseline, candidates, config, order.rule, setting.now()
    )
    rollout.refuse_taken(setting.store, experiment)
    return replace(experiment, prometheus=source)


def launch(experiment: Experiment, setting: Setting) -> Experiment:
    """Begin the prepared experiment at its first stage; one whose shadow proved harm fails instead."""
    source = experiment.prometheus
    if experiment.shadow is not None and experiment.shadow["harmful"]:
        return rollout.fail(setting.store, experiment, _harm(experiment.shadow["harmful"]), setting.now())
    if source is None:
        private_folder(setting.telemetry, shared=True)
    running = rollout.start(setting.store, experiment, setting.programs, setting.now())
    for problem in problems(setting.store.folder, setting.telemetry if source is None else None):
        cli.say(f"warning: {problem.what}; mend it: {problem.fix}")
    return running


def join(order: Order, setting: Setting) -> Experiment:
    """Add the candidates to the live experiment of that id."""
    modules = _candidates(order)
    return rollout.join(setting.store, order.experiment_id, order.signature, modules, setting.programs, setting.now())


def _harm(harmful: Mapping[str, list[str]]) -> str:
    return "shadow: " + "; ".join(f"{variant}: {', '.join(reasons)}" for variant, reasons in harmful.items())


def _baseline(order: Order, setting: Setting) -> str:
    if order.baseline is not None:
        return _module(order.baseline, order.signature)
    path = deployed_champion(order.signature, setting.programs, setting.store.routing_path)
    cli.say(f"{order.signature}: the champion is {path}")
    return str(path)


def _candidates(order: Order) -> list[str]:
    return [_module(text, order.signature) for text in order.candidates]


def _module(text: str, signature: str) -> str:
    """The module's absolute path; of one that is no program of ours it is said that its signature is unknown."""
    path, ours = find_module(text, signature)
    if not ours:
        cli.say(f"warning: {path} is no program of ours; its signature cannot be checked")
    return str(path)
