"""monitoring.py canary: a deployed program asked again, of a model on 127.0.0.1 that changes behind its back."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import dspy
import pytest
from tests.loopback import LoopbackModel, Prompt
from tests.oracle import Oracle

import dataset_manager
import synthetic_data_generator
from flywheel.base.canaries import CanarySet, read_scores
from flywheel.base.clock import iso, now
from flywheel.base.errors import BadInputError
from flywheel.base.programs import ProgramScores, deploy, deployed_program, publish
from flywheel.data.signatures import BUILT_IN
from flywheel.learning.program import build_program, to_envelope
from monitoring import main

if TYPE_CHECKING:
    from pathlib import Path

ONE = "validate_completeness"
SIGNATURE = next(signature for signature in BUILT_IN if signature.name == ONE)


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable, name in (
        ("OUTPUT_DIR", "runs"),
        ("AB_EXPERIMENTS_DIR", "experiments"),
        ("TRAINING_DATA_DIR", "data"),
        ("OPTIMIZED_MODULES_DIR", "programs"),
        ("TELEMETRY_DIR", "telemetry"),
        ("MONITORING_STATE", "state.json"),
        ("ALERT_DIR", "alerts"),
        ("MONITORING_CONFIG", "config.json"),
    ):
        monkeypatch.setenv(variable, str(tmp_path / name))
    for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "FLYWHEEL_MODEL", "FLYWHEEL_API_BASE", "FLYWHEEL_SIGNATURES"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "config.json").write_text(json.dumps({"log_alerts_enabled": False}))
    return tmp_path


def dataset(root: Path, target: int = 40) -> list[dict[str, Any]]:
    raw = str(root / "raw")
    assert synthetic_data_generator.main(["--target", str(target), "--signatures", ONE, "--output", raw]) == 0
    stored = ["create", "--signature", ONE, "--examples", f"{raw}/{ONE}.json", "--source", "synthetic"]
    assert dataset_manager.main(stored) == 0
    rows: list[dict[str, Any]] = json.loads((root / "data" / ONE / "latest" / "dataset.json").read_text())
    return rows


def deployed(root: Path, demo: dict[str, Any], model: str = "openai/loopback") -> Path:
    program = build_program(SIGNATURE)
    program.demos = [dspy.Example(**demo["inputs"], **demo["outputs"], augmented=True)]
    envelope = to_envelope(
        program, SIGNATURE, adapter="ChatAdapter", model=model, model_snapshot=None, model_parameters={},
        optimizer="mipro", seed=0, dataset_version=(root / "data" / ONE / "latest").resolve().name, dataset_hash="h",
        run_id="run_20260101_000000", created=iso(now()), scores=ProgramScores(0.4, 0.5, 25.0, (1.0, 40.0), 50),
    )  # fmt: skip
    path = publish(root / "programs", envelope, now())
    deploy(root / "programs", ONE, path.parent.name)
    found = deployed_program(root / "programs", ONE)
    assert found is not None
    return found.parent


class Fickle:
    """Right at first; of late it knows better."""

    def __init__(self, oracle: Oracle) -> None:
        self.oracle = oracle
        self.right = True

    def __call__(self, prompt: Prompt) -> dict[str, Any]:
        return self.oracle(prompt) if self.right else self.oracle.opposite(prompt)


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    capsys.readouterr()
    code = main(["canary", *arguments])
    return code, json.loads(capsys.readouterr().out)


def test_a_model_that_changes_behind_a_program_is_found_out(
    places: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = dataset(places)
    demo = next(row for row in rows if row["split"] == "train")
    folder = deployed(places, demo)
    fickle = Fickle(Oracle(places / "data"))
    started = f"{sys.executable} -c \"open('{places}/started', 'a').write('x')\""
    with LoopbackModel(fickle) as model:
        monkeypatch.setenv("FLYWHEEL_API_BASE", model.url)
        model.snapshot = "loopback-1"
        code, first = told(capsys, "--exit-code", "--on-drift", started)
        assert (code, first["findings"], first["on_drift"]) == (0, [], None)
        score = first["canaries"][ONE]
        assert (score["score"], score["answered"], score["model_snapshot"]) == (1.0, score["asked"], "loopback-1")
        assert model.calls == score["lm_calls"] == score["asked"] + 1

        # The frozen examples: never of the test split, never the one shown as a demonstration.
        canary = CanarySet.read(folder)
        assert canary is not None
        splits = {row["id"]: row["split"] for row in rows}
        assert {splits[item.id] for item in canary.items} <= {"train", "val"}
        assert demo["id"] not in {item.id for item in canary.items}
        assert 8 <= len(canary.items) <= 20

        # Nothing is taken from a cache: each round asks the model all of it again.
        model.prompts.clear()
        assert told(capsys)[1]["findings"] == []
        assert model.calls == score["lm_calls"]

        fickle.right, model.snapshot = False, "loopback-2"
        code, drifted = told(capsys, "--exit-code", "--on-drift", started)
        assert code == 1
        assert [f["title"] for f in drifted["findings"]] == ["Deployed Program Degraded", "Model Changed"]
        assert drifted["told"] == 2
        assert drifted["on_drift"] == 0
        assert drifted["canaries"][ONE]["score"] < 0.5
        # The alert is told once, and one program starts one cycle.
        again = told(capsys, "--on-drift", started)[1]
        assert (len(again["findings"]), again["told"], again["on_drift"]) == (2, 0, None)
        assert (places / "started").read_text() == "x"
    assert CanarySet.read(folder) == canary
    assert [score.mean == 1.0 for score in read_scores(folder)] == [True, True, False, False]
    titles = {json.loads(path.read_text())["title"] for path in (places / "alerts").iterdir()}
    assert titles == {"Deployed Program Degraded", "Model Changed"}
    assert main(["check-all"]) == 0
    assert "canary_score_ratio" in metrics(capsys)


def metrics(capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(["metrics"]) == 0
    return capsys.readouterr().out


def test_a_cycle_that_does_not_start_is_tried_again(
    places: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = dataset(places)
    deployed(places, rows[0])
    fickle = Fickle(Oracle(places / "data"))
    with LoopbackModel(fickle) as model:
        monkeypatch.setenv("FLYWHEEL_API_BASE", model.url)
        told(capsys)
        fickle.right = False
        assert [told(capsys, "--on-drift", "false")[1]["on_drift"] for _ in range(2)] == [1, 1]
        with pytest.raises(BadInputError, match="--on-drift /no/such"):
            main(["canary", "--on-drift", "/no/such program"])


def test_a_server_that_fails_is_no_score_and_no_drift(
    places: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = deployed(places, dataset(places)[0])
    with LoopbackModel(lambda _: "x") as model:
        model.fail(401)
        monkeypatch.setenv("FLYWHEEL_API_BASE", model.url)
        code, found = told(capsys)
    assert code == 2
    assert "refuses the key" in found["canaries"][ONE]["error"]
    assert found["findings"] == []
    assert read_scores(folder) == ()


def test_too_few_examples_and_strangers_are_said(places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = told(capsys)
    assert (code, found["canaries"]) == (0, {})
    rows = dataset(places, 8)
    deployed(places, rows[0])
    code, found = told(capsys)
    assert code == 2
    assert "at least 8 are needed" in found["canaries"][ONE]["error"]
    (places / "programs" / ONE).rename(places / "programs" / "unheard_of")
    code, found = told(capsys)
    assert code == 2
    assert "--signature-file" in found["canaries"]["unheard_of"]["error"]
