from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.serving.records import Interaction, Reason, Tokens, decode_lines, encode, parse

ROW: dict[str, Any] = {
    "module_name": "Reviewer",
    "module_version": {"Optimized": "v1"},
    "signature": "extract_requirements",
    "input": {"user_intent": "x"},
    "output": {"requirements": ["y"]},
    "timestamp_ms": 1_700_000_000_000,
    "latency_ms": 1_234,
    "tokens": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
    "cost_usd": 0.01,
    "model": "m",
    "success": True,
    "error": None,
    "metadata": {"k": "v"},
}
OPTIONAL = {"experiment_id": "e", "variant": "candidate", "unit_id": "u", "quality_score": 0.5, "sampled": True}


def line(**changes: Any) -> bytes:
    return json.dumps({**ROW, **changes}).encode()


def record(**changes: Any) -> Interaction:
    found = parse(line(**changes))
    assert isinstance(found, Interaction)
    return found


def test_a_line_of_the_rust_adapter_is_read() -> None:
    found = record()
    assert (found.module_version, found.tokens, found.experiment_id) == ({"Optimized": "v1"}, Tokens(1, 2, 3), None)
    assert record(module_version="Baseline", **OPTIONAL).quality_score == 0.5


def test_unknown_keys_are_kept() -> None:
    found = record(trace_id="t", nested={"a": [1]})
    assert found.extra == {"trace_id": "t", "nested": {"a": [1]}}
    again = parse(encode(found.to_object()))
    assert again == found


@pytest.mark.parametrize("key", sorted(ROW))
def test_a_missing_key_is_no_default(key: str) -> None:
    row = {name: value for name, value in ROW.items() if name != key}
    assert parse(json.dumps(row).encode()) is Reason.MISSING_KEY


@pytest.mark.parametrize(
    "changes",
    [
        {"module_version": "v1"},
        {"module_version": {"Optimized": 1}},
        {"module_version": {"Optimized": "v1", "Baseline": "x"}},
        {"input": []},
        {"output": None},
        {"timestamp_ms": 1.5},
        {"timestamp_ms": -1},
        {"timestamp_ms": True},
        {"latency_ms": "5"},
        {"latency_ms": -0.1},
        {"latency_ms": 1e300},
        {"latency_ms": True},
        {"tokens": {"input_tokens": 1}},
        {"tokens": {"input_tokens": 1, "output_tokens": -2, "total_tokens": 3}},
        {"cost_usd": None},
        {"success": 1},
        {"error": 5},
        {"metadata": {"k": 1}},
        {"metadata": None},
        {"quality_score": 1.01},
        {"quality_score": True},
        {"unit_id": 5},
        {"variant": []},
        {"sampled": "no"},
    ],
    ids=str,
)
def test_a_wrong_value_is_counted_as_such(changes: dict[str, Any]) -> None:
    assert parse(line(**changes)) is Reason.WRONG_VALUE


@pytest.mark.parametrize(
    "text", [b"", b"{", line()[:-1], line() + line(), b"NaN", b'{"a": "\\ud800"}', b"\xff", b"[" * 5_000]
)
def test_a_torn_or_garbled_line_is_not_json(text: bytes) -> None:
    assert parse(text) is Reason.NOT_JSON


@pytest.mark.parametrize("text", [b"null", b"5", b"[]", b'"x"'])
def test_json_that_is_no_object_says_so(text: bytes) -> None:
    assert parse(text) is Reason.NOT_AN_OBJECT


@given(st.binary())
def test_no_line_raises(text: bytes) -> None:
    assert isinstance(parse(text), Interaction | Reason)


TEXT = st.text(max_size=5)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT, lambda x: st.lists(x, max_size=2), max_leaves=3
)
CLEAN = st.text(st.characters(codec="utf-8"), max_size=5)


@given(
    st.dictionaries(st.sampled_from([*ROW, *OPTIONAL]), PLAIN, max_size=2),
    st.dictionaries(CLEAN, st.integers(0, 5), max_size=2),
)
def test_what_is_read_is_written_alike(changes: dict[str, Any], extra: dict[str, Any]) -> None:
    found = parse(json.dumps({**extra, **ROW, **changes}).encode())
    if isinstance(found, Interaction):
        assert parse(encode(found.to_object())) == found


def test_what_json_cannot_carry_is_replaced_not_raised() -> None:
    class Thing:
        def __repr__(self) -> str:
            raise AssertionError

    value: dict[Any, Any] = {"thing": Thing(), "big": 1 << 80, "text": "a\ud800b", "nan": None, 5: "key"}
    assert json.loads(encode({"thing": Thing()})) == {"thing": "<Thing>"}
    assert json.loads(encode({"nan": float("nan")})) == {"nan": None}
    assert json.loads(encode(value)) == {"thing": "<Thing>", "big": 1 << 80, "text": "a?b", "nan": None, "5": "key"}


def test_a_circular_value_is_an_error() -> None:
    circle: dict[str, Any] = {}
    circle["self"] = circle
    with pytest.raises(ValueError, match=r"[Cc]ircular|nested"):
        encode(circle)


LINES = st.lists(
    st.one_of(
        st.just(line()),
        st.just(line()[:40]),
        st.just(b'{"a": ['),
        st.just(b""),
        st.just(b"  "),
        st.just(b"\xff\xfe"),
        st.just(b'{"a": [1, {"b": "\\n"}]}'),
        st.just(line()[:60] + line()),
    ),
    max_size=6,
)


@given(LINES)
def test_a_chunk_decodes_as_its_lines_do(lines: list[bytes]) -> None:
    rows, garbled = decode_lines(b"".join(item + b"\n" for item in lines))
    expected: list[Any] = []
    bad = 0
    for item in lines:
        try:
            expected.append(json.loads(item))
        except ValueError:
            bad += bool(item.strip())
    assert (rows, garbled) == (expected, bad)
