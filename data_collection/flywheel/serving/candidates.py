"""The programs that an experiment tries: each with the evidence against it, and its buckets where there are several."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self

from flywheel.serving.allotment import MOST_CANDIDATES, allot, best_probabilities, widths
from flywheel.serving.bucketing import BUCKETS, PER_PERCENT
from flywheel.serving.evidence import Evidence
from flywheel.serving.routing import CANDIDATE, WITHDRAWN, Arm, check_buckets
from flywheel.serving.rule import QUALITY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flywheel.serving.routing import Buckets
    from flywheel.serving.rule import RolloutConfig


_NOTHING_SEEN = Evidence()


@dataclass(frozen=True, slots=True)
class Candidate:
    """One program on trial.

    `variant` is its name in routes and records. `alpha` bounds the probability that it is rolled back without being
    worse. `buckets` are its own where the experiment has, or had, several; empty: the first ones, as the share has it.
    """

    variant: str
    module: str
    alpha: float
    buckets: Buckets = ()
    evidence: Evidence = _NOTHING_SEEN

    @property
    def width(self) -> int:
        """How many of the 10,000 buckets it has of its own."""
        return sum(high - low for low, high in self.buckets)

    def arm(self) -> Arm:
        """It as the route lists it."""
        return Arm(self.variant, self.module, self.width / PER_PERCENT, self.buckets)

    def to_object(self) -> dict[str, Any]:
        """For JSON."""
        return {field.name: getattr(self, field.name) for field in fields(self)} | {
            "buckets": [list(pair) for pair in self.buckets],
            "evidence": self.evidence.to_object(),
        }

    @classmethod
    def from_object(cls, value: Any) -> Self:
        """What `to_object` gave, also after a trip through JSON.

        Raises:
            ValueError, TypeError: it is none.
            DamagedError: its evidence is none.
        """
        if not isinstance(value, dict) or value.keys() != {field.name for field in fields(cls)}:
            msg = f"candidate: {value!r}"
            raise ValueError(msg)
        body = {**value, "buckets": tuple(tuple(pair) for pair in value["buckets"])}
        body["evidence"] = Evidence.from_object(value["evidence"])
        found = cls(**body)
        check_buckets(found.buckets)
        share = found.evidence.share
        texts = type(found.variant) is str and type(found.module) is str
        if (
            not texts
            or type(found.alpha) is not float
            or not 0 < found.alpha < 1
            or not (share is None or (type(share) is float and 0 < share < 1))
        ):
            msg = f"candidate {found.variant!r}: module, alpha or share"
            raise ValueError(msg)
        return found


def variant_name(number: int) -> str:
    """The name of an experiment's first, second ... candidate: candidate, candidate_2 ..."""
    return CANDIDATE if number == 1 else f"{CANDIDATE}_{number}"


def beginners(modules: Sequence[str], config: RolloutConfig) -> tuple[Candidate, ...]:
    """The candidates of a new experiment; several share the first stage, and alpha, equally.

    Raises:
        ValueError: more than eight.
    """
    check_number(len(modules))
    alpha = config.alpha / len(modules)
    found = tuple(Candidate(variant_name(n), module, alpha) for n, module in enumerate(modules, start=1))
    return found if len(found) == 1 else shared(found, (), config.stages[0], config)


def check_number(count: int) -> None:
    """Refuse more candidates than can have their 5 % each and leave the baseline enough to be compared with."""
    if count > MOST_CANDIDATES:
        msg = f"{count} candidates: at most {MOST_CANDIDATES} at a time"
        raise ValueError(msg)


def shared(
    candidates: Sequence[Candidate], withdrawn: Buckets, percent: float, config: RolloutConfig
) -> tuple[Candidate, ...]:
    """The candidates with buckets anew: together `percent`, split by Thompson sampling over the stage that ends."""
    wanted = widths(percent, chances(candidates, config))
    present = {item.variant: item.buckets for item in candidates}
    given = allot({**present, WITHDRAWN: withdrawn}, wanted)
    return tuple(replace(item, buckets=given[item.variant]) for item in candidates)


def chances(candidates: Sequence[Candidate], config: RolloutConfig) -> Mapping[str, float]:
    """For each variant the probability that it is the best of them, by its present stage's calls."""
    found = best_probabilities([_record(item, config) for item in candidates])
    return dict(zip((item.variant for item in candidates), found, strict=True))


def _record(candidate: Candidate, config: RolloutConfig) -> tuple[int, int]:
    """Successes and trials: calls, or scores at the threshold where quality is required; an error misses either."""
    seen = candidate.evidence.candidate
    if QUALITY in config.required:
        return seen.good, seen.scored + seen.errors
    return seen.calls - seen.errors, seen.calls


def conditional_share(candidate: Candidate, candidates: Sequence[Candidate], withdrawn: Buckets) -> float | None:
    """The candidate's probability among its own and the baseline's calls; None where the stage's share is it."""
    if not candidate.buckets:
        return None
    taken = sum(item.width for item in candidates) + sum(high - low for low, high in withdrawn)
    return candidate.width / (candidate.width + BUCKETS - taken)
