"""data_validator.py through its command line, on real files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import data_validator
from flywheel.base.errors import BadInputError

TEXTS = (
    "Let clients page through the bookings, twenty rows at a time",
    "Lock an account after five wrong passwords within ten minutes",
    "Send the invoice as a PDF to whoever paid for the order",
    "Show in the admin view when the nightly import ran last",
    "Delete uploaded pictures once nobody refers to them any more",
)
CONTEXT = "The service runs on two small servers behind a proxy and keeps its rows in PostgreSQL."


def extract(text: str, **metadata: Any) -> dict[str, Any]:
    return {
        "inputs": {"user_intent": text, "context": CONTEXT + " " + text[::-1]},
        "outputs": {"requirements": [f"{text}, as the service demands"], "priorities": [6]},
        "metadata": {"source": "git", "category": "api", **metadata},
    }


def complete(done: str, *, label: bool = True) -> dict[str, Any]:
    return {
        "inputs": {"implementation": done, "requirements": ["Cap the page size at twenty rows"]},
        "outputs": {
            "is_complete": label,
            "missing_requirements": [] if label else ["Cap the page size at twenty rows"],
            "explanation": "What was done does or does not cap the page size.",
        },
        "metadata": {"source": "git", "category": "api"},
    }


def write(path: Path, *items: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(items))
    return path


def run(*arguments: object) -> int:
    return data_validator.main([str(argument) for argument in arguments])


def rejected(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "rejected.jsonl").read_text().splitlines()]


def test_what_passes_is_completed_scored_and_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in/extract_requirements.json", *map(extract, TEXTS))
    write(tmp_path / "in/mixed.json", complete("The handler caps the page size before it asks the database."))
    output = tmp_path / "out"
    assert run("--input", tmp_path / "in", "--output", output) == 0
    examples = json.loads((output / "extract_requirements.json").read_text())
    assert [e["inputs"]["user_intent"] for e in examples] == list(TEXTS)
    assert all(e["metadata"]["difficulty"] == "easy" for e in examples)
    assert all(70 <= e["metadata"]["quality_score"] <= 100 for e in examples)
    assert {path.name for path in output.iterdir()} == {
        "extract_requirements.json",
        "validate_completeness.json",
        "rejected.jsonl",
        "reports",
    }
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert report == json.loads((output / "reports/validation_report.json").read_text())
    assert report["rejected"] == {}
    assert report["signatures"]["extract_requirements"]["accepted"] == 5
    assert "extract_requirements: 5 accepted (mean quality " in err


def test_each_reason_is_counted_and_each_reject_kept_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = "AKIA" + "QZ7WJ3RT5YPLM2XN"
    items = [
        extract(TEXTS[0]),
        extract(TEXTS[0].replace("twenty", "thirty")),
        extract(f"{TEXTS[1]}, with the key {key}"),
        extract(TEXTS[2], quality_score=101),
        {**extract(TEXTS[3]), "signature": "nope"},
        extract(""),
        extract("half \ud800"),
        extract("x" * 200_000),
    ]
    first = write(tmp_path / "first.json", *items)
    done = "The handler caps the page size before it asks the database."
    second = write(tmp_path / "second.json", complete(done), complete(done, label=False), complete(done))
    output = tmp_path / "out"
    assert run("--input", first, second, "--output", output) == 0
    found = {(Path(r["file"]).name, r["index"]): r["reason"] for r in rejected(output)}
    assert found == {
        ("first.json", 1): "duplicate",
        ("first.json", 2): "secret_detected",
        ("first.json", 3): "not_an_example",
        ("first.json", 4): "unknown_signature",
        ("first.json", 5): "empty_field",
        ("first.json", 6): "not_unicode",
        ("first.json", 7): "too_long",
        ("second.json", 1): "conflicting_label",
        ("second.json", 2): "duplicate",
    }
    report = json.loads(capsys.readouterr().out)
    assert sum(report["rejected"].values()) == len(found)
    assert report["signatures"]["validate_completeness"] == {
        "accepted": 1,
        "rejected": {"conflicting_label": 1, "duplicate": 1},
        "mean_quality": report["signatures"]["validate_completeness"]["mean_quality"],
    }


def test_no_secret_stands_in_what_passed(tmp_path: Path) -> None:
    write(tmp_path / "extract_requirements.json", *(extract(f"{t}, ask jane.roe@corp-mail.org") for t in TEXTS[:2]))
    assert run("--input", tmp_path, "--output", tmp_path / "out") == 1
    assert [r["detail"] for r in rejected(tmp_path / "out")] == ["looks like: email address"] * 2


def test_a_clean_example_stays_although_an_unsound_one_came_first(tmp_path: Path) -> None:
    dirty = extract(f"{TEXTS[0]} (ask jane.roe@corp-mail.org)")
    write(tmp_path / "extract_requirements.json", dirty, extract(TEXTS[0]))
    assert run("--input", tmp_path, "--output", tmp_path / "out") == 0
    assert [r["reason"] for r in rejected(tmp_path / "out")] == ["secret_detected"]
    assert len(json.loads((tmp_path / "out/extract_requirements.json").read_text())) == 1


def test_when_nothing_passes_an_earlier_runs_file_does_not_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    good = write(tmp_path / "good/extract_requirements.json", extract(TEXTS[0]))
    bad = write(tmp_path / "bad/extract_requirements.json", {"inputs": 1})
    (tmp_path / "out").mkdir()
    (output / "notes.txt").write_text("mine")
    assert run("--input", good, "--output", output) == 0
    assert run("--input", bad, "--output", output) == 1
    assert json.loads((output / "extract_requirements.json").read_text()) == []
    assert (output / "notes.txt").read_text() == "mine"
    assert "no example passed" in capsys.readouterr().err


def test_only_the_signatures_asked_for_are_written(tmp_path: Path) -> None:
    write(tmp_path / "a.json", extract(TEXTS[0]), complete("It was done in the handler of the page."))
    assert run("--input", tmp_path, "--output", tmp_path / "out", "--signatures", "validate_completeness") == 0
    assert not (tmp_path / "out/extract_requirements.json").exists()
    assert (tmp_path / "out/validate_completeness.json").exists()


def test_validating_what_was_validated_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path / "extract_requirements.json", *map(extract, TEXTS))
    assert run("--input", tmp_path, "--output", tmp_path / "one") == 0
    assert run("--input", tmp_path / "one", "--output", tmp_path / "two") == 0
    one, two = ((tmp_path / n / "extract_requirements.json").read_text() for n in ("one", "two"))
    assert one == two


def test_a_folder_can_be_validated_in_place(tmp_path: Path) -> None:
    write(tmp_path / "extract_requirements.json", *map(extract, TEXTS), {"inputs": 1})
    assert run("--input", tmp_path, "--output", tmp_path) == 0
    assert run("--input", tmp_path, "--output", tmp_path) == 0
    assert rejected(tmp_path) == []


@pytest.mark.parametrize(
    ("category", "normal"),
    [
        ("Bug Fix", "bug-fix"),
        ("  API/v2 ", "api-v2"),
        ("???", "uncategorized"),
        (None, "uncategorized"),
        ("ÄÖ", "uncategorized"),
    ],
)
def test_categories_are_spelled_one_way(category: str | None, normal: str) -> None:
    assert data_validator.normal_category(category) == normal


def test_difficulty_follows_how_much_there_is_to_read(tmp_path: Path) -> None:
    items = [extract(TEXTS[n]) for n in range(4)]
    for item, words in zip(items, (10, 100, 200, 200), strict=True):
        item["inputs"]["context"] = " ".join(f"{item['inputs']['user_intent'][:3]}{n}" for n in range(words))
    items[3]["metadata"]["difficulty"] = "easy"
    write(tmp_path / "extract_requirements.json", *items)
    run("--input", tmp_path, "--output", tmp_path / "out")
    found = json.loads((tmp_path / "out/extract_requirements.json").read_text())
    assert [e["metadata"]["difficulty"] for e in found] == ["easy", "medium", "hard", "easy"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"inputs": NaN}]', r"line 1: not JSON \(NaN"),
        ("[" * 3000 + "]" * 3000, "nested too deeply"),
        ("", "Expecting value"),
        ("{}", "expected a JSON array of examples"),
    ],
)
def test_a_file_that_is_no_json_writes_nothing(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(BadInputError, match=rf"a\.json.*{message}"):
        run("--input", tmp_path, "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_from_windows_is_read(tmp_path: Path) -> None:
    (tmp_path / "extract_requirements.json").write_text(
        "\ufeff" + json.dumps([extract(TEXTS[0])], indent=1), newline="\r\n"
    )
    assert run("--input", tmp_path, "--output", tmp_path / "out") == 0
