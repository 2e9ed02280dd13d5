from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.base.errors import BadInputError
from flywheel.data import examples
from flywheel.data.examples import Example, Metadata, Raw, Rejection
from flywheel.data.registry import all_signatures

SCALARS = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text()
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.dictionaries(st.text(min_size=1), VALUES, max_size=4)
ITEM: dict[str, Any] = {
    "inputs": {"user_intent": "Add paging", "context": ""},
    "outputs": {"requirements": ["Return at most 20 rows"], "priorities": [6]},
    "metadata": {"source": "git", "difficulty": "easy", "category": "api", "commit_sha": "abc"},
}


def raw(value: Any, name: str = "some.json") -> Raw:
    return Raw(Path(name), 3, value)


@given(FIELDS, FIELDS)
def test_equal_examples_have_equal_ids_in_any_order_of_keys(inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
    backwards = dict(reversed(inputs.items())), dict(reversed(outputs.items()))
    assert examples.example_id("s", inputs, outputs) == examples.example_id("s", *backwards)
    assert examples.example_id("s", inputs, outputs) != examples.example_id("t", inputs, outputs)


def test_an_id_tells_inputs_from_outputs_and_types_from_their_spelling() -> None:
    values: list[dict[str, Any]] = [{"a": "1"}, {"a": 1}, {"a": "ä"}, {"a": True}]
    ids = {examples.example_id("s", value, {}) for value in values} | {examples.example_id("s", {}, values[0])}
    assert len(ids) == 5
    assert all(len(key) == 24 and int(key, 16) >= 0 for key in ids)


def test_ids_are_the_same_on_every_machine() -> None:
    assert examples.example_id("s", {"b": "ä", "a": [1, 2.5, None]}, {"x": True}) == "c1fee9fe8417eb85402e2c6d"


@given(FIELDS, FIELDS, st.dictionaries(st.text("abc_", min_size=1), SCALARS, max_size=3))
def test_an_example_is_written_and_read_back_with_its_sources_own_keys(
    inputs: dict[str, Any], outputs: dict[str, Any], extra: dict[str, Any]
) -> None:
    known = {key: value for key, value in extra.items() if value is not None}
    example = Example(inputs=inputs, outputs=outputs, metadata=Metadata(source="git", **known))
    again = Example.model_validate(json.loads(json.dumps(example.to_dict())))
    assert (again.inputs, again.outputs) == (inputs, outputs)
    assert again.metadata == example.metadata
    assert {key: again.extra(key) for key in known} == known


def test_none_is_kept_inside_fields_and_left_out_around_them() -> None:
    """to_dict leaves out keys that are not set; what a field holds is the author's."""
    example = Example(inputs={"a": None, "b": [None, {"c": None}]}, outputs={}, metadata=Metadata(category=None))
    assert example.to_dict() == {"inputs": {"a": None, "b": [None, {"c": None}]}, "outputs": {}, "metadata": {}}


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"inputs": None}, "inputs"),
        ({"outputs": []}, "outputs"),
        ({"surprise": 1}, "surprise"),
        ({"split": "holdout"}, "split"),
        ({"metadata": {"difficulty": "trivial"}}, "metadata.difficulty"),
        ({"metadata": {"quality_score": 101}}, "metadata.quality_score"),
        ({"metadata": {"quality_score": -1}}, "metadata.quality_score"),
        ({"metadata": {"source": ""}}, "metadata.source"),
        ({"metadata": []}, "metadata"),
    ],
)
def test_what_is_no_example_says_where(change: dict[str, Any], where: str) -> None:
    rejection = examples.parse_example(raw({**ITEM, **change}))
    assert isinstance(rejection, Rejection)
    assert rejection.reason == "not_an_example"
    assert rejection.detail.startswith(f"{where}: ")
    assert (rejection.file, rejection.index) == ("some.json", 3)


@pytest.mark.parametrize("value", [None, 5, "text", [], {}])
def test_other_json_is_no_example(value: Any) -> None:
    assert isinstance(examples.parse_example(raw(value)), Rejection)


