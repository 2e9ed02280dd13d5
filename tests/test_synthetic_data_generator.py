"""synthetic_data_generator.py through its command line; its templates have their own tests."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

import synthetic_data_generator as generator
from flywheel.base.errors import BadInputError
from flywheel.data.duplicates import input_text, near_pairs, repeats
from flywheel.data.examples import Example
from flywheel.data.registry import all_signatures
from flywheel.data.scenario import DIFFICULTY_TARGET
from flywheel.data.schema import problems

if TYPE_CHECKING:
    from pathlib import Path

TABLE = all_signatures()
TARGET = 20


def run(*arguments: object) -> int:
    return generator.main([str(argument) for argument in arguments])


@pytest.fixture(scope="module", name="examples")
def examples_fixture(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Example]]:
    """One run's examples by signature, read from its files."""
    output = tmp_path_factory.mktemp("synthetic")
    assert run("--target", TARGET, "--output", output) == 0
    assert {path.stem for path in output.iterdir()} == TABLE.keys()
    return {
        path.stem: [Example.model_validate(item) for item in json.loads(path.read_text())] for path in output.iterdir()
    }


by_name = pytest.mark.parametrize("name", TABLE)


@by_name
def test_there_are_as_many_as_wanted_and_all_are_sound(name: str, examples: dict[str, list[Example]]) -> None:
    assert len(examples[name]) == TARGET
    for example in examples[name]:
        assert list(problems(TABLE[name], example.inputs, example.outputs)) == []
        assert example.metadata.source == "synthetic"
        assert example.metadata.quality_score is not None
        assert example.metadata.quality_score >= generator.MIN_QUALITY
        assert example.metadata.group == f"template:{example.extra('template')}"
        assert example.extra("seed") == "0"


@by_name
def test_difficulty_label_and_variety_are_on_target(name: str, examples: dict[str, list[Example]]) -> None:
    levels = Counter(str(example.metadata.difficulty) for example in examples[name])
    assert all(abs(levels[level] / TARGET - share) <= 0.1 for level, share in DIFFICULTY_TARGET.items())
    assert len({example.metadata.category for example in examples[name]}) >= 3
    label = TABLE[name].label
    if label is not None:
        share = sum(bool(example.outputs[label]) for example in examples[name]) / TARGET
        assert abs(share - TABLE[name].label_share) <= 0.1


@by_name
def test_no_example_repeats_another(name: str, examples: dict[str, list[Example]]) -> None:
    pairs = near_pairs([input_text(TABLE[name], example.inputs) for example in examples[name]], generator.SAME)
    assert repeats(TABLE[name], examples[name], pairs) == {}


@by_name
def test_no_slot_is_left_open(name: str, examples: dict[str, list[Example]]) -> None:
    assert not [e for e in examples[name] if "${" in json.dumps([e.inputs, e.outputs])]


def written(output: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in output.iterdir()}


def test_equal_seeds_give_equal_files_and_others_others(tmp_path: Path) -> None:
    for name, seed in (("one", "a"), ("same", "a"), ("other", "b")):
        run(
            "--target",
            5,
            "--output",
            tmp_path / name,
            "--seed",
            seed,
            "--signatures",
            "validate_intent,extract_requirements",
        )
    assert written(tmp_path / "one") == written(tmp_path / "same")
    assert written(tmp_path / "one").keys() == {"validate_intent.json", "extract_requirements.json"}
    one, other = (
        {json.dumps(item["inputs"]) for item in json.loads((tmp_path / n / "validate_intent.json").read_text())}
        for n in ("one", "other")
    )
    assert not one & other


def test_a_shortfall_is_told_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--target", 100_000, "--output", tmp_path / "out", "--signatures", "validate_correctness") == 0
    err = capsys.readouterr().err
    found = len(json.loads((tmp_path / "out/validate_correctness.json").read_text()))
    assert 24 < found < 100_000
    assert f"validate_correctness: collected: {found} examples, target: 100000; 24 templates give" in err


SILENT = """
from flywheel.data.signatures import Field, Signature
SIGNATURES = [Signature("silent", (Field("a", "str", "x"),), (Field("b", "str", "x"),), "x", lambda *_: 0.0,
                        lambda _scenario: None)]
"""


def test_a_signature_that_no_template_speaks_of_is_1_and_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "silent.py"
    path.write_text(SILENT)
    path.chmod(0o600)
    output = tmp_path / "out"
    assert run("--target", 3, "--output", output, "--signature-file", path, "--signatures", "silent") == 1
    assert json.loads((output / "silent.json").read_text()) == []
    assert "its project() returned None for every scenario" in capsys.readouterr().err


def test_files_of_other_names_stay(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "validate_intent.json").write_text("[]")
    run("--target", 2, "--output", tmp_path, "--signatures", "validate_intent")
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert len(json.loads((tmp_path / "validate_intent.json").read_text())) == 2


@pytest.mark.parametrize("target", ["0", "-1", "many", "1.5"])
def test_a_target_below_one_is_usage(tmp_path: Path, target: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run("--target", target, "--output", tmp_path / "out")
    assert caught.value.code == 2
    assert f"argument --target: '{target}'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"), [("x = 1\ny = = 2", "line 2"), ("x = 1", r"expected TOML with \[\[template\]\] entries")]
)
def test_garbled_templates_are_the_users_error(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "templates.toml").write_text(content)
    with pytest.raises(BadInputError, match=rf"templates\.toml: .*{message}"):
        generator.read_templates(tmp_path / "templates.toml")


def test_scenarios_are_true_to_their_own_facts() -> None:
    """What is done is told, what is missing is not, and shown code is of something that was done."""
    templates: list[dict[str, Any]] = generator.read_templates()
    done = {}
    for scenario in generator.scenarios(templates, "facts", 3):
        met = [r for r in scenario.requirements if r.met]
        assert all(r.how in scenario.implementation for r in met)
        assert not any(r.how in scenario.implementation for r in scenario.missing)
        assert scenario.claim in {r.text for r in met}
        assert len(scenario.requirements) == generator.PARTS[scenario.difficulty]
        if scenario.defects:
            assert scenario.code_sample != scenario.defects[0].fix
        done[scenario.difficulty] = True
    assert done.keys() == {"easy", "medium", "hard"}
