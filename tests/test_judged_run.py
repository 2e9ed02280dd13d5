"""A whole run with a judge, a revealed test and MLflow, and what each of them leaves."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.browser import SCREENS, chromium, look
from tests.loopback import LoopbackModel, Prompt, Skilled, chance
from tests.oracle import Oracle
from tests.repositories import build_shop

from flywheel.base.evaluations import Evaluation
from flywheel.data.store import load
from flywheel.data.test_uses import generation
from flywheel.learning.ledger import read_calls
from optimization_orchestrator import main

if TYPE_CHECKING:
    from collections.abc import Callable

# MLflow's own dependencies warn.
pytestmark = [pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "FutureWarning")]
ONE = "generate_guidance"
HOSTILE = "<script>alert(1)</script>\x1b[2J <img src=x onerror=alert(2)>"
HIDDEN = "\u202e"


class Judge:
    """Prefers the longer answer, whichever place it has."""

    def __init__(self) -> None:
        self.asked: list[Prompt] = []

    def __call__(self, prompt: Prompt) -> Any:
        if "first_score" not in prompt.outputs:
            return dict.fromkeys(prompt.outputs, "Paris")
        self.asked.append(prompt)
        lengths = [len(prompt.inputs[f"{side}_answer"]) for side in ("first", "second")]
        return dict(zip(("first_score", "second_score"), (min(10, n // 120) for n in lengths), strict=True))


def program(oracle: Oracle) -> Callable[[Prompt], Any]:
    """Knows the labels and writes hostile text into its explanations; without demonstrations it knows little."""

    def right(prompt: Prompt) -> dict[str, Any]:
        found = oracle(prompt)
        hidden = HIDDEN if chance(sorted(prompt.inputs.items())) < 0.1 else ""
        return {**found, "explanation": f"{found.get('explanation', '')} {HOSTILE}{hidden}"}

    def wrong(prompt: Prompt) -> dict[str, Any]:
        return {**oracle.opposite(prompt), "explanation": HOSTILE}

    return Skilled(right, wrong, base=0.2, per_demo=0.35, demos_count=2, hint_bonus=0.0)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Prompt]]:
    """A run's root folder with all three flags, and what the judge was asked."""
    root = tmp_path_factory.mktemp("judged")
    shop = build_shop(root / "repository")
    oracle, judge = Oracle(root / "data"), Judge()
    with LoopbackModel(program(oracle)) as model, LoopbackModel(judge) as server:
        mlflow = ["--mlflow", f"sqlite:///{root / 'mlflow.db'}"] if importlib.util.find_spec("mlflow") else []
        code = main(
            [
                "--repo-path", str(shop), "--model", "loopback", "--api-base", model.url, "--no-strict",
                "--trials", "4", "--candidates", "3", "--synthetic-target", "40", "--allow-synthetic-test",
                "--signatures", ONE, "--judge", "judge", "--judge-api-base", server.url, "--reveal-test", *mlflow,
                "--output-dir", str(root / "runs"), "--data-dir", str(root / "data"),
                "--programs-dir", str(root / "programs"), "--max-latency-growth", "10000",
            ]
        )  # fmt: skip
    assert code == 0
    return root, judge.asked


def run_of(root: Path) -> Path:
    (run,) = (root / "runs").glob("run_*")
    return run


def evaluation_of(root: Path) -> Evaluation:
    return Evaluation.read(run_of(root) / "optimization_results" / ONE / "evaluation.json")


@pytest.mark.slow
def test_the_judges_opinion_is_told_counted_and_shown(done: tuple[Path, list[Prompt]]) -> None:
    root, asked = done
    found = evaluation_of(root).judged
    assert found is not None
    summary = json.loads((run_of(root) / "orchestration_summary.json").read_text())
    result = summary["signatures"][ONE]
    assert found.model == "openai/judge"
    assert found.n + found.n_failed + found.n_suspicious == result["n_test"]
    assert found.n > 5
    calls = [call for call in read_calls(run_of(root) / "calls.jsonl") if call.stage == "judge"]
    assert {call.model for call in calls} == {"openai/judge"}
    assert sum(not call.cached for call in calls) == len(asked) == result["stages"]["judge"]["calls"]
    page = (run_of(root) / "report.html").read_text()
    assert "openai/judge" in page
    assert "decides nothing" in page
    assert result["verdict"] is not None


@pytest.mark.slow
def test_the_revealed_test_is_shown_and_has_become_training_data(done: tuple[Path, list[Prompt]]) -> None:
    root, _ = done
    evaluation = evaluation_of(root)
    assert evaluation.shown_split == "test"
    shown = {change.id for change in (*evaluation.gains, *evaluation.regressions)}
    tested = {row.id for row in evaluation.test}
    assert shown
    assert shown <= tested
    splits = {example.id: example.split for example in load(root / "data", ONE)[1]}
    assert {splits[name] for name in tested} == {"train"}
    assert generation(root / "data", ONE).number == 2
    assert "(test split)" in (run_of(root) / "report.html").read_text()


