"""What other tools read from an export is what was stored."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import datasets
import dspy
import pytest
from pyarrow import parquet

from flywheel.base.errors import BadInputError
from flywheel.data import exports
from flywheel.data.registry import all_signatures
from flywheel.data.signatures.types import Field, Measure, Signature

if TYPE_CHECKING:
    from pathlib import Path

GUIDANCE = all_signatures()["generate_guidance"]
METRIC = (Measure("accuracy", "out", 1.0),)
ITEM = {"title": "Mend it", "description": "", "priority": "high", "code_example": "x = 1\n", "estimated_effort": "1 h"}


def row(number: int, split: str, **metadata: Any) -> dict[str, Any]:
    findings: dict[str, list[str]] = {"missing_requirements": [f"part {number}"], "correctness_issues": []}
    return {
        "inputs": {"review_findings": findings},
        "outputs": {"guidance": [ITEM] * number, "explanation": 'Because\u2028of "this", naïvely.'},
        "metadata": {"source": "git", "quality_score": 90.0, "group": f"g:{number}", **metadata},
        "id": f"{number:024d}",
        "split": split,
    }


# One has further keys that the others have not, one no guidance at all.
ROWS = [row(1, "train", commit_sha="abc"), row(2, "test", evidence=[1, "two"]), row(0, "test", difficulty="easy")]


def flat(stored: dict[str, Any]) -> dict[str, Any]:
    facts = {key: stored["metadata"].get(key) for key in ("source", "difficulty", "category", "quality_score", "group")}
    fields = {**stored["inputs"], **stored["outputs"]}
    return {"example_id": stored["id"], "split": stored["split"], **fields, "metadata": facts}


def test_jsonl_is_a_row_a_line() -> None:
    lines = exports.as_text(ROWS, GUIDANCE, "jsonl").split("\n")
    assert [json.loads(line) for line in lines[:-1]] == ROWS
    assert json.loads(exports.as_text(ROWS, GUIDANCE, "json")) == ROWS


def test_dspy_reconstructs_examples_with_their_inputs() -> None:
    value = json.loads(exports.as_text(ROWS, GUIDANCE, "dspy"))
    made = [
        dspy.Example(**e).with_inputs(*value["input_keys"]) for split in ("train", "val", "test") for e in value[split]
    ]
    assert [example.inputs().toDict() for example in made] == [stored["inputs"] for stored in ROWS]
    assert [example.labels().toDict() for example in made] == [stored["outputs"] for stored in ROWS]
    assert [len(value[split]) for split in ("train", "val", "test")] == [1, 0, 2]


def test_the_datasets_library_loads_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    target = tmp_path / "out"
    # A split that an earlier export had is gone.
    exports.export([row(1, "val")], GUIDANCE, "hf", target)
    exports.export(ROWS, GUIDANCE, "hf", target)
    assert sorted(path.name for path in target.iterdir()) == ["README.md", "test.jsonl", "train.jsonl"]
    loaded = datasets.load_dataset(str(target), cache_dir=str(tmp_path / "cache"))
    assert {split: list(part) for split, part in loaded.items()} == {
        "train": [flat(ROWS[0])],
        "test": [flat(ROWS[1]), flat(ROWS[2])],
    }


def test_parquet_has_the_columns_of_hf(tmp_path: Path) -> None:
    target = tmp_path / "out.parquet"
    exports.export(ROWS, GUIDANCE, "parquet", target)
    assert parquet.read_table(target).to_pylist() == [flat(stored) for stored in ROWS]
    assert parquet.read_table(io.BytesIO(exports.as_parquet([], GUIDANCE))).num_rows == 0


@pytest.mark.parametrize("name", all_signatures())
def test_every_built_in_signature_has_columns(name: str) -> None:
    signature = all_signatures()[name]
    names = parquet.read_table(io.BytesIO(exports.as_parquet([], signature))).column_names
    fields = [field.name for field in (*signature.inputs, *signature.outputs)]
    assert names == ["example_id", "split", *fields, "metadata"]


def test_a_field_named_like_a_column_is_told() -> None:
    split = Field("split", "str", "A field of this name.")
    signature = Signature("mine", (split,), (Field("out", "str", ""),), "Do it.", METRIC)
    with pytest.raises(BadInputError, match="the field split is named like a column of this format; use jsonl"):
        exports.as_text([], signature, "hf")


def test_a_folder_where_a_file_is_wanted_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="is a folder; name a file for jsonl"):
        exports.export(ROWS, GUIDANCE, "jsonl", tmp_path)
