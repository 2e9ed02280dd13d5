"""What DSPy and GEPA do that our optimizers rely on or guard against, and that the guards hold.

A test named after a fault shows DSPy's own optimizer with it, then ours without: when DSPy mends it, the first half
says that the guard may go.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
from typing import TYPE_CHECKING, Any

import dspy
import pytest
from dspy.teleprompt import GEPA, BootstrapFewShotWithRandomSearch, MIPROv2
from dspy.teleprompt.utils import create_n_fewshot_demo_sets
from gepa.api import optimize
from gepa.core.callbacks import EvaluationEndEvent, ValsetEvaluatedEvent
from tests.searching import Engine, examples, fields, searching, task, texts

from flywheel.base.errors import BadInputError
from flywheel.learning import mipro
from flywheel.learning.mipro import WatchedMIPROv2
from flywheel.learning.optimizers import run
from flywheel.learning.trials import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from flywheel.learning.trials import Task


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def plain_mipro(asked: Task, *, num_trials: int | None = None, seed: int | None = None, **options: Any) -> Any:
    """DSPy's own MIPROv2 for the task, without our guards."""
    settings = asked.settings
    given = {
        "auto": None,
        "num_candidates": settings.candidates,
        "max_bootstrapped_demos": settings.bootstrapped_demos,
        "max_labeled_demos": settings.labeled_demos,
        "num_threads": 1,
        **{name: value for name, value in options.items() if not name.startswith("minibatch")},
    }
    how = {name: value for name, value in options.items() if name.startswith("minibatch")}
    optimizer = MIPROv2(metric=asked.metric, **given)
    trials = settings.trials if num_trials is None else num_trials
    return optimizer.compile(
        asked.program, trainset=list(asked.train), valset=list(asked.val), num_trials=trials, seed=seed, **how
    )


# --- what private methods look like, and how they are called ---------------------------------------------------------


PRIVATE = {
    "_bootstrap_fewshot_examples": """self program trainset seed teacher num_fewshot_candidates max_bootstrapped_demos
        max_labeled_demos max_errors metric_threshold""",
    "_propose_instructions": """self program trainset demo_candidates view_data_batch_size program_aware_proposer
        data_aware_proposer tip_aware_proposer fewshot_aware_proposer num_instruct_candidates""",
    "_optimize_prompt_parameters": """self program instruction_candidates demo_candidates evaluate valset num_trials
        minibatch minibatch_size minibatch_full_eval_steps seed""",
    "_log_minibatch_eval": """self score best_score batch_size chosen_params score_data trial adjusted_num_trials
        trial_logs trial_num candidate_program total_eval_calls""",
    "_log_normal_eval": """self score best_score chosen_params score_data trial num_trials trial_logs trial_num valset
        batch_size candidate_program total_eval_calls""",
    "_perform_full_evaluation": """self trial_num adjusted_num_trials param_score_dict fully_evaled_param_combos
        evaluate valset trial_logs total_eval_calls score_data best_score best_program study instruction_candidates
        demo_candidates""",
}


@pytest.mark.parametrize("name", [*PRIVATE])
def test_private_methods_have_the_parameters_that_we_count_on(name: str) -> None:
    assert parameters(getattr(MIPROv2, name)) == PRIVATE[name].split()


def test_every_overridden_method_is_one_of_those() -> None:
    own = {name for name, value in vars(WatchedMIPROv2).items() if callable(value) and hasattr(MIPROv2, name)}
    assert own - {"__init__"} == PRIVATE.keys()


