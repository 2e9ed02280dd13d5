"""The evidence for a candidate that waits: valid however often one looks, kept whole, never on the same group twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.base.betting import STAKES, added, bet_logs, mixture, zeros
from flywheel.base.errors import DamagedError
from flywheel.data.signatures import BUILT_IN
from flywheel.learning.program import plain_envelope
from flywheel.learning.retest import decide, told
from flywheel.learning.verdict import DEPLOY, INCONCLUSIVE, REJECT, Item, Rule
from flywheel.learning.waiting import ENOUGH, MOST_TESTS, Evidence, Waiting, forget, keep, read_waiting

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PROGRAM = plain_envelope(BUILT_IN[0])


def items(pairs: Sequence[tuple[float | None, float | None]], start: int = 0, source: str = "git") -> list[Item]:
    return [Item(f"g{start + n}", source, before, after) for n, (before, after) in enumerate(pairs)]


@pytest.mark.parametrize("kind", ["binary", "graded", "skewed"])
def test_without_a_difference_the_expectation_is_at_most_one_and_forty_is_hardly_ever_reached(kind: str) -> None:
    """4,000 candidates that are no better, each tested on 160 groups, looked at after every one."""
    generator = np.random.default_rng(20261124)
    shape = (4000, 160)
    gains: np.ndarray
    if kind == "binary":
        gains = generator.integers(0, 2, shape) - generator.integers(0, 2, shape)
    elif kind == "graded":
        gains = generator.uniform(-0.5, 0.5, shape)
    else:  # seldom a large gain, often a small loss: the mean is 0
        gains = np.where(generator.random(shape) < 0.1, 0.9, -0.1)
    stakes = np.array(STAKES)[:, None, None]
    wealth = np.exp(np.log1p(stakes * gains).cumsum(axis=2)).mean(axis=0)
    ever = float((wealth.max(axis=1) >= ENOUGH).mean())
    # Chance of more than this at 1/40: below 1e-3 (normal, 3.1 standard errors).
    assert ever <= 1 / ENOUGH + 3.1 * np.sqrt(1 / ENOUGH / shape[0])
    # The e-value's own spread is huge, so its mean is looked at early, where it can be estimated.
    early = wealth[:, 9]
    assert early.mean() <= 1 + 3.1 * early.std() / np.sqrt(shape[0])
    for row in range(3):
        assert mixture(bet_logs([float(gain) for gain in gains[row]])) == pytest.approx(wealth[row, -1])


@given(st.lists(st.sampled_from([0.25, 0.5, 1.0]), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_over_all_signs_the_mean_wealth_is_exactly_one(sizes: list[float]) -> None:
    """Exact, not simulated: with every sign of every difference as likely as its opposite."""
    total = 0.0
    for pattern in range(2 ** len(sizes)):
        gains = [size if pattern >> bit & 1 else -size for bit, size in enumerate(sizes)]
        total += mixture(bet_logs(gains))
    assert total / 2 ** len(sizes) == pytest.approx(1.0)


@given(st.lists(st.floats(-1, 1), max_size=80), st.integers(0, 80))
@settings(max_examples=60, deadline=None)
def test_months_multiply(gains: list[float], cut: int) -> None:
    whole = bet_logs(gains)
    assert added(bet_logs(gains[:cut]), bet_logs(gains[cut:])) == pytest.approx(whole, abs=1e-9)
    assert mixture(zeros(len(STAKES))) == 1.0


def test_a_group_counts_once_by_its_mean_and_never_again() -> None:
    together = Evidence(baseline="plain").after([Item("one", "git", 0.0, 1.0), Item("one", "git", 1.0, 0.0)], "r1")
    assert together.e_value == pytest.approx(1.0)
    assert together.n == 2
    with pytest.raises(ValueError, match="groups tested again: one"):
        together.after([Item("one", "git", 0.0, 1.0)], "r2")


def test_a_failed_answer_uses_its_group_up_but_is_no_evidence() -> None:
    found = Evidence(baseline="plain").after(items([(None, 1.0), (0.0, 1.0)]), "r1")
    assert found.groups == ("g0", "g1")
    assert found.n == 1
    assert found.improvement_percent == pytest.approx(100.0), "points of 100, where the baseline scores 0"


def evidence(months: Sequence[Sequence[tuple[float, float]]], source: str = "git") -> Evidence:
    found = Evidence(baseline="plain")
    for number, pairs in enumerate(months):
        found = found.after(items(pairs, 1000 * number, source), f"run_{number}")
    return found


GAIN = [(0.0, 1.0)] * 6 + [(1.0, 1.0)] * 30 + [(1.0, 0.0)]


def test_evidence_grows_until_it_is_enough() -> None:
    first, third = evidence([GAIN]), evidence([GAIN] * 3)
    assert 1 < first.e_value < ENOUGH <= third.e_value
    verdict = decide(first, Rule())
    assert verdict is not None
    assert verdict.verdict == INCONCLUSIVE
    assert "kept for the next run" in verdict.reason
    verdict = decide(third, Rule())
    assert verdict is not None
    assert verdict.verdict == DEPLOY
    assert "after 3 tests of 111 examples in all, +16.1 %" in told(third)


def test_a_sure_gain_below_the_minimum_is_rejected() -> None:
    verdict = decide(evidence([[(0.5, 0.52)] * 900]), Rule(5.0))
    assert verdict is not None
    assert verdict.verdict == REJECT


def test_synthetic_evidence_alone_does_not_deploy() -> None:
    found = evidence([GAIN] * 3, "synthetic")
    held, allowed = decide(found, Rule()), decide(found, Rule(allow_synthetic_test=True))
    assert held is not None
    assert held.verdict == INCONCLUSIVE
    assert "--allow-synthetic-test" in held.reason
    assert allowed is not None
    assert allowed.verdict == DEPLOY


def test_what_turns_out_no_better_or_stays_undecided_is_given_up() -> None:
    assert decide(evidence([[(1.0, 0.0), (0.0, 1.0)] * 9]), Rule()) is None
    small = [(0.0, 1.0)] * 2 + [(1.0, 1.0)] * 20 + [(1.0, 0.0)]
    assert decide(evidence([small] * (MOST_TESTS - 1)), Rule()) is not None
    assert decide(evidence([small] * MOST_TESTS), Rule()) is None


def test_a_candidate_is_kept_replaced_and_forgotten(tmp_path: Path) -> None:
    name = PROGRAM.signature
    assert read_waiting(tmp_path, name) is None
    forget(tmp_path, name)
    for months in (1, 2):
        waiting = Waiting(PROGRAM, evidence([GAIN] * months))
        keep(tmp_path, waiting)
        assert read_waiting(tmp_path, name) == waiting
    assert (tmp_path / name / "waiting" / "retest.json").stat().st_mode & 0o777 == 0o600
    forget(tmp_path, name)
    assert read_waiting(tmp_path, name) is None


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"schema_version": 2}', '{"baseline": "x", "more": 1}'])
def test_damaged_evidence_is_told(tmp_path: Path, content: str) -> None:
    keep(tmp_path, Waiting(PROGRAM, evidence([GAIN])))
    (tmp_path / PROGRAM.signature / "waiting" / "retest.json").write_text(content)
    with pytest.raises(DamagedError, match=r"retest\.json"):
        read_waiting(tmp_path, PROGRAM.signature)
