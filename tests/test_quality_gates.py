"""quality_gates.py: its verdicts, its advice, and its command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import quality_gates
from flywheel.base.errors import BadInputError
from flywheel.data.examples import Example, Metadata, write_examples
from flywheel.data.registry import all_signatures
from flywheel.data.signatures.types import Gate
from quality_gates import GATES, evaluate

if TYPE_CHECKING:
    import random
    from pathlib import Path

TABLE = all_signatures()
COMPLETENESS = TABLE["validate_completeness"]


def example(
    *, quality: float = 90.0, difficulty: Any = "medium", category: str = "api", source: str = "git", label: bool = True
) -> Example:
    return Example(
        inputs={"implementation": "It was done.", "requirements": ["it"]},
        outputs={"is_complete": label, "missing_requirements": [] if label else ["it"], "explanation": "It was seen."},
        metadata=Metadata(quality_score=quality, difficulty=difficulty, category=category, source=source),
    )


def balanced(count: int = 20, **changes: Any) -> list[Example]:
    """Exactly on every target of validate_completeness."""
    return [
        example(
            **{
                "difficulty": (
                    "easy",
                    "medium",
                    "medium",
                    "hard",
                    "easy",
                    "medium",
                    "medium",
                    "hard",
                    "easy",
                    "medium",
                )[n % 10],
                "category": ("api", "auth", "data")[n % 3],
                "source": "git" if n % 5 < 3 else "synthetic",
                "label": n % 5 < 2,
                **changes,
            }
        )
        for n in range(count)
    ]


EXAMPLES = st.lists(
    st.builds(
        example,
        quality=st.sampled_from([50.0, 74.9, 75.0, 100.0]),
        difficulty=st.sampled_from(["easy", "medium", "hard"]),
        category=st.sampled_from(["api", "auth", "data", "ui"]),
        source=st.sampled_from(["git", "synthetic", "telemetry"]),
        label=st.booleans(),
    ),
    min_size=1,
    max_size=60,
)


def run(*arguments: object) -> int:
    return quality_gates.main([str(argument) for argument in arguments])


def reasons(examples: list[Example], **changes: Any) -> list[str]:
    return evaluate(COMPLETENESS, [e.with_metadata(**changes) for e in examples], strict=True).reasons


def test_thresholds_are_the_specifications() -> None:
    assert {name: gate.min_quality for name, gate in GATES.items()} == {
        "extract_requirements": 70.0,
        "validate_intent": 70.0,
        "validate_completeness": 75.0,
        "validate_correctness": 75.0,
        "generate_guidance": 80.0,
    }
    assert [name for name, gate in GATES.items() if gate.check_label] == ["validate_completeness"]
    for gate in GATES.values():
        assert (gate.difficulty, gate.tolerance) == ({"easy": 0.3, "medium": 0.5, "hard": 0.2}, 0.10)
        assert (gate.min_categories, gate.max_source_share) == (3, 0.80)
    assert GATES.keys() == TABLE.keys()


def test_what_is_on_target_is_accepted() -> None:
    report = evaluate(COMPLETENESS, balanced(), strict=True)
    assert (report.verdict, report.reasons) == ("accept", [])
    assert [check.name for check in report.checks] == [
        "quality_score",
        "difficulty_easy",
        "difficulty_medium",
        "difficulty_hard",
        "completeness",
        "categories",
        "sources",
    ]


@pytest.mark.parametrize(
    ("examples", "reason"),
    [
        ([*balanced(19), example(quality=65.0, difficulty="hard")], "quality_score=65.0 < 75.0"),
        (balanced(difficulty="easy"), "difficulty_easy=1.00 > 0.40"),
        (balanced(difficulty="hard"), "difficulty_medium=0.00 < 0.40"),
        (balanced(label=True), "completeness=1.00 > 0.50"),
        (balanced(label=False), "completeness=0.00 < 0.30"),
        (balanced(category="api"), "categories=1 < 3"),
        (balanced(source="git"), "source_git=1.00 > 0.80"),
    ],
)
def test_each_broken_threshold_rejects_with_its_reason(examples: list[Example], reason: str) -> None:
    strict, lax = (evaluate(COMPLETENESS, examples, strict=strict) for strict in (True, False))
    assert reason in strict.reasons == lax.reasons
    assert (strict.verdict, lax.verdict) == ("reject", "warn")


@pytest.mark.parametrize(
    ("count", "total", "verdict"),
    [
        (19, 100, "fail"),
        (20, 100, "pass"),
        (40, 100, "pass"),
        (41, 100, "fail"),
        (9, 22, "pass"),  # 0.41 is as near to 0.40 as whole examples come
        (10, 22, "fail"),
        (0, 19, "too small to judge"),
    ],
)
def test_the_tolerance_is_inclusive_and_half_an_example_is_no_deviation(count: int, total: int, verdict: str) -> None:
    assert quality_gates._share("x", count, total, 0.3, 0.1, "x").verdict == verdict


@given(EXAMPLES, st.randoms())
def test_the_order_does_not_count(examples: list[Example], rng: random.Random) -> None:
    shuffled = rng.sample(examples, len(examples))
    one, other = (evaluate(COMPLETENESS, batch, strict=True) for batch in (examples, shuffled))
    assert [(c.name, c.value, c.verdict) for c in one.checks] == [(c.name, c.value, c.verdict) for c in other.checks]
    assert one.verdict == other.verdict


@given(EXAMPLES)
def test_strictness_changes_the_verdict_and_nothing_else(examples: list[Example]) -> None:
    strict, lax = (evaluate(COMPLETENESS, examples, strict=value) for value in (True, False))
    assert strict.checks == lax.checks
    assert strict.verdict == ("reject" if lax.verdict == "warn" else "accept")
    assert (lax.verdict == "accept") == (not lax.reasons)


@given(EXAMPLES)
def test_below_twenty_no_share_is_held_against_a_batch(examples: list[Example]) -> None:
    few = examples[:19]
    failed = {c.name for c in evaluate(COMPLETENESS, few, strict=True).checks if c.verdict == "fail"}
    assert failed <= {"quality_score", "categories"}


@given(st.integers(20, 300), st.data(), st.sampled_from([(0.3, 0.1), (0.5, 0.1), (0.2, 0.1), (1.0, 0.0), (0.0, 0.0)]))
def test_the_advice_is_just_enough_to_pass(total: int, data: st.DataObject, target: tuple[float, float]) -> None:
    count = data.draw(st.integers(0, total))
    check = quality_gates._share("x", count, total, *target, "x")
    if check.verdict == "pass" or check.advice.startswith(("only", "no ")):
        return
    more = int(check.advice.split()[0])
    grows = 0 if "other than" in check.advice else 1
    after = quality_gates._share("x", count + grows * more, total + more, *target, "x")
    assert after.verdict == "pass"
    enough = (count + grows * (more - 1)) / (total + more - 1)
    low, high = target[0] - target[1], target[0] + target[1]
    assert enough < low + 1e-9 or enough > high - 1e-9


@given(EXAMPLES)
def test_the_advice_on_sources_is_enough_to_pass(examples: list[Example]) -> None:
    check = quality_gates._source(Gate(), examples)
    if check.verdict == "fail":
        more = int(check.advice.split()[0])
        grown = [*examples, *(example(source=f"other{n}") for n in range(more))]
        assert quality_gates._source(Gate(), grown).verdict == "pass"


def test_a_gate_that_allows_nothing_divides_by_nothing() -> None:
    check = quality_gates._source(Gate(max_source_share=0.0), balanced(source="git"))
    assert (check.verdict, check.advice) == ("fail", "only sources other than git")


def test_a_batch_of_none_is_no_batch() -> None:
    report = evaluate(COMPLETENESS, [], strict=False)
    assert (report.verdict, report.reasons) == ("warn", ["examples=0 < 1"])


def test_only_examples_above_the_minimum_are_passed_on() -> None:
    batch = [example(quality=value) for value in (74.9, 75.0, 75.1)]
    assert quality_gates.above_minimum(COMPLETENESS, batch) == batch[1:]


@pytest.mark.parametrize(("flags", "code"), [(["--strict"], 1), (["--no-strict"], 0), ([], 0)])
def test_the_command_rejects_only_in_strict_mode(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], code: int
) -> None:
    write_examples(tmp_path / "validate_completeness.json", balanced(quality=65.0))
    report = tmp_path / "report.json"
    assert run("--input", tmp_path, "--signature", "validate_completeness", "--report", report, *flags) == code
    out, err = capsys.readouterr()
    assert json.loads(out) == json.loads(report.read_text())
    (found,) = json.loads(out)
    assert found["verdict"] == ("reject" if code else "warn")
    assert found["reasons"] == ["quality_score=65.0 < 75.0"]
    assert f"quality_gates: {found['verdict']}, reason: quality_score=65.0 < 75.0" in err
    assert "to pass: drop or mend the 20 example(s) below it" in err


def test_all_signatures_that_are_found_are_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_examples(tmp_path / "validate_completeness.json", balanced())
    write_examples(tmp_path / "more.json", balanced(4))
    assert run("--input", tmp_path, "--strict") == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["signature"], found["examples"], found["verdict"]) == ("validate_completeness", 24, "accept")


def test_examples_without_a_score_are_scored_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = [
        e.model_copy(update={"metadata": e.metadata.model_copy(update={"quality_score": None})}) for e in balanced()
    ]
    write_examples(tmp_path / "validate_completeness.json", bare)
    run("--input", tmp_path)
    (found,) = json.loads(capsys.readouterr().out)
    assert found["checks"][0]["value"] > 0


def test_nothing_to_judge_is_said_and_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.json").write_text('[{"inputs": {}}, 5]')
    assert run("--input", tmp_path) == 1
    out, err = capsys.readouterr()
    assert json.loads(out) == []
    assert "left out 2 malformed example(s): 2 unknown_signature" in err
    assert "no examples to judge in 1 file(s)" in err
    assert run("--input", tmp_path, "--signature", "validate_intent") == 1
    assert json.loads(capsys.readouterr().out)[0]["reasons"] == ["examples=0 < 1"]


def test_a_hostile_source_cannot_command_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_examples(tmp_path / "validate_completeness.json", balanced(source="\x1b[2Jgit\x07"))
    run("--input", tmp_path)
    assert "\x1b" not in "".join(capsys.readouterr())


def test_a_report_that_cannot_be_written_names_the_report(tmp_path: Path) -> None:
    write_examples(tmp_path / "validate_completeness.json", balanced())
    with pytest.raises(FileNotFoundError) as caught:
        run("--input", tmp_path, "--report", tmp_path / "none/report.json")
    assert caught.value.filename == str(tmp_path / "none/report.json")


def test_an_unknown_signature_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="unknown signature nope; known: extract_requirements, "):
        run("--input", tmp_path, "--signature", "nope")


def test_strict_and_no_strict_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run("--input", "x", "--strict", "--no-strict")
    assert caught.value.code == 2
    assert "not allowed with argument" in capsys.readouterr().err


def test_rebalancing_writes_what_passes_and_what_it_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    surplus = [example(difficulty="easy", label=True, quality=80.0) for _ in range(40)]
    write_examples(tmp_path / "in.json", [*balanced(40), *surplus, example(quality=10.0)])
    output = tmp_path / "out"
    flags = ["--signature", "validate_completeness", "--strict"]
    assert run("--input", tmp_path / "in.json", *flags) == 1
    capsys.readouterr()
    assert run("--input", tmp_path / "in.json", "--rebalance", "--output", output, *flags) == 0
    out, err = capsys.readouterr()
    (found,) = json.loads(out)
    assert found["verdict"] == "accept"
    assert found["dropped"] == {"quality_below_gate": 1, "surplus": 80 - found["examples"]}
    assert len(json.loads((output / "validate_completeness.json").read_text())) == found["examples"] >= 40
    rejected = [json.loads(line) for line in (output / "rejected.jsonl").read_text().splitlines()]
    assert [(r["index"], r["reason"], r["detail"]) for r in rejected] == [
        (r["index"], r["reason"], r["detail"]) for r in found["dropped_examples"]
    ]
    assert f"dropped  {found['dropped']['surplus']} surplus" in err


@pytest.mark.parametrize("lines", [True, False])
def test_examples_come_from_stdin_too(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    lines: bool,  # noqa: FBT001
) -> None:
    rows = [e.to_dict() for e in balanced()]
    text = "\n".join(map(json.dumps, rows)) if lines else json.dumps(rows)
    (tmp_path / "stdin").write_text(text)
    with (tmp_path / "stdin").open() as stream:
        monkeypatch.setattr("sys.stdin", stream)
        assert run("--input", "-", "--format", "text", "--strict") == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == "validate_completeness: 20 examples"
    assert out.splitlines()[-1] == "quality_gates: accept"
    assert err == ""


def test_what_is_wrong_on_stdin_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for content, message in ((b"{}\nhello", "stdin, line 2: not JSON"), (b"\xff", r"stdin: not UTF-8 text \(byte 0\)")):
        (tmp_path / "stdin").write_bytes(content)
        with (tmp_path / "stdin").open() as stream, monkeypatch.context() as patch:
            patch.setattr("sys.stdin", stream)
            with pytest.raises(BadInputError, match=message):
                run("--input", "-")


def test_an_output_without_rebalance_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run("--input", "x", "--output", "y")
    assert caught.value.code == 2
    assert "--output is for --rebalance" in capsys.readouterr().err


def test_a_hostile_text_report_cannot_command_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_examples(tmp_path / "validate_completeness.json", balanced(source="\x1b[2Jgit\x07"))
    run("--input", tmp_path, "--format", "text")
    assert "\x1b" not in "".join(capsys.readouterr())
