"""The whole chain, on a real repository and a loopback model that speaks OpenAI's protocol."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests import repositories
from tests.loopback import LoopbackModel, Prompt, Skilled
from tests.oracle import Oracle, words
from tests.repositories import build_shop, git

import ab_testing_framework
from flywheel.base.errors import BadInputError, FlywheelError
from flywheel.base.evaluations import Evaluation
from flywheel.base.programs import deployed_program, read_program
from flywheel.learning.ledger import read_calls
from optimization_orchestrator import main

SCRIPT = Path(__file__).resolve().parents[1] / "data_collection" / "optimization_orchestrator.py"
ONE = "validate_completeness"
SEARCHING = {"bootstrap", "proposal", "search"}
FIVE = {"extract_requirements", "validate_intent", ONE, "validate_correctness", "generate_guidance"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_shop(tmp_path_factory.mktemp("shop") / "repository")


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRAINING_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("OPTIMIZED_MODULES_DIR", str(tmp_path / "programs"))
    monkeypatch.setenv("OUTPUT_DIR", str(tmp_path / "runs"))
    for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "FLYWHEEL_MODEL", "FLYWHEEL_API_BASE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def oracle(places: Path) -> Oracle:
    return Oracle(places / "data")


def skilled(oracle: Oracle, base: float = 0.1, per_demo: float = 0.45) -> Skilled:
    return Skilled(oracle, oracle.opposite, base=base, per_demo=per_demo, demos_count=2, hint_bonus=0.0)


def arguments(shop: Path, model: LoopbackModel, *more: str) -> list[str]:
    return [
        "--repo-path", str(shop), "--model", "loopback", "--api-base", model.url, "--no-strict", "--trials", "6",
        "--candidates", "4", "--synthetic-target", "24", "--allow-synthetic-test", *more,
    ]  # fmt: skip


def runs(places: Path) -> list[Path]:
    return sorted((places / "runs").glob("run_*"))


def summary_of(folder: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((folder / "orchestration_summary.json").read_text())
    return summary


def test_a_better_program_is_found_judged_and_deployed_and_is_the_next_baseline(
    shop: Path, places: Path, oracle: Oracle, capsys: pytest.CaptureFixture[str]
) -> None:
    with LoopbackModel(skilled(oracle)) as model:
        assert main(arguments(shop, model, "--signatures", ONE)) == 0
        asked = model.calls
        first = capsys.readouterr()
        assert main(arguments(shop, model, "--signatures", ONE)) == 0
    earlier, later = runs(places)
    summary = summary_of(earlier)
    result = summary["signatures"][ONE]
    check_figures(result, asked)
    assert summary["success"] is True
    assert summary["error"] is None
    assert result["verdict"] == "deploy"
    assert result["deployed"] is True
    path = deployed_program(places / "programs", ONE)
    assert path is not None
    assert Path(result["module_path"]) == path
    program = read_program(path, ONE)
    assert program.model_snapshot == "loopback", "what the server said it is"
    assert program.scores.optimized == pytest.approx(result["optimized_score"])
    assert {name for demo in program.demos for name in demo} <= {field.name for field in program.fields}
    check_files(earlier)
    check_search(earlier, result)
    told = json.loads(first.out)
    assert told["verdicts"] == {ONE: "deploy"}
    assert "deploy, deployed" in first.err
    assert "train" in first.err
    assert "%|" not in first.err, "DSPy's own bars are kept out"
    again = summary_of(later)["signatures"][ONE]
    assert again["baseline"] == path.parent.name
    assert again["baseline_score"] > result["baseline_score"]
    assert again["dataset_examples"] >= result["dataset_examples"]


def check_figures(result: dict[str, Any], asked: int) -> None:
    """The figures agree with each other and with what the server saw."""
    low, high = result["improvement_ci"]
    assert 0 < low < result["improvement_percent"] < high
    ratio = 100 * (result["optimized_score"] - result["baseline_score"]) / result["baseline_score"]
    assert result["improvement_percent"] == pytest.approx(ratio)
    assert result["p_value"] <= 0.025
    assert result["n_test"] == sum(result["n_test_by_source"].values()) > 10
    assert result["n_failed"] == 0
    assert result["lm_calls"] == asked - 1, "all calls but the preflight's belong to the signature"
    assert result["collected"] == sum(result["collected_by_source"].values())
    assert result["validated"] == result["collected"] - result["duplicates"] - sum(result["rejected"].values())
    assert result["tokens"]["total_tokens"] > 0
    assert result["cost_usd"] is None, "nobody knows the price of a model at home"
    assert result["trials_used"] + result["trials_saved"] == 6
    assert result["token_ratio"] > 1, "demonstrations are paid for in every call"
    assert result["cost_ratio"] is None


def check_search(run: Path, result: dict[str, Any]) -> None:
    """How the search went, and the floor, which demonstrations with labels alone reach here as well."""
    assert result["optimizer"] == "mipro"
    assert result["trials_used"] + result["trials_saved"] == 6
    assert result["stopped"] is None
    assert result["floor_score"] > result["baseline_score"]
    assert result["beats_floor"] is not True
    assert "the floor, labelled examples alone" in result["verdict_reason"]
    lines = (run / "optimization_results" / ONE / "search.jsonl").read_text().splitlines()
    *looks, ended = map(json.loads, lines)
    assert [look["trial"] for look in looks] == list(range(result["trials_used"] + 1))
    assert ended["ended"] == result["search_ended"]
    page = (run / "report.html").read_text()
    assert f"mipro: {result['trials_used']} of 6 trials; {result['search_ended']}" in page
    assert "floor (labels alone)" in page


def test_several_optimizers_search_and_the_cheapest_of_the_best_is_tested(
    shop: Path, places: Path, oracle: Oracle, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--optimizer", "gepa,bootstrap-rs,labeled", "--plateau-trials", "2", "--no-floor", "--signatures", ONE)
    with LoopbackModel(skilled(oracle)) as model:
        assert main(arguments(shop, model, *flags)) == 0
    (run,) = runs(places)
    summary = summary_of(run)
    assert summary["config"]["optimizer"] == ["gepa", "bootstrap-rs", "labeled"]
    result = summary["signatures"][ONE]
    assert result["optimizer"] != "gepa", "its instructions say nothing here"
    assert (result["floor_score"], result["beats_floor"]) == (None, None)
    events = [
        json.loads(line) for line in (run / "optimization_results" / ONE / "search.jsonl").read_text().splitlines()
    ]
    (choice,) = [event for event in events if event["event"] == "choice"]
    (winner,) = [one for one in choice["contenders"] if one["chosen"]]
    assert winner["optimizer"] == result["optimizer"]
    program = json.loads((run / "optimization_results" / ONE / "program.json").read_text())
    assert program["optimizer"] == result["optimizer"]
    assert "is the cheapest that is not significantly worse on val" in capsys.readouterr().err


def test_a_model_to_reflect_is_checked_before_anything_is_spent(shop: Path, places: Path) -> None:
    with LoopbackModel(lambda prompt: dict.fromkeys(prompt.outputs, "Paris")) as model:
        flags = ["--reflection-model", "nobody/knows"]
        with pytest.raises(BadInputError, match="only gepa reflects"):
            main(arguments(shop, model, *flags))
        assert model.calls == 0
        with pytest.raises(FlywheelError, match="nobody/knows"):
            main(arguments(shop, model, *flags, "--optimizer", "gepa"))
        assert model.calls == 1, "the other model's own check"
    assert runs(places) == []


def check_files(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    assert {"collected_data", "validated_data", "quality_reports", "optimization_results", "report.html"} <= names
    assert len(list(read_calls(run / "calls.jsonl"))) > 50
    page = (run / "report.html").read_text()
    assert "default-src 'none'" in page
    assert "http" not in page.replace("http-equiv", "")
    evaluation = Evaluation.read(run / "optimization_results" / ONE / "evaluation.json")
    assert evaluation.test
    for facet in ("source", "difficulty", "category"):
        assert sum(part.n for part in evaluation.slices[facet].values()) == len(evaluation.test)
    assert evaluation.gains
    assert all(change.difference > 0 and change.optimized_answer for change in evaluation.gains)
    shown = {change.id for change in (*evaluation.gains, *evaluation.regressions)}
    assert not shown & {row.id for row in evaluation.test}, "what is shown is from the validation split"
    assert len(evaluation.after.messages) > len(evaluation.before.messages), "demonstrations are messages"
    assert evaluation.optimized_usage is not None


def test_the_test_split_never_reaches_the_optimizer(shop: Path, places: Path, oracle: Oracle) -> None:
    with LoopbackModel(skilled(oracle)) as model:
        assert main(arguments(shop, model, "--signatures", ONE)) == 0
        prompts = list(model.prompts)
    rows = json.loads((places / "data" / ONE / "latest" / "dataset.json").read_text())
    texts = {row["inputs"]["implementation"] for row in rows if row["split"] == "test"}
    (run,) = runs(places)
    searching = sum(call.stage in SEARCHING and not call.cached for call in read_calls(run / "calls.jsonl"))
    before_test = prompts[: 1 + searching]  # the preflight's call came first
    assert len(before_test) > 20
    seen = " ".join(json.dumps(prompt.body["messages"], ensure_ascii=False) for prompt in before_test)
    assert not [text for text in texts if json.dumps(text, ensure_ascii=False)[1:-1] in seen]


def test_quick_optimizes_one_and_scores_the_other_baselines(shop: Path, places: Path, oracle: Oracle) -> None:
    with LoopbackModel(skilled(oracle)) as model:
        assert main([*arguments(shop, model), "--quick", ONE]) == 0
    (run,) = runs(places)
    results = summary_of(run)["signatures"]
    assert results.keys() == FIVE
    for name, result in results.items():
        assert result["collected"] > 0
        assert result["baseline_score"] is not None
        if name != ONE:
            assert result["verdict"] is None
            assert result["verdict_reason"] == "not optimized: quick"
            assert 0 < result["n_test"] <= 10
    assert results[ONE]["optimized_score"] is not None


def test_with_temporal_holdout_the_newest_commits_are_the_test(
    places: Path, oracle: Oracle, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = itertools.count(-40)
    plain = repositories.commit

    def dated(*arguments: Any) -> None:
        moment = datetime.now(UTC) + timedelta(days=next(day))
        monkeypatch.setitem(repositories.ENVIRONMENT, "GIT_AUTHOR_DATE", moment.isoformat())
        plain(*arguments)

    monkeypatch.setattr(repositories, "commit", dated)
    shop = build_shop(places / "repository")
    with LoopbackModel(skilled(oracle)) as model:
        assert main([*arguments(shop, model), "--quick", ONE, "--signatures", ONE, "--temporal-holdout"]) == 0
    rows = json.loads((places / "data" / ONE / "latest" / "dataset.json").read_text())
    moments = sorted((r["metadata"]["authored_at"], r["split"]) for r in rows if "authored_at" in r["metadata"])
    # Half of them are to be test; the last group to go there need not fit exactly.
    assert {split for _, split in moments[-len(moments) // 3 :]} == {"test"}
    assert {split for _, split in moments} > {"test"}


def test_quick_all_optimizes_every_signature(shop: Path, places: Path, oracle: Oracle) -> None:
    with LoopbackModel(skilled(oracle)) as model:
        assert main([*arguments(shop, model), "--quick", "all", "--signatures", f"{ONE},validate_correctness"]) == 0
    (run,) = runs(places)
    results = summary_of(run)["signatures"]
    assert results.keys() == {ONE, "validate_correctness"}
    assert all(result["optimized_score"] is not None for result in results.values())


def test_a_signature_of_ones_own_goes_through_every_stage(
    shop: Path, places: Path, oracle: Oracle, sixth_signature: Path
) -> None:
    own = ["--signature-file", str(sixth_signature), "--signatures", "estimate_size", "--synthetic-target", "60"]
    with LoopbackModel(skilled(oracle)) as model:
        assert main([*arguments(shop, model), *own]) == 0
    (run,) = runs(places)
    result = summary_of(run)["signatures"]["estimate_size"]
    assert result["collected_by_source"]["git"] > 0
    assert result["collected_by_source"]["synthetic"] > 0
    assert result["quality_gates"]["verdict"] in {"accept", "warn"}
    assert result["dataset_version"] is not None
    assert result["optimized_score"] > result["baseline_score"]
    assert result["verdict"] == "deploy"
    path = deployed_program(places / "programs", "estimate_size")
    assert path is not None
    assert read_program(path).fields[0].type == "{wish: str, background: str}"


def test_strict_gates_reject_and_say_so(
    shop: Path, places: Path, oracle: Oracle, capsys: pytest.CaptureFixture[str]
) -> None:
    with LoopbackModel(oracle) as model:
        strict = [flag for flag in arguments(shop, model, "--signatures", ONE) if flag != "--no-strict"]
        # Without the synthetic half nearly everything comes from git: more than 80 % from one source.
        code = main([*strict, "--synthetic-target", "1"])
        assert model.calls == 1
    (run,) = runs(places)
    summary = summary_of(run)
    assert code == 1
    assert summary["success"] is False
    assert summary["error"].startswith(f"Quality gates failed: {ONE} ")
    assert summary["signatures"][ONE]["quality_gates"]["verdict"] == "reject"
    assert "quality_gates: reject, reason: " in capsys.readouterr().err
    assert not (places / "data" / ONE / "latest").exists()


def test_failed_answers_are_counted_not_scored(shop: Path, places: Path, oracle: Oracle) -> None:
    def answer(prompt: Prompt) -> dict[str, Any] | str:
        broken = oracle.rows(ONE, "test")[:2]
        asked = words(prompt.inputs.get("implementation", ""))
        return (
            "no fields at all"
            if asked in {words(row["inputs"]["implementation"]) for row in broken}
            else oracle(prompt)
        )

    with LoopbackModel(answer) as model:
        assert main(arguments(shop, model, "--signatures", ONE)) == 0
    (run,) = runs(places)
    result = summary_of(run)["signatures"][ONE]
    assert result["n_failed"] >= 2
    assert result["baseline_score"] == pytest.approx(1.0), "a perfect model that fails sometimes is still perfect"
    assert result["verdict"] == "reject", "nothing is better than perfect"


def test_with_start_ab_a_better_program_is_rolled_out_and_deployed_at_the_end(
    shop: Path, places: Path, oracle: Oracle, capsys: pytest.CaptureFixture[str]
) -> None:
    with LoopbackModel(skilled(oracle)) as model:
        given = arguments(shop, model, "--signatures", ONE, "--start-ab", "--experiments-dir", str(places / "ab"))
        assert main(given) == 0
        assert main([*given, "--seed", "4", "--min-improvement", "0"]) == 0
    earlier, later = (summary_of(run)["signatures"][ONE] for run in runs(places))
    assert earlier["verdict"] == "deploy"
    assert earlier["deployed"] is False
    assert deployed_program(places / "programs", ONE) is None
    name = earlier["experiment_id"]
    experiment = json.loads((places / "ab" / f"experiment_{name}.json").read_text())
    assert (experiment["status"], experiment["candidate_traffic_percent"]) == ("running", 10)
    assert experiment["candidate_module"] == earlier["module_path"]
    assert read_program(Path(experiment["baseline_module"]), ONE).optimizer == "plain"
    assert (places / "programs" / ONE / "latest" / "program.json").resolve() != Path(experiment["baseline_module"])
    assert later["experiment_id"] is None, "one rollout at a time"
    assert f"not rolled out: {ONE}: experiment '{name}' is live on it" in later["verdict_reason"]
    assert f"deploy, rolled out as {name}" in capsys.readouterr().err
    where = ["--experiments-dir", str(places / "ab"), "--programs-dir", str(places / "programs")]
    assert ab_testing_framework.main(["promote", "--experiment-id", name, "--to", "100", *where]) == 0
    path = deployed_program(places / "programs", ONE)
    assert str(path) == earlier["module_path"]


def test_a_better_program_that_takes_much_longer_is_not_deployed(shop: Path, places: Path, oracle: Oracle) -> None:
    able = skilled(oracle)

    def slow_with_demos(prompt: Prompt) -> Any:
        threading.Event().wait(0.3 if prompt.demos else 0)
        return able(prompt)

    with LoopbackModel(slow_with_demos) as model:
        assert main(arguments(shop, model, "--signatures", ONE, "--max-latency-growth", "50")) == 0
    (run,) = runs(places)
    result = summary_of(run)["signatures"][ONE]
    assert result["verdict"] == "inconclusive"
    assert result["verdict_reason"].startswith("too expensive: +")
    assert result["latency_delta_ms"] > 50
    assert result["improvement_ci"][0] > 0
    assert deployed_program(places / "programs", ONE) is None


def test_a_better_program_that_costs_much_more_is_not_deployed_unless_that_is_accepted(
    shop: Path, places: Path, oracle: Oracle, monkeypatch: pytest.MonkeyPatch
) -> None:
    prices = places / "prices.json"
    prices.write_text('{"openai/loopback": {"input": 1.0, "output": 2.0}}')
    monkeypatch.setenv("FLYWHEEL_PRICES", str(prices))
    with LoopbackModel(skilled(oracle)) as model:
        assert main(arguments(shop, model, "--signatures", ONE)) == 0
        accepted = ("--max-cost-growth", "20", "--no-retest")
        assert main(arguments(shop, model, "--signatures", ONE, *accepted)) == 0
    earlier, later = (summary_of(run)["signatures"][ONE] for run in runs(places))
    assert earlier["verdict"] == "inconclusive"
    assert earlier["verdict_reason"].startswith("too expensive: ")
    assert earlier["cost_ratio"] > 1.5
    assert earlier["cost_delta"] > 0
    assert earlier["improvement_ci"][0] > 0
    assert earlier["cost_usd"] > 0
    assert later["verdict"] == "deploy"


def test_a_timeout_is_told_in_the_manuals_words(shop: Path, places: Path, oracle: Oracle) -> None:
    with LoopbackModel(oracle, latency=0.05) as model:
        assert main(arguments(shop, model, "--signatures", ONE, "--timeout", "0.0001", "--threads", "1")) == 1
    (run,) = runs(places)
    summary = summary_of(run)
    assert summary["error"] == "optimization timed out after 0.0001 hours"
    assert summary["signatures"][ONE]["verdict"] is None


def test_sigterm_leaves_a_summary(shop: Path, places: Path, oracle: Oracle) -> None:
    with LoopbackModel(oracle, latency=0.05) as model:
        command = [sys.executable, str(SCRIPT), *arguments(shop, model, "--signatures", ONE, "--trials", "200")]
        with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
            assert process.stderr is not None
            for line in process.stderr:
                if "optimize validate_completeness" in line:
                    process.send_signal(signal.SIGTERM)
                    break
            process.stderr.read()
            assert process.wait(60) == 128 + signal.SIGTERM
    (run,) = runs(places)
    summary = summary_of(run)
    assert summary["error"] == "terminated"
    assert summary["success"] is False
    assert summary["end_time"] is not None
    assert summary["signatures"][ONE]["collected"] > 0


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        (["--repo-path", "{tmp}"], "git repository"),
        (["--signatures", "no_such"], "known: extract_requirements"),
        (["--quick", "no_such"], "unknown signature no_such"),
        (["--model", "nothing"], "expected <provider>/<name>"),
        (["--output-dir", "/proc/nowhere"], "/proc/nowhere"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(broken: list[str], expected: str, shop: Path, places: Path) -> None:
    given = [part.format(tmp=places) for part in broken]
    repository = [] if "--repo-path" in given else ["--repo-path", str(shop)]
    done = run_script([*repository, *given])
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("error: ")]) == 1
    assert runs(places) == []


def test_an_empty_repository_is_told(places: Path) -> None:
    (places / "empty").mkdir()
    git(places / "empty", "init", "-q")
    done = run_script(["--repo-path", str(places / "empty")])
    assert done.returncode == 2
    assert "no commits" in done.stderr
    assert runs(places) == []


def test_zero_trials_are_refused(shop: Path, places: Path) -> None:
    done = run_script(["--repo-path", str(shop), "--trials", "0"])
    assert done.returncode == 2
    assert "must be at least 1" in done.stderr
    assert runs(places) == []


@pytest.mark.parametrize(("status", "expected"), [(401, "refuses the key"), (404, "does not know"), (500, "fails")])
def test_a_model_that_refuses_stops_before_anything_is_written(
    status: int, expected: str, shop: Path, places: Path, oracle: Oracle
) -> None:
    with LoopbackModel(oracle) as model:
        model.fail(status)
        done = run_script(arguments(shop, model))
        assert model.calls <= 2
    assert done.returncode == 2
    assert expected in done.stderr
    assert runs(places) == []
    assert not (places / "data").exists()


def test_a_missing_key_and_a_missing_model_are_told(shop: Path, places: Path) -> None:
    keyless = run_script(["--repo-path", str(shop), "--model", "anthropic/claude-sonnet-4-6"])
    assert keyless.returncode == 2
    assert "ANTHROPIC_API_KEY" in keyless.stderr
    modelless = run_script(["--repo-path", str(shop), "--require-model"])
    assert modelless.returncode == 2
    assert "no model" in modelless.stderr
    assert runs(places) == []


def run_script(given: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *given], capture_output=True, text=True, env=dict(os.environ), check=False
    )
