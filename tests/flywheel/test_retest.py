"""An inconclusive candidate is tested on fresh groups first, and only then are new trials bought."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from tests.loopback import LoopbackModel

from flywheel.base.programs import WAITING, deployed_program
from flywheel.base.progress import open_progress
from flywheel.data.examples import Example
from flywheel.data.signatures.types import Field, Measure, Signature
from flywheel.data.split_file import append_splits
from flywheel.learning.assignment import Assignment
from flywheel.learning.choice import ModelChoice
from flywheel.learning.cycle import Terms, run_all
from flywheel.learning.expense import Allowance
from flywheel.learning.ledger import Ledger, read_calls
from flywheel.learning.optimizers import Settings
from flywheel.learning.verdict import Rule
from flywheel.learning.waiting import STATE_FILE, read_waiting

if TYPE_CHECKING:
    from pathlib import Path

    from tests.loopback import Prompt

TASK = Signature(
    name="task",
    inputs=(Field("question", "str", "What is asked"),),
    outputs=(Field("good", "bool", "Whether"),),
    instructions="Answer.",
    metric=(Measure("accuracy", "good", 1.0),),
    project=lambda _: None,
)


def example(split: str, kind: str, number: int) -> Example:
    return Example.model_validate(
        {
            "inputs": {"question": f"{kind} question {split} {number}"},
            "outputs": {"good": True},
            "metadata": {"source": "git", "group": f"{split} {kind} {number}"},
            "id": f"{split}-{kind}-{number}",
            "split": split,
        }
    )


def dataset(tests: dict[str, int]) -> list[Example]:
    """Easy questions anybody answers, hard ones only a program with demonstrations, odd ones only one without."""
    learning = [example(split, kind, n) for split in ("train", "val") for kind in ("easy", "hard") for n in range(4)]
    return learning + [example("test", kind, n) for kind, count in tests.items() for n in range(count)]


def answer(prompt: Prompt) -> Any:
    if "good" not in prompt.outputs:
        return dict.fromkeys(prompt.outputs, "Answer the question.")
    asked = prompt.inputs["question"]
    return {"good": asked.startswith("easy") or asked.startswith("hard") == bool(prompt.demos)}


class Months:
    """Runs of one signature in one folder, a month each."""

    def __init__(self, folder: Path, server: LoopbackModel) -> None:
        self._folder = folder
        self._server = server
        self.programs = folder / "programs"
        self.stages: list[str] = []

    def run(self, tests: dict[str, int], **settings: Any) -> dict[str, Any]:
        number = len(list(self._folder.glob("run_*")))
        results = self._folder / f"run_{number}" / "results"
        results.mkdir(parents=True)
        terms = Terms(
            choice=ModelChoice("openai/loopback", "test", self._server.url),
            settings=Settings(trials=3, candidates=3, bootstrapped_demos=2, labeled_demos=2, threads=2),
            rule=Rule(),
            allowance=Allowance(latency_growth_ms=10_000),
            quick=None,
            require_power=False,
            hours=1,
            results=results,
            programs=self.programs,
            run_id=f"run_{number}",
            **settings,
        )
        deployed = deployed_program(self.programs, "task")
        assignment = Assignment(TASK, dataset(tests), "v1", "h", deployed, self._folder / "data")
        found: dict[str, Any] = {}
        with Ledger(results / "calls.jsonl") as ledger:
            assert run_all([assignment], terms, ledger, open_progress(), lambda _, facts: found.update(facts)) is None
        self.stages = list(dict.fromkeys(call.stage for call in read_calls(results / "calls.jsonl")))
        return found


@pytest.fixture
def months(tmp_path: Path) -> Any:
    with LoopbackModel(answer) as server:
        yield Months(tmp_path, server)


def test_an_undecided_candidate_is_retested_and_deployed_without_a_single_trial(months: Months) -> None:
    first = months.run({"easy": 12, "hard": 3})
    assert first["verdict"] == "inconclusive"
    waiting = read_waiting(months.programs, "task")
    assert waiting is not None
    assert (len(waiting.evidence.groups), waiting.program.run_id) == (15, "run_0")
    assert first["e_value"] == pytest.approx(waiting.evidence.e_value)
    second = months.run({"easy": 40, "hard": 20})
    assert sorted(months.stages) == ["retest-baseline", "retest-candidate"]
    assert second["n_test"] == 45, "only groups that were not looked at before"
    assert second["verdict"] == "deploy"
    assert second["e_value"] >= 40
    assert second["tests"] == 2
    assert "after 2 tests of 60 examples in all" in second["verdict_reason"]
    assert (second["trials"], second["validation_score"]) == (0, None)
    path = deployed_program(months.programs, "task")
    assert path is not None
    assert str(path) == second["module_path"]
    assert read_waiting(months.programs, "task") is None


def test_undecided_again_it_waits_on_and_its_groups_are_not_used_twice(months: Months) -> None:
    months.run({"easy": 12, "hard": 3})
    second = months.run({"easy": 20, "hard": 4})
    assert second["verdict"] == "inconclusive"
    assert "kept for the next run's fresh test groups" in second["verdict_reason"]
    assert second["n_test"] == 9
    waiting = read_waiting(months.programs, "task")
    assert waiting is not None
    assert len(waiting.evidence.groups) == 24
    assert [test.n for test in waiting.evidence.tests] == [15, 9]


def test_a_group_tied_to_one_that_was_tested_is_not_fresh(months: Months, tmp_path: Path) -> None:
    months.run({"easy": 12, "hard": 3})
    tied = [f"test hard {n}" for n in range(3, 20)]
    moment = datetime(2025, 11, 4, tzinfo=UTC)
    append_splits(
        tmp_path / "data", "task", dict.fromkeys(tied, "test"), moment, parts=dict.fromkeys(tied, "test easy 0")
    )
    second = months.run({"easy": 20, "hard": 20})
    assert sorted(months.stages[:2]) == ["retest-baseline", "retest-candidate"]
    assert second["n_test"] == 8, "the new easy ones alone"


def test_what_turns_out_no_better_makes_way_for_a_search_in_the_same_run(months: Months) -> None:
    months.run({"easy": 12, "hard": 3})
    second = months.run({"easy": 12, "hard": 3, "odd": 12})
    assert sorted(months.stages[:2]) == ["retest-baseline", "retest-candidate"]
    assert "search" in months.stages
    assert second["verdict"] == "reject"
    assert second["tests"] == 1, "what was found anew starts afresh"
    assert read_waiting(months.programs, "task") is None


def test_without_fresh_groups_it_waits_and_the_search_goes_on(months: Months) -> None:
    months.run({"easy": 12, "hard": 3})
    months.run({"easy": 13, "hard": 3})
    assert "retest-baseline" not in months.stages
    assert "search" in months.stages
    assert read_waiting(months.programs, "task") is not None


def test_it_is_given_up_when_told_to_or_when_it_cannot_be_read(months: Months) -> None:
    months.run({"easy": 12, "hard": 3})
    months.run({"easy": 18, "hard": 3}, retest=False)
    assert "retest-baseline" not in months.stages
    replaced = read_waiting(months.programs, "task")
    assert replaced is not None
    assert replaced.program.run_id == "run_1"
    (months.programs / "task" / WAITING / STATE_FILE).write_text("{")
    third = months.run({"easy": 12, "hard": 3})
    assert "search" in months.stages
    assert third["verdict"] == "inconclusive"
    assert read_waiting(months.programs, "task") is not None, "the new one takes its place"
