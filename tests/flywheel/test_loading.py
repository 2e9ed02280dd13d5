from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from flywheel.base.errors import BadInputError
from flywheel.data.loading import load_examples
from flywheel.data.registry import all_signatures

if TYPE_CHECKING:
    from pathlib import Path

TABLE = all_signatures()
EXTRACT: dict[str, Any] = {
    "inputs": {"user_intent": "Add paging", "context": ""},
    "outputs": {"requirements": ["Return at most 20 rows"], "priorities": [6]},
}
COMPLETE: dict[str, Any] = {
    "inputs": {"implementation": "done", "requirements": ["it"]},
    "outputs": {"is_complete": True, "missing_requirements": [], "explanation": "seen"},
}


def write(path: Path, *items: Any) -> Path:
    path.write_text(json.dumps(items))
    return path


def test_sound_ones_and_rejects_are_told_apart_with_their_places(tmp_path: Path) -> None:
    broken = {**EXTRACT, "outputs": {**EXTRACT["outputs"], "priorities": [11]}}
    unknown = {**EXTRACT, "signature": "a\x1b[31m" + "x" * 200}
    a = write(tmp_path / "a.json", broken, EXTRACT, COMPLETE, 5, unknown)
    b = write(tmp_path / "validate_completeness.json", {"inputs": 1}, COMPLETE)
    loaded = load_examples([tmp_path], TABLE)
    assert {name: len(found) for name, found in loaded.examples.items()} == {
        "extract_requirements": 1,
        "validate_completeness": 2,
    }
    assert loaded.origins == {"extract_requirements": [(a, 1)], "validate_completeness": [(a, 2), (b, 1)]}
    assert [(r.reason, r.file, r.index) for r in loaded.rejected] == [
        ("out_of_range", str(a), 0),
        ("unknown_signature", str(a), 3),
        ("unknown_signature", str(a), 4),
        ("not_an_example", str(b), 0),
    ]
    assert loaded.rejected[1].detail == "names none, and its inputs match no single signature"
    assert loaded.rejected[2].detail.startswith("names 'a[31mxxx")
    assert len(loaded.rejected[2].detail) < 120
    assert {name: dict(counts) for name, counts in loaded.rejected_by_signature.items()} == {
        "extract_requirements": {"out_of_range": 1},
        "validate_completeness": {"not_an_example": 1},
    }


def test_one_signature_passes_over_the_files_of_others(tmp_path: Path) -> None:
    mixed = write(tmp_path / "mixed.json", EXTRACT, COMPLETE)
    other = write(tmp_path / "validate_completeness.json", COMPLETE)
    own = write(tmp_path / "own.json", EXTRACT)
    loaded = load_examples([tmp_path], TABLE, TABLE["extract_requirements"])
    assert list(loaded.examples) == ["extract_requirements"]
    assert loaded.passed_over == [mixed, other]
    assert loaded.files == [mixed, own, other]
    assert loaded.rejected == []


def test_a_missing_path_and_a_garbled_file_end_it(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no such file or folder"):
        load_examples([tmp_path / "none"], TABLE)
    (tmp_path / "a.json").write_text("[{]")
    with pytest.raises(BadInputError, match=r"a\.json, line 1: not JSON"):
        load_examples([tmp_path], TABLE)
