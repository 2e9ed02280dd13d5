"""What a rollout has seen: counters of the present stage and the e-processes' state, updated tick by tick.

Everything is frozen and of plain numbers: `asdict` makes JSON of an Evidence and `from_object` reads it back, so a
restart continues where the last tick was written.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from operator import add
from typing import TYPE_CHECKING, Any, Self

from flywheel.base.errors import DamagedError
from flywheel.serving import evalues
from flywheel.serving.arms import ArmTick, ArmTotals, problem
from flywheel.serving.cutoffs import QUANTILES

if TYPE_CHECKING:
    from flywheel.serving.cutoffs import Cutoffs
    from flywheel.serving.evalues import Grid
    from flywheel.serving.rule import RolloutConfig

MAX_WAITING = 20
_RATIO_LOGS = evalues.zeros(len(evalues.RATIOS))
_SLOW_LOGS = evalues.zeros(len(QUANTILES) * len(evalues.RATIOS))
_STAKE_LOGS = evalues.zeros(len(evalues.STAKES))
_NO_CALLS = ArmTotals()


@dataclass(frozen=True, slots=True)
class EProcesses:
    """One grid of logs an e-process."""

    errors: Grid = _RATIO_LOGS
    emergency: Grid = _STAKE_LOGS
    latency: Grid = _SLOW_LOGS
    quality: Grid = _STAKE_LOGS
    quality_delta: Grid = _STAKE_LOGS


@dataclass(frozen=True, slots=True)
class Strata:
    """Sums over finished stages of weight and weight * difference, weight = n_c * n_b / (n_c + n_b)."""

    error_weight: float = 0.0
    error_sum: float = 0.0
    latency_weight: float = 0.0
    latency_sum_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a decision rests on. Starts as Evidence(), grows by `add_tick` and `begin_stage`; plain JSON in and out.

    `stage` is an index into the config's stages, `begun` how many had evidence (this one included). Times are minutes
    of this stage on the caller's stage clock. `enough_at` is when the candidate had its min_calls-th call; `cutoffs`
    (ms) are None until frozen, and slow calls count only from then on. `last_problem` says why the last tick was not
    counted, `bad_at` when one last was not. `quality_logs` and `quality_delta_logs` are this stage's, `carried` the
    earlier stages' e-processes. `waiting_*` are scores that no comparison between the arms has used yet. `share` is the
    candidate's probability among its own and the baseline's calls, where that is not the stage's: beside others.
    """

    stage: int = 0
    begun: int = 1
    elapsed_minutes: float = 0.0
    ticks: int = 0
    bad_ticks: int = 0
    bad_at: float | None = None
    last_problem: str | None = None
    enough_at: float | None = None
    cutoffs: Cutoffs | None = None
    candidate: ArmTotals = _NO_CALLS
    baseline: ArmTotals = _NO_CALLS
    quality_logs: Grid = _STAKE_LOGS
    quality_delta_logs: Grid = _STAKE_LOGS
    waiting_candidate: Grid = ()
    waiting_baseline: Grid = ()
    carried: EProcesses = EProcesses()
    strata: Strata = Strata()
    share: float | None = None

    def to_object(self) -> dict[str, Any]:
        """Plain JSON-able values."""
        return asdict(self)

    @classmethod
    def from_object(cls, value: dict[str, Any]) -> Self:
        """The evidence that `to_object` wrote, also after a trip through JSON.

        Raises:
            DamagedError: keys missing or unknown, or values that are not finite numbers.
        """
        try:
            body = _exact(cls, value)
            for name in ("candidate", "baseline"):
                body[name] = ArmTotals(**_exact(ArmTotals, body[name]))
            body["carried"] = EProcesses(**_exact(EProcesses, body["carried"]))
            body["strata"] = Strata(**_exact(Strata, body["strata"]))
            evidence = cls(**body)
        except (TypeError, ValueError, AttributeError) as error:
            msg = f"malformed rollout evidence: {error}"
            raise DamagedError(msg) from error
        return evidence


def _exact(cls: type, value: dict[str, Any]) -> dict[str, Any]:
    """The object's values if they have the class's keys and the shapes of its defaults."""
    blank = cls()
    expected = {field.name for field in fields(cls)}
    if value.keys() != expected:
        msg = (
            f"{cls.__name__}: keys missing {sorted(expected - value.keys())}, unknown {sorted(value.keys() - expected)}"
        )
        raise ValueError(msg)
    body = {key: tuple(item) if isinstance(item, list) else item for key, item in value.items()}
    for key, item in body.items():
        if not _alike(getattr(blank, key), item):
            msg = f"{cls.__name__}.{key}: {item!r}"
            raise ValueError(msg)
    return body


def _alike(default: object, item: Any) -> bool:
    """Whether an item can stand where the default does: counts >= 0, finite numbers, grids of the same size."""
    if isinstance(default, int):
        return type(item) is int and item >= 0
    if isinstance(default, float):
        return type(item) in {int, float} and math.isfinite(item)
    if isinstance(default, tuple):
        like = default or (0.0,) * len(item)
        return isinstance(item, tuple) and len(item) == len(like) and all(map(_alike, like, item))
    if default is not None:
        return isinstance(item, dict)
    return item is None or isinstance(item, str | tuple) or _alike(0.0, item)