@pytest.mark.slow
def test_mlflow_has_the_run_its_figures_and_its_files(done: tuple[Path, list[Prompt]]) -> None:
    mlflow = pytest.importorskip("mlflow")
    from flywheel.learning.tracking import log_run
    from flywheel.ops.runs import RunSummary
    from flywheel.ops.tracked import tracked

    root, _ = done
    uri = f"sqlite:///{root / 'mlflow.db'}"
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("dspy-flywheel")
    (logged,) = client.search_runs([experiment.experiment_id])
    run = run_of(root)
    summary = RunSummary.read(run)
    result = summary.signatures[ONE]
    assert logged.info.run_name == run.name
    assert logged.info.status == "FINISHED"
    assert logged.data.params["trials"] == "4"
    assert logged.data.tags[f"{ONE}.verdict"] == result.verdict
    assert logged.data.metrics[f"{ONE}/optimized_score"] == pytest.approx(result.optimized_score)
    assert logged.data.metrics[f"{ONE}/lm_calls"] == result.lm_calls
    opinion = evaluation_of(root).judged
    assert opinion is not None
    assert logged.data.metrics[f"{ONE}/judge_difference_points"] == pytest.approx(opinion.difference_points)
    trials = client.get_metric_history(logged.info.run_id, f"{ONE}/best_trial_score")
    assert [metric.value for metric in trials] == [trial.best for trial in evaluation_of(root).trials]
    assert experiment.artifact_location == (root / "mlartifacts").as_uri()
    names = {file.path for file in client.list_artifacts(logged.info.run_id)}
    assert {"orchestration_summary.json", "report.html", ONE} <= names
    (kept,) = [f.path for f in client.list_artifacts(logged.info.run_id, ONE) if f.path.endswith("program.json")]
    copied = client.download_artifacts(logged.info.run_id, kept, str(root))
    assert Path(copied).read_text() == (run / "optimization_results" / ONE / "program.json").read_text()
    assert log_run(uri, tracked(summary, run)) == logged.info.run_id, "logged again, it is the same run"
    assert len(client.search_runs([experiment.experiment_id])) == 1


@pytest.mark.slow
def test_the_report_of_a_real_run_with_hostile_answers_is_sound_in_a_browser(done: tuple[Path, list[Prompt]]) -> None:
    root, _ = done
    path = run_of(root) / "report.html"
    page = path.read_text()
    assert "&lt;script&gt;alert(1)" in page
    assert "<script" not in page
    assert "\u202e" not in page
    opened = root / "opened.html"
    opened.write_text(page.replace("<details>", "<details open>"))
    with chromium() as browser:
        for width, scheme in SCREENS:
            look(browser, opened.as_uri(), width, scheme).check()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--judge", "some"], "it is the model under optimization"),
        (["--judge", "nothing", "--judge-api-base", "ftp://x"], "must start with http"),
        (["--judge", "nothing", "--judge-api-base", "http://me:word@127.0.0.1:1/v1"], "password"),
        (["--mlflow", "bogus://nowhere"], "MLflow"),
        (["--mlflow", "postgresql://me:word@127.0.0.1/x"], "password"),
    ],
)
def test_a_judge_or_store_that_cannot_be_is_told_before_anything_is_spent(
    flags: list[str], expected: str, tmp_path: Path
) -> None:
    if "--mlflow" in flags:
        pytest.importorskip("mlflow")
    shop = build_shop(tmp_path / "repository")
    with LoopbackModel(lambda prompt: dict.fromkeys(prompt.outputs, "Paris")) as model:
        if flags == ["--judge", "some"]:
            flags = [*flags, "--judge-api-base", model.url]
        given = ["--repo-path", str(shop), "--model", "some", "--api-base", model.url, *flags]
        with pytest.raises(Exception, match=expected):
            main([*given, "--output-dir", str(tmp_path / "runs"), "--data-dir", str(tmp_path / "data")])
        assert model.calls <= 1, "the model's own preflight"
    assert not list((tmp_path / "runs").glob("run_*"))


@pytest.mark.slow
def test_the_model_under_optimization_judges_itself_only_by_force(tmp_path: Path) -> None:
    shop = build_shop(tmp_path / "repository")
    oracle, judge = Oracle(tmp_path / "data"), Judge()
    able = program(oracle)

    def both(prompt: Prompt) -> Any:
        return judge(prompt) if "first_score" in prompt.outputs else able(prompt)

    with LoopbackModel(both) as model:
        places = ["--output-dir", "runs", "--data-dir", "data", "--programs-dir", "programs"]
        given = [str(tmp_path / part) if part.isalpha() else part for part in places]
        code = main(
            [
                "--repo-path", str(shop), "--model", "loopback", "--api-base", model.url, "--no-strict", "--quick", ONE,
                "--signatures", ONE, "--judge", "loopback", "--judge-api-base", model.url, "--force-judge", *given,
            ]
        )  # fmt: skip
    assert code == 0
    assert judge.asked
