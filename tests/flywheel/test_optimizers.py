"""The optimizers behind their one interface, on an engine whose optimum is known."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.searching import HINT, Engine, searching, task

from flywheel.base.errors import BadInputError, ModelError
from flywheel.learning.evaluation import evaluate
from flywheel.learning.ledger import BudgetExhausted, Limits, read_calls
from flywheel.learning.optimizers import (
    OPTIMIZERS,
    Compiled,
    Settings,
    planned_calls,
    require_libraries,
    run,
    stage_calls,
)
from flywheel.learning.program import instructions_of
from flywheel.ops import search_options

if TYPE_CHECKING:
    from pathlib import Path


# What Engine(base=0.4) answers right without demonstrations or HINT, on 20 examples.
BASELINE = 45.0


def searched(name: str, engine: Engine, folder: Path, **settings: Any) -> Compiled:
    with searching(engine, folder) as model:
        asked = replace(task(optimizers=(name,), **settings), reflection=model.copy(temperature=1.0))
        return run(name, asked, lambda _: None)


@pytest.mark.parametrize("name", ["mipro", "gepa"])
def test_an_instruction_that_helps_is_found(name: str, tmp_path: Path) -> None:
    engine = Engine(per_demo=0.0)
    found = searched(name, engine, tmp_path, trials=8)
    assert HINT in instructions_of(found.program)
    assert found.optimizer == name
    assert found.stopped is None
    assert found.trials[-1].best > 50
    assert engine.calls <= planned_calls(12, 20, Settings(trials=8, candidates=4, optimizers=(name,)))


@pytest.mark.parametrize("name", ["mipro", "bootstrap-rs"])
def test_demonstrations_that_help_are_found(name: str, tmp_path: Path) -> None:
    engine = Engine(base=0.4, hint_bonus=0.0, per_demo=0.3)
    found = searched(name, engine, tmp_path)
    assert len(found.program.demos) == 2
    assert found.searched.trials_used == len([trial for trial in found.trials if trial.full])
    planned = Settings(trials=8, candidates=4, bootstrapped_demos=2, labeled_demos=2, optimizers=(name,))
    assert engine.calls <= planned_calls(12, 20, planned)


@pytest.mark.parametrize("demos", [(2, 2), (2, 0), (0, 2), (0, 0)])
@pytest.mark.parametrize("name", ["mipro", "bootstrap-rs"])
def test_of_a_model_that_is_always_wrong_no_more_is_asked_than_planned(
    name: str, demos: tuple[int, int], tmp_path: Path
) -> None:
    """Not one of its answers can be a demonstration, so that each set is sought among all training examples."""
    settings = {"trials": 4, "candidates": 4, "bootstrapped_demos": demos[0], "labeled_demos": demos[1]}
    engine = Engine(base=0.0, hint_bonus=0.0, per_demo=0.0)
    searched(name, engine, tmp_path, **settings)
    made = Counter(call.stage for call in read_calls(tmp_path / "calls.jsonl") if not call.cached)
    planned = stage_calls(12, 20, Settings(**settings, optimizers=(name,)))
    assert engine.calls == made.total() <= sum(asked.calls for asked in planned.values())
    if name == "mipro":
        assert made["bootstrap"] == planned["bootstrap"].calls
        assert made["proposal"] <= planned["proposal"].calls


def test_labeled_costs_no_call(tmp_path: Path) -> None:
    engine = Engine()
    found = searched("labeled", engine, tmp_path)
    assert engine.calls == 0
    assert len(found.program.demos) == 2
    assert found.searched.trials_planned == 0
    assert planned_calls(12, 20, Settings(optimizers=("labeled",))) == 0


@pytest.mark.parametrize("name", [*OPTIMIZERS])
def test_a_search_is_the_same_every_time_and_its_seed_counts(name: str, tmp_path: Path) -> None:
    def outcome(folder: str, seed: int) -> Any:
        (tmp_path / folder).mkdir()
        found = searched(name, Engine(), tmp_path / folder, seed=seed, trials=4)
        return found.trials, instructions_of(found.program), [dict(demo) for demo in found.program.demos]

    assert outcome("a", 3) == outcome("b", 3)
    assert outcome("c", 4) != outcome("d", 5) or outcome("e", 6) != outcome("f", 7)


@pytest.mark.parametrize("name", ["mipro", "gepa", "bootstrap-rs"])
@pytest.mark.parametrize("calls", [0, 30, 60])
def test_a_limit_gives_the_best_so_far_or_the_baseline(name: str, calls: int, tmp_path: Path) -> None:
    engine = Engine(base=0.4, per_demo=0.1)
    with searching(engine, tmp_path, Limits(max_calls=calls)) as model:
        asked = replace(task(optimizers=(name,), trials=40, plateau_trials=0), reflection=model.copy(temperature=1.0))
        found = run(name, asked, lambda _: None)
    assert engine.calls == calls
    assert found.stopped == f"{calls} of {calls} calls are spent"
    assert found.searched.ended == found.stopped
    if calls == 0:
        assert found.program is asked.program
    if not [trial for trial in found.trials if trial.full]:
        assert instructions_of(found.program) == instructions_of(asked.program)


def test_what_a_limit_leaves_is_what_the_last_full_trial_called_best(tmp_path: Path) -> None:
    """Stopped anywhere, the program scores on val what the trials say is best."""
    asked = task(trials=20, plateau_trials=0)
    for calls in range(40, 100, 12):
        folder, other = tmp_path / str(calls), tmp_path / f"{calls} again"
        folder.mkdir()
        other.mkdir()
        with searching(Engine(base=0.4, per_demo=0.1), folder, Limits(max_calls=calls)):
            found = run("mipro", asked, lambda _: None)
        assert found.stopped is not None
        with searching(Engine(base=0.4, per_demo=0.1), other):
            scored = evaluate(found.program, asked.val, asked.metric, threads=1, progress=lambda: None)
        reached = 100 * sum(item.score or 0 for item in scored) / len(scored)
        assert reached == pytest.approx(found.trials[-1].best if found.trials else BASELINE)


def test_any_other_error_of_the_model_is_no_limit(tmp_path: Path) -> None:
    engine = Engine()

    def interrupt(_: Any) -> None:
        if engine.calls == 50:
            raise KeyboardInterrupt

    engine.on_call = interrupt
    with searching(engine, tmp_path), pytest.raises(KeyboardInterrupt):
        run("mipro", task(threads=1), lambda _: None)


def test_an_optimizers_library_is_missed_before_anything_is_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    require_libraries(("bootstrap-rs", "labeled"))
    for name, library in (("mipro", "optuna"), ("gepa", "gepa")):
        with pytest.raises(ModelError, match=f"{library} is not installed"):
            require_libraries(("labeled", name))


def test_settings_refuse_what_no_optimizer_can_do() -> None:
    with pytest.raises(BadInputError, match="expected some of"):
        Settings(optimizers=("simba",))
    with pytest.raises(BadInputError, match="expected some of"):
        Settings(optimizers=())


def test_the_command_line_knows_the_same_optimizers() -> None:
    from flywheel.learning import trials

    assert tuple(OPTIMIZERS) == search_options.OPTIMIZERS
    assert search_options.DEFAULT_PLATEAU_TRIALS == trials.PLATEAU_TRIALS == Settings().plateau_trials
    assert search_options.FEWEST_CANDIDATES == trials.FEWEST_CANDIDATES


def test_gepa_without_feedback_or_a_model_to_reflect_is_refused(tmp_path: Path) -> None:
    with searching(Engine(), tmp_path), pytest.raises(BadInputError, match="feedback"):
        run("gepa", task(), lambda _: None)


def test_a_limit_is_what_the_ledger_calls_one() -> None:
    assert not issubclass(BudgetExhausted, Exception), "DSPy would swallow it"