@pytest.mark.parametrize("val", [12, 55])
def test_mipro_calls_them_as_we_count_on(val: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a trial; full evaluations after five minibatches and at the end; each followed by what we read."""
    called: list[str] = []
    for name in ("_log_minibatch_eval", "_log_normal_eval", "_perform_full_evaluation"):
        original = getattr(MIPROv2, name)

        def noting(self: Any, *args: Any, original: Any = original, **named: Any) -> Any:
            called.append(original.__name__)
            bound = inspect.signature(original).bind(self, *args, **named).arguments
            study = bound["study"] if "study" in bound else bound["trial"].study
            assert callable(study.stop)
            outcome = original(self, *args, **named)
            if original.__name__ == "_perform_full_evaluation":
                assert bound["score_data"][-1]["full_eval"] is True
                assert outcome[0] >= bound["score_data"][-1]["score"]
            return outcome

        monkeypatch.setattr(MIPROv2, name, noting)
    with searching(Engine(), tmp_path):
        run("mipro", task(val=val, trials=7, plateau_trials=0), lambda _: None)
    minibatch, full = "_log_minibatch_eval", "_perform_full_evaluation"
    assert called == (["_log_normal_eval"] * 7 if val == 12 else [minibatch] * 5 + [full] + [minibatch] * 2 + [full])


def test_random_search_can_be_asked_for_one_candidate(tmp_path: Path) -> None:
    assert "restrict" in parameters(BootstrapFewShotWithRandomSearch.compile)
    asked = task()
    with searching(Engine(), tmp_path):
        optimizer = BootstrapFewShotWithRandomSearch(asked.metric, max_bootstrapped_demos=2, max_labeled_demos=2)
        found = optimizer.compile(
            asked.program, trainset=examples("train", 8), valset=examples("val", 5), restrict=[-2]
        )
    (candidate,) = found.candidate_programs
    assert candidate.keys() == {"score", "subscores", "seed", "program"}
    assert len(candidate["subscores"]) == 5
    assert candidate["score"] == pytest.approx(100 * sum(candidate["subscores"]) / 5)


def test_gepa_takes_our_listener_and_tells_it_what_it_reads() -> None:
    assert {"callbacks", "stop_callbacks", "max_metric_calls"} <= set(parameters(optimize))
    assert "gepa_kwargs" in parameters(GEPA.__init__)
    assert {
        "scores_by_val_id",
        "candidate",
        "parent_ids",
        "average_score",
    } <= ValsetEvaluatedEvent.__annotations__.keys()
    assert "scores" in EvaluationEndEvent.__annotations__


def test_gepa_wants_exactly_one_budget() -> None:
    metric = task().feedback
    lm = dspy.LM("engine/x", engine=Engine())
    for budget in ({}, {"max_metric_calls": 1, "max_full_evals": 1}):
        with pytest.raises(AssertionError, match="Exactly one"):
            GEPA(metric=metric, reflection_lm=lm, **budget)


# --- faults, and the guards ------------------------------------------------------------------------------------------


def asked_in(engine: Engine, outputs: str = "`good`") -> list[str]:
    """The questions that the engine was asked for its own output field."""
    return [asked for system, asked in map(texts, engine.requests) if outputs in system.split("output fields are:")[1]]


def test_without_a_valset_the_training_data_would_be_cut(tmp_path: Path) -> None:
    kept = MIPROv2(metric=task().metric, auto=None, num_candidates=3, task_model=1, prompt_model=1)
    train, val = kept._set_and_validate_datasets(examples("train", 10), None)
    assert ([e.question for e in train], len(val)) == ([f"question train {n}" for n in range(2)], 8)
    engine = Engine()
    with searching(engine, tmp_path):
        run("mipro", task(train=10, val=7, trials=2), lambda _: None)
    asked = asked_in(engine)
    found = {re.search(r"question (val \d+)", question) for question in asked}
    assert {match[1] for match in found if match} == {f"val {n}" for n in range(7)}
    assert any("question train 9" in question for question in map(str, engine.requests)), "none was taken away"


def test_a_minibatch_larger_than_the_valset_would_be_refused(tmp_path: Path) -> None:
    asked = task(val=10, trials=2)
    with searching(Engine(), tmp_path):
        with pytest.raises(ValueError, match="Minibatch size cannot exceed"):
            plain_mipro(asked, minibatch=True)
        assert [trial.full for trial in run("mipro", asked, lambda _: None).trials] == [True, True]


@pytest.mark.parametrize(("val", "full"), [(mipro.MINIBATCH_FROM - 1, {True}), (mipro.MINIBATCH_FROM, {True, False})])
def test_minibatches_begin_above_50_examples(val: int, full: set[bool], tmp_path: Path) -> None:
    with searching(Engine(), tmp_path):
        assert {t.full for t in run("mipro", task(val=val, trials=2), lambda _: None).trials} == full


def test_no_valid_program_found_would_end_the_run(tmp_path: Path) -> None:
    zero_shot = {"candidates": 3, "bootstrapped_demos": 0, "labeled_demos": 0, "plateau_trials": 0}
    asked = task(val=51, trials=25, **zero_shot)
    with searching(Engine(), tmp_path):
        with pytest.raises(ValueError, match="No valid program found"):
            plain_mipro(asked, minibatch=True)
        found = run("mipro", asked, lambda _: None)
    assert found.searched.trials_used == 25
    assert sum(trial.full for trial in found.trials) <= 3


def test_seed_0_would_become_9(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(MIPROv2, "_set_random_seeds", _noting(seeds, MIPROv2._set_random_seeds))
    with searching(Engine(), tmp_path):
        plain_mipro(task(trials=1), seed=0, minibatch=False)
        run("mipro", task(trials=1, seed=0), lambda _: None)
    assert seeds == [9, 0]


def _noting(seeds: list[int], original: Any) -> Any:
    def noting(self: Any, seed: int) -> None:
        seeds.append(seed)
        original(self, seed)

    return noting


def test_labelled_demonstrations_without_bootstrapped_ones_would_crash(tmp_path: Path) -> None:
    asked = task(trials=6, bootstrapped_demos=0, plateau_trials=0)
    with searching(Engine(per_demo=0.3, hint_bonus=0.0), tmp_path):
        with pytest.raises(ValueError, match="empty range"):
            plain_mipro(asked, minibatch=False)
        found = run("mipro", asked, lambda _: None)
        assert len(found.program.demos) == 2
        assert not any(demo.get("augmented") for demo in found.program.demos)
        also = run("bootstrap-rs", asked, lambda _: None)
    assert also.searched.trials_used == also.searched.trials_planned == 3
    assert len(also.program.demos) == 2


def test_fewer_than_3_candidates_would_make_no_bootstrapped_set(tmp_path: Path) -> None:
    asked = task()
    with searching(Engine(base=1.0), tmp_path):
        made = create_n_fewshot_demo_sets(
            asked.program, 2, list(asked.train), 2, 2, asked.metric, {}, metric_threshold=0.8, seed=1
        )
        assert not any(demo.get("augmented") for demos in made[0] for demo in demos)
    with pytest.raises(BadInputError, match="fewer than 3"):
        Settings(candidates=2)
    assert Settings(candidates=2, bootstrapped_demos=0).candidates == 2


def test_half_right_answers_would_become_demonstrations(tmp_path: Path) -> None:
    from dataclasses import replace

    def half(*_: Any) -> float:
        return 0.5

    asked = replace(task(trials=6, labeled_demos=0, plateau_trials=0), metric=half)
    plain, ours = Engine(), Engine()
    (tmp_path / "ours").mkdir()
    with searching(plain, tmp_path):
        plain_mipro(asked, minibatch=False)
    with searching(ours, tmp_path / "ours"):
        run("mipro", asked, lambda _: None)
    shown = [
        any(m.role == "assistant" for engine in [e] for r in engine.requests for m in r.messages) for e in (plain, ours)
    ]
    assert shown == [True, False]


class Stammering(Engine):
    """Answers what nobody can read for every third example."""

    def answer(self, request: Any) -> str:
        _, asked = texts(request)
        number = asked.split("question val ")[-1].split()[0] if "question val " in asked else ""
        return "?" if number.isdigit() and int(number) % 3 == 0 else super().answer(request)


def test_more_than_10_failing_examples_would_end_an_evaluation(tmp_path: Path) -> None:
    asked = task(val=45, trials=2)
    with searching(Stammering(base=0.6), tmp_path):
        best = run("mipro", asked, lambda _: None).trials[-1].best
        assert plain_mipro(asked, minibatch=False).score == 0.0
    assert best > 25


def test_what_fails_an_evaluation_as_a_whole_would_be_a_score_of_0(tmp_path: Path) -> None:
    """Here a defect of our own, which DSPy would have made a program that scores 0."""
    from flywheel.learning.watch import Watch

    def broken(*_: Any) -> None:
        msg = "a defect"
        raise ZeroDivisionError(msg)

    with searching(Engine(), tmp_path), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Watch, "evaluated", broken)
        with pytest.raises(ZeroDivisionError, match="a defect"):
            run("mipro", task(), lambda _: None)


def test_total_calls_would_be_0(tmp_path: Path) -> None:
    engine = Engine()
    with searching(engine, tmp_path) as model:
        found = run("mipro", task(trials=2), lambda _: None)
        assert found.program.total_calls == 0
        assert model.account.totals().calls == engine.calls > 0


def test_stdout_would_be_flooded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with searching(Engine(), tmp_path) as model:
        from dataclasses import replace

        for name in ("mipro", "bootstrap-rs", "gepa", "labeled"):
            run(name, replace(task(trials=2), reflection=model), lambda _: None)
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "")


def test_optuna_would_be_missed_too_late() -> None:
    source = inspect.getsource(MIPROv2)
    assert source.index("Step 3") < source.index("_import_optuna()"), "only after bootstrap and proposals are paid"
    assert importlib.util.find_spec("optuna") is not None


def test_other_keys_of_an_example_would_reach_the_prompt(tmp_path: Path) -> None:
    from tests.searching import SIGNATURE

    from flywheel.data.examples import Example
    from flywheel.learning.examples import all_to_dspy

    leaking, engine = Engine(), Engine()
    rows = [
        dspy.Example(question=f"question train {n}", good=True, author="mallory").with_inputs("question")
        for n in range(4)
    ]
    stored = [
        Example.model_validate(
            {"inputs": {"question": f"question train {n}"}, "outputs": {"good": True}, "metadata": {"notes": "mallory"}}
        )
        for n in range(4)
    ]
    from dataclasses import replace

    (tmp_path / "ours").mkdir()
    with searching(leaking, tmp_path):
        run("mipro", replace(task(trials=1), train=rows), lambda _: None)
    with searching(engine, tmp_path / "ours"):
        run("mipro", replace(task(trials=1), train=all_to_dspy(stored, SIGNATURE)), lambda _: None)
    assert ["mallory" in str(e.requests) for e in (leaking, engine)] == [True, False]


def test_fields_are_written_as_the_adapter_reads_them() -> None:
    adapter = dspy.ChatAdapter()
    assert adapter.parse(task().program.signature, fields(good="True")) == {"good": True}
