"""When a search ends for want of anything better."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.searching import Engine, searching, task

from flywheel.learning.optimizers import Compiled, run
from flywheel.learning.plateau import Decision, Plateau

if TYPE_CHECKING:
    from pathlib import Path

HALF = [1.0, 0.0] * 10
ITEMS = len(HALF)


def better(right: int) -> list[float]:
    """HALF with `right` of its wrong answers put right."""
    wrong = [n for n in range(ITEMS) if HALF[n] == 0]
    return [1.0 if n in wrong[:right] else score for n, score in enumerate(HALF)]


def begun(patience: int = 3, groups: list[str] | None = None) -> Plateau:
    plateau = Plateau(patience, groups)
    plateau.begin(HALF)
    return plateau


def test_without_improvement_it_ends_after_the_patience() -> None:
    plateau = begun()
    assert [plateau.look(trial, HALF).stop for trial in (1, 2)] == [None, None]
    assert plateau.look(3, HALF).stop == "plateau: no full evaluation in 3 trials improved by more than noise"


def test_one_example_more_is_noise_and_five_are_none() -> None:
    # Sign-flip: of k differences that are all in favour, p is 1 / 2**k.
    assert not begun().look(1, better(1)).improved
    assert not begun().look(1, better(4)).improved
    decision = begun().look(1, better(5))
    assert decision.improved
    assert decision.p_value == pytest.approx(1 / 32, abs=0.01)


def test_an_improvement_begins_the_patience_anew_and_is_what_is_compared_with() -> None:
    plateau = begun()
    assert plateau.look(2, better(6)).since == 0
    decision = plateau.look(4, better(7))
    assert (decision.improved, decision.since, decision.stop) == (False, 2, None)
    assert decision.reference == pytest.approx(0.8)
    assert plateau.look(5, better(6)).stop is not None


def test_small_steps_add_up_since_the_reference_stays() -> None:
    plateau = begun(patience=10)
    assert [plateau.look(trial, better(trial)).improved for trial in range(1, 6)] == [False] * 4 + [True]


def test_examples_of_one_group_are_one_piece_of_evidence() -> None:
    groups = ["all wrong ones" if HALF[n] == 0 else str(n) for n in range(ITEMS)]
    assert not begun(groups=groups).look(1, better(10)).improved


def test_nothing_is_left_to_improve() -> None:
    plateau = begun()
    decision = plateau.look(1, [1.0] * ITEMS)
    assert decision.stop == "plateau: every validation example is right, nothing is left to improve"
    perfect = Plateau(3)
    assert perfect.begin([1.0, 1.0]).stop is not None


def test_a_look_without_an_evaluation_counts_the_trials() -> None:
    plateau = begun()
    assert plateau.look(2, None).stop is None
    assert plateau.look(3, None).stop is not None


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30), st.integers(1, 60))
def test_patience_0_never_stops(scores: list[float], trial: int) -> None:
    plateau = Plateau(0)
    assert plateau.begin(scores).stop is None
    assert plateau.look(trial, [1.0] * len(scores)).stop is None


@given(st.data(), st.integers(2, 25))
def test_what_is_no_better_never_improves(data: st.DataObject, count: int) -> None:
    score = st.floats(0, 1)
    before = data.draw(st.lists(score, min_size=count, max_size=count))
    after = [min(value, data.draw(score)) for value in before]
    plateau = Plateau(5)
    plateau.begin(before)
    decision = plateau.look(1, after)
    assert not decision.improved
    assert decision.since == 1


# --- in a search ---------------------------------------------------------------------------------------------------


def searched(
    folder: Path, name: str = "mipro", val: int = 20, **settings: int
) -> tuple[Compiled, list[Decision], Engine]:
    engine = Engine(base=0.5, hint_bonus=0.0, per_demo=0.0)
    decisions: list[Decision] = []
    with searching(engine, folder):
        found = run(name, task(val=val, **settings), lambda _: None, decisions.append)
    return found, decisions, engine


@pytest.mark.parametrize(("val", "looks"), [(20, [0, 1, 2, 3, 4, 5, 6]), (55, [0, 5, 10])])
def test_a_search_without_gain_ends_at_the_plateau(val: int, looks: list[int], tmp_path: Path) -> None:
    """By full evaluations, and by minibatches, where only every fifth trial is followed by a full one."""
    found, decisions, _ = searched(tmp_path, val=val, trials=30, plateau_trials=6)
    assert [decision.trial for decision in decisions] == looks
    assert [decision.stop is None for decision in decisions] == [True] * (len(looks) - 1) + [False]
    assert found.searched.ended == decisions[-1].stop
    assert found.stopped is None, "a plateau is no limit"
    assert (found.searched.trials_used, found.searched.trials_saved) == (looks[-1], 30 - looks[-1])


def test_without_a_plateau_all_trials_are_run(tmp_path: Path) -> None:
    found, decisions, _ = searched(tmp_path, trials=8, plateau_trials=0)
    assert found.searched.told == "8 of 8 trials; all trials were run"
    assert len(decisions) == 9
    assert found.searched.trials_saved == 0


def test_a_plateau_reached_by_the_last_trial_has_saved_nothing(tmp_path: Path) -> None:
    found, decisions, _ = searched(tmp_path, trials=4, plateau_trials=4)
    assert decisions[-1].stop is not None
    assert found.searched.ended == "all trials were run"


def test_candidates_that_are_all_evaluated_do_not_keep_a_search_alive(tmp_path: Path) -> None:
    """Where nothing is left for a full evaluation, the trials count all the same."""
    few = {"candidates": 3, "bootstrapped_demos": 0, "labeled_demos": 0}
    found, decisions, _ = searched(tmp_path, "mipro", 55, trials=60, plateau_trials=20, **few)
    assert found.searched.trials_used == 20
    assert [decision for decision in decisions if decision.score is None and decision.trial > 0]


def test_random_search_ends_at_the_plateau_too(tmp_path: Path) -> None:
    found, _, _ = searched(tmp_path, "bootstrap-rs", candidates=10, trials=30, plateau_trials=3)
    assert (found.searched.trials_used, found.searched.trials_planned) == (3, 13)


def test_the_best_is_kept_whatever_the_rule_calls_noise(tmp_path: Path) -> None:
    engine = Engine(base=0.5, hint_bonus=0.1, per_demo=0.0)
    decisions: list[Decision] = []
    with searching(engine, tmp_path):
        found = run("mipro", task(trials=30, plateau_trials=6), lambda _: None, decisions.append)
    assert not any(decision.improved for decision in decisions)
    assert found.trials[-1].best > 100 * decisions[0].reference