@pytest.mark.parametrize("where", ["inputs", "outputs", "metadata"])
def test_half_characters_are_turned_away_and_can_be_written_down(where: str) -> None:
    item = {**ITEM, where: {**ITEM[where], "text": "half \ud83d"}}
    rejection = examples.parse_example(raw(item))
    assert isinstance(rejection, Rejection)
    assert (rejection.reason, rejection.detail) == ("not_unicode", "half a character (a lone surrogate, '\\ud83d')")
    assert json.loads(rejection.to_json_line().encode())["example"] == item


def test_a_dump_is_no_example() -> None:
    item = {**ITEM, "inputs": {"user_intent": "x" * examples.MAX_LENGTH, "context": ""}}
    rejection = examples.parse_example(raw(item))
    assert isinstance(rejection, Rejection)
    assert rejection.reason == "too_long"
    assert rejection.detail.endswith(f"characters; at most {examples.MAX_LENGTH}")


def test_files_are_arrays_or_lines(tmp_path: Path) -> None:
    examples.write_examples(tmp_path / "a.json", [Example.model_validate(ITEM)])
    (tmp_path / "b.jsonl").write_text(f"\n{json.dumps(ITEM)}\r\n\n{json.dumps(ITEM)}")
    assert [(r.index, r.value) for r in examples.read_items(tmp_path / "a.json")] == [(0, ITEM)]
    assert [(r.index, r.value) for r in examples.read_items(tmp_path / "b.jsonl")] == [(0, ITEM), (1, ITEM)]
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "[\n{},\n{,}]", r"a\.json, line 3: not JSON \(.*\); expected a JSON array of examples"),
        ("a.json", '{"inputs": {}}', r"a\.json, line 1: expected a JSON array of examples .*, found dict"),
        ("a.json", "", r"a\.json, line 1: not JSON \(Expecting value\); expected a JSON array of examples"),
        ("a.jsonl", "{}\n\n{", r"a\.jsonl, line 3: not JSON \(.*\); expected one example .* a line"),
        ("a.jsonl", '{"x": NaN}', r"a\.jsonl, line 1: not JSON \(NaN is no number"),
    ],
)
def test_garbled_files_name_file_line_and_what_was_expected(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(BadInputError, match=message):
        list(examples.read_items(tmp_path / name))


def test_an_empty_jsonl_file_has_no_examples(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").touch()
    assert list(examples.read_items(tmp_path / "a.jsonl")) == []


def test_folders_give_their_example_files_in_order_and_no_rejects(tmp_path: Path) -> None:
    for name in ("b.json", "a.jsonl", "rejected.jsonl", ".hidden.json", "notes.txt", "reports/x.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.json").mkdir()
    found = examples.example_files([tmp_path, tmp_path / "notes.txt"])
    assert [path.name for path in found] == ["a.jsonl", "b.json", "notes.txt"]
    with pytest.raises(BadInputError, match="none: no such file or folder"):
        examples.example_files([tmp_path / "none"])


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        (
            "some.json",
            {"signature": "validate_intent", "inputs": {"user_intent": "x", "context": ""}},
            "validate_intent",
        ),
        ("validate_intent.json", {"signature": "generate_guidance"}, "generate_guidance"),
        ("validate_intent.json", {"signature": "nope"}, None),
        ("validate_intent.json", {"signature": 5}, None),
        ("validate_intent.jsonl", {"inputs": {"anything": 1}}, "validate_intent"),
        ("some.json", {"inputs": {"context": "", "user_intent": "x"}}, "extract_requirements"),
        ("some.json", {"inputs": {"user_intent": "x"}}, None),
        ("some.json", {"inputs": []}, None),
        ("some.json", [], None),
    ],
)
def test_the_signature_is_named_by_item_then_file_then_inputs(name: str, value: Any, found: str | None) -> None:
    signature = examples.find_signature(raw(value, name), all_signatures())
    assert (signature.name if signature else None) == found