def add_tick(
    config: RolloutConfig, evidence: Evidence, candidate: ArmTick, baseline: ArmTick, elapsed_minutes: float
) -> Evidence:
    """The evidence with what both arms did since the last tick; an unusable tick is counted as such and dropped whole.

    `elapsed_minutes` is the stage clock after the tick; one that goes backwards makes the tick unusable.
    """
    later = isinstance(elapsed_minutes, int | float) and evidence.elapsed_minutes <= elapsed_minutes < math.inf
    found = _tick_problem(evidence, candidate, baseline) if later else f"stage clock at {elapsed_minutes!r}"
    if found is not None:
        return blind(evidence, found, elapsed_minutes if later else evidence.elapsed_minutes)
    frozen = evidence.cutoffs is not None
    good = sum(score >= config.quality_score for score in candidate.scores)
    totals = evidence.candidate.plus(candidate, elapsed_minutes, frozen=frozen, good=good)
    enough = elapsed_minutes if totals.calls >= config.min_calls else None
    below = evalues.below_mean_logs(candidate.scores, config.quality_score)
    waiting = (*evidence.waiting_candidate, *candidate.scores), (*evidence.waiting_baseline, *baseline.scores)
    under = evalues.below_baseline_logs(*waiting, evidence.ticks)
    # Where calls are few an arm's scores wait, the latest of them, until the other arm has one too.
    left = ((), ()) if all(waiting) else (waiting[0][-MAX_WAITING:], waiting[1][-MAX_WAITING:])
    return Evidence(
        evidence.stage,
        evidence.begun,
        elapsed_minutes,
        evidence.ticks + 1,
        evidence.bad_ticks,
        evidence.bad_at,
        None,
        evidence.enough_at if evidence.enough_at is not None else enough,
        evidence.cutoffs,
        totals,
        evidence.baseline.plus(baseline, elapsed_minutes, frozen=frozen),
        tuple(map(add, evidence.quality_logs, below)),
        tuple(map(add, evidence.quality_delta_logs, under)),
        *left,
        evidence.carried,
        evidence.strata,
        evidence.share,
    )


def blind(evidence: Evidence, problem: str, elapsed_minutes: float, *, bad: bool = True) -> Evidence:
    """The evidence after a tick without any; time passes all the same, since a blind rollout must meet its deadline.

    `bad`: what came cannot be trusted, which casts doubt on a whole stage time; else nothing came, and it may yet come.
    """
    seen = replace(evidence, elapsed_minutes=elapsed_minutes, ticks=evidence.ticks + 1, last_problem=problem)
    return replace(seen, bad_ticks=evidence.bad_ticks + 1, bad_at=elapsed_minutes) if bad else seen


def _tick_problem(evidence: Evidence, candidate: ArmTick, baseline: ArmTick) -> str | None:
    frozen = evidence.cutoffs is not None
    for name, arm in (("candidate", candidate), ("baseline", baseline)):
        found = problem(arm, frozen=frozen)
        if found is not None:
            return f"{name}: {found}"
    return None


def share_of(config: RolloutConfig, evidence: Evidence) -> float:
    """The candidate's probability (0-1) among its own and the baseline's draws."""
    return config.share(evidence.stage) if evidence.share is None else evidence.share


def current(config: RolloutConfig, evidence: Evidence) -> EProcesses:
    """This stage's logs of every e-process, from its counters."""
    share = share_of(config, evidence)
    candidate, baseline = evidence.candidate, evidence.baseline
    calls = candidate.calls + baseline.calls
    slow = [
        evalues.odds_logs((one, candidate.sorted_calls), (other, baseline.sorted_calls), share, 1 - quantile)
        for one, other, quantile in zip(candidate.slow, baseline.slow, QUANTILES, strict=True)
    ]
    return EProcesses(
        evalues.event_logs(candidate.errors, baseline.errors, share),
        evalues.excess_logs(candidate.errors, baseline.errors, calls, share, config.error_rate_delta),
        sum(slow, ()),
        evidence.quality_logs,
        evidence.quality_delta_logs,
    )


def pool(evidence: Evidence) -> Strata:
    """The strata with the present stage added."""
    candidate, baseline, past = evidence.candidate, evidence.baseline, evidence.strata
    errors = _weight(candidate.calls, baseline.calls)
    slow = _weight(candidate.timed, baseline.timed)
    return Strata(
        past.error_weight + errors,
        past.error_sum + (errors * (candidate.error_rate - baseline.error_rate) if errors else 0),
        past.latency_weight + slow,
        past.latency_sum_ms + (slow * (candidate.latency_ms - baseline.latency_ms) if slow else 0),
    )


def _weight(candidate: int, baseline: int) -> float:
    return candidate * baseline / (candidate + baseline) if candidate and baseline else 0.0
