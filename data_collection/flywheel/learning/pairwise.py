"""What a shadow's pairs prove: errors, latency and scores of a candidate beside its baseline on the same inputs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flywheel.base.errors import BadInputError
from flywheel.learning.metrics import score

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flywheel.base.recorded import Recorded
    from flywheel.data.signatures.types import Signature
    from flywheel.learning.ledger import Limits

FEWEST = 10
BASELINE, CANDIDATE = "baseline", "candidate"


@dataclass(frozen=True)
class Terms:
    """What counts as harm (as in a rollout: fractions of calls, ms, 0-1) and what may be spent."""

    error_rate_delta: float
    latency_delta_ms: float
    quality_score: float
    alpha: float
    limits: Limits


@dataclass(frozen=True)
class Outcome:
    """What a program made of an input: its answer (None: it failed) and the time it took."""

    answer: dict[str, Any] | None
    latency_ms: float


@dataclass(frozen=True)
class Shadow:
    """How a candidate did beside its baseline on `pairs` inputs; rates and scores 0-1, times in ms, None: not known.

    `*_p` is how likely so many pairs against the candidate are where either may be the worse one (one-sided, exact).
    `agreement` is the metric of the candidate's answers held against the baseline's; `labelled` pairs have a label.
    """

    pairs: int
    error_rate: dict[str, float]
    errors_p: float
    latency_ms: dict[str, float | None]
    latency_p: float
    agreement: float | None
    labelled: int
    score: dict[str, float | None]
    score_p: float
    harmful: list[str]


def compared(
    signature: Signature,
    records: Sequence[Recorded],
    done: Mapping[tuple[int, str], Outcome],
    name: str,
    terms: Terms,
    candidates: int,
) -> Shadow:
    """One of so many candidates against the baseline, on the inputs that both were given; all share alpha.

    Raises:
        BadInputError: fewer than FEWEST such inputs, because a limit ended the replay.
    """
    places = [place for place in range(len(records)) if (place, name) in done and (place, BASELINE) in done]
    if len(places) < FEWEST:
        msg = f"{len(places)} pairs were replayed before a limit was reached, at least {FEWEST} are needed"
        raise BadInputError(msg)
    before, after = [done[place, BASELINE] for place in places], [done[place, name] for place in places]
    rates = {BASELINE: _failed(before), CANDIDATE: _failed(after)}
    lost = sum(b.answer is not None and a.answer is None for b, a in zip(before, after, strict=True))
    won = sum(b.answer is None and a.answer is not None for b, a in zip(before, after, strict=True))
    slower = [
        a.latency_ms - b.latency_ms
        for b, a in zip(before, after, strict=True)
        if a.answer is not None and b.answer is not None
    ]
    both = [p for p in places if done[p, name].answer is not None and done[p, BASELINE].answer is not None]
    late = sum(delta > terms.latency_delta_ms for delta in slower)
    scores = _scores(signature, records, done, name, places)
    worse, better = sum(b > a for b, a in scores), sum(a > b for b, a in scores)
    shadow = Shadow(
        pairs=len(places),
        error_rate=rates,
        errors_p=sign_p(lost, lost + won),
        latency_ms={
            BASELINE: _mean([item.latency_ms for item in before if item.answer is not None]),
            CANDIDATE: _mean([item.latency_ms for item in after if item.answer is not None]),
        },
        latency_p=sign_p(late, len(slower)),
        agreement=_mean([_against(signature, records[p], done[p, BASELINE], done[p, name]) for p in both]),
        labelled=len(scores),
        score={BASELINE: _mean([b for b, _ in scores]), CANDIDATE: _mean([a for _, a in scores])},
        score_p=sign_p(worse, worse + better),
        harmful=[],
    )
    shadow.harmful.extend(_harm(shadow, _mean(slower), terms, candidates))
    return shadow


def _harm(shadow: Shadow, delay_ms: float | None, terms: Terms, candidates: int) -> list[str]:
    """The metrics past their threshold and with the evidence for it, as a rollout names them."""
    alpha = terms.alpha / (3 * candidates)
    found = []
    if shadow.error_rate[CANDIDATE] - shadow.error_rate[BASELINE] > terms.error_rate_delta and shadow.errors_p <= alpha:
        found.append(f"error_rate_delta > {terms.error_rate_delta:g}")
    if delay_ms is not None and delay_ms > terms.latency_delta_ms and shadow.latency_p <= alpha:
        found.append(f"latency_delta_ms > {terms.latency_delta_ms:g}")
    quality = shadow.score[CANDIDATE]
    if quality is not None and quality < terms.quality_score and shadow.score_p <= alpha:
        found.append(f"quality_score < {terms.quality_score:.2f}")
    return found


def sign_p(against: int, pairs: int) -> float:
    """P(at least `against` of `pairs`) where each falls either way with 1/2: the exact one-sided sign test.

    On pairs of which one program alone failed it is McNemar's exact test (1947).
    """
    tail = sum(math.comb(pairs, k) for k in range(against, pairs + 1))
    return tail / (1 << pairs)


def _failed(outcomes: Sequence[Outcome]) -> float:
    return sum(item.answer is None for item in outcomes) / len(outcomes)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _scores(
    signature: Signature,
    records: Sequence[Recorded],
    done: Mapping[tuple[int, str], Outcome],
    name: str,
    places: Sequence[int],
) -> list[tuple[float, float]]:
    """Both programs' scores (baseline, candidate) against the labels; a failure scores 0."""
    labelled = [place for place in places if records[place].label]
    return [
        (
            _score(signature, records[p], records[p].outputs, done[p, BASELINE].answer),
            _score(signature, records[p], records[p].outputs, done[p, name].answer),
        )
        for p in labelled
    ]


def _against(signature: Signature, record: Recorded, one: Outcome, other: Outcome) -> float:
    return _score(signature, record, one.answer or {}, other.answer)


def _score(signature: Signature, record: Recorded, labels: Mapping[str, Any], answer: dict[str, Any] | None) -> float:
    if answer is None:
        return 0.0
    value: float = score(signature, record.inputs, labels, answer)
    return value
