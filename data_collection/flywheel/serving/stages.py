"""How evidence goes from one set of shares to the next: the counters start afresh, the e-processes go on."""

from __future__ import annotations

from dataclasses import fields
from operator import add
from typing import TYPE_CHECKING

from flywheel.serving import evalues
from flywheel.serving.evidence import EProcesses, Evidence, current, pool

if TYPE_CHECKING:
    from collections.abc import Callable

    from flywheel.serving.evalues import Grid
    from flywheel.serving.rule import RolloutConfig


def begin_stage(config: RolloutConfig, evidence: Evidence, stage: int, share: float | None = None) -> Evidence:
    """Evidence for a later stage: fresh counters, the e-processes carried over with a new start.

    `share` as in Evidence.

    Raises:
        ValueError: not a later stage, or one without a concurrent baseline.
    """
    if not evidence.stage < stage < config.guarded_stages:
        msg = f"stage {stage} does not follow {evidence.stage} or has no baseline"
        raise ValueError(msg)
    carried = _carried(config, evidence, evalues.carry)
    return _afresh(evidence, stage, evidence.begun + 1, carried, share)


def begin_round(config: RolloutConfig, evidence: Evidence, share: float | None) -> Evidence:
    """Evidence for new shares within the stage: fresh counters, the e-processes go on as if nothing had been."""

    def together(carried: Grid, now: Grid) -> Grid:
        return tuple(map(add, carried, now))

    return _afresh(evidence, evidence.stage, evidence.begun, _carried(config, evidence, together), share)


def _carried(config: RolloutConfig, evidence: Evidence, carry: Callable[[Grid, Grid], Grid]) -> EProcesses:
    now = current(config, evidence)
    names = [field.name for field in fields(EProcesses)]
    return EProcesses(*(carry(getattr(evidence.carried, name), getattr(now, name)) for name in names))


def _afresh(evidence: Evidence, stage: int, begun: int, carried: EProcesses, share: float | None) -> Evidence:
    return Evidence(
        stage=stage, begun=begun, cutoffs=evidence.cutoffs, carried=carried, strata=pool(evidence), share=share
    )
