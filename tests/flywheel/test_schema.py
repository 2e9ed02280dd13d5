"""The schema check against mutations: sound examples pass, and every break is found, named and counted."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.data.schema import problems
from flywheel.data.signatures import BUILT_IN, Choice, Field, ListOf, Record, Signature

REASONS = {
    "missing_field", "unknown_field", "wrong_type", "empty_field", "out_of_range", "length_mismatch",
    "contradictory_label",
}  # fmt: skip
SAMPLES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "extract_requirements": (
        {"user_intent": "Add paging", "context": ""},
        {"requirements": ["Return at most 20 rows", "Sort them"], "priorities": [6, 4]},
    ),
    "validate_intent": (
        {"user_intent": "a", "work_item": "b", "implementation": "c", "requirements": ["d"]},
        {"intent_satisfied": False, "explanation": "e", "missing_aspects": ["d"]},
    ),
    "validate_completeness": (
        {"implementation": "c", "requirements": ["d"]},
        {"is_complete": True, "missing_requirements": [], "explanation": "e"},
    ),
    "validate_correctness": (
        {"implementation": "c", "code_sample": "x = 1"},
        {"is_correct": False, "issues": ["wrong"], "explanation": "e"},
    ),
    "generate_guidance": (
        {"review_findings": {"missing_requirements": ["a"], "correctness_issues": []}},
        {
            "guidance": [
                {"title": "a", "description": "b", "priority": "low", "code_example": "", "estimated_effort": "1 hour"}
            ],
            "explanation": "e",
        },
    ),
}
by_name = pytest.mark.parametrize("signature", BUILT_IN, ids=lambda s: s.name)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def found(signature: Signature, inputs: Any, outputs: Any) -> set[str]:
    return {reason for reason, _ in problems(signature, inputs, outputs)}


@by_name
def test_sound_examples_have_no_problems(signature: Signature) -> None:
    assert list(problems(signature, *SAMPLES[signature.name])) == []


@by_name
def test_each_missing_and_each_surplus_field_is_named(signature: Signature) -> None:
    for side, name in enumerate(("inputs", "outputs")):
        for field in SAMPLES[signature.name][side]:
            pair = copy.deepcopy(SAMPLES[signature.name])
            del pair[side][field]
            details = dict(problems(signature, *pair))
            assert details["missing_field"].startswith(f"{name}.{field}: expected ")
        pair = copy.deepcopy(SAMPLES[signature.name])
        pair[side].update(zulu=1, alpha=2)
        assert list(problems(signature, *pair)) == [
            ("unknown_field", f"{name}.alpha: no field of the signature"),
            ("unknown_field", f"{name}.zulu: no field of the signature"),
        ]


@given(st.sampled_from(BUILT_IN), st.data())
def test_no_json_can_crash_it_and_a_field_of_another_type_never_passes(
    signature: Signature, data: st.DataObject
) -> None:
    pair = copy.deepcopy(SAMPLES[signature.name])
    side = data.draw(st.sampled_from([0, 1]))
    field = data.draw(st.sampled_from(sorted(pair[side])))
    before = pair[side][field]
    pair[side][field] = data.draw(JSON)
    reasons = found(signature, *pair)
    assert reasons <= REASONS
    if type(pair[side][field]) is not type(before):
        assert "wrong_type" in reasons


@given(st.sampled_from(BUILT_IN), JSON)
def test_list_items_are_checked_too(signature: Signature, item: Any) -> None:
    inputs, outputs = copy.deepcopy(SAMPLES[signature.name])
    for values in (inputs, outputs):
        for value in values.values():
            if isinstance(value, list):
                value.append(item)
    problem = found(signature, inputs, outputs)
    assert problem <= REASONS
    if not isinstance(item, str | int | dict):
        assert "wrong_type" in problem


def test_bounds_are_inclusive_and_bool_is_no_number() -> None:
    signature = BUILT_IN[0]
    for priority, reasons in ((1, set()), (10, set()), (0, {"out_of_range"}), (11, {"out_of_range"})):
        outputs = {"requirements": ["a"], "priorities": [priority]}
        assert found(signature, SAMPLES[signature.name][0], outputs) == reasons
    for wrong in (True, 5.0, "5", None):
        assert found(signature, SAMPLES[signature.name][0], {"requirements": ["a"], "priorities": [wrong]}) == {
            "wrong_type"
        }


def test_lists_that_belong_together_are_as_long() -> None:
    signature = BUILT_IN[0]
    outputs = {"requirements": ["a", "b"], "priorities": [5]}
    assert list(problems(signature, SAMPLES[signature.name][0], outputs)) == [
        ("length_mismatch", "outputs.priorities: 1 for 2 requirements")
    ]


@pytest.mark.parametrize("text", ["", " ", "\n\t"])
def test_blank_text_is_empty_except_where_it_may_be(text: str) -> None:
    signature = BUILT_IN[0]
    outputs = SAMPLES[signature.name][1]
    assert found(signature, {"user_intent": "x", "context": text}, outputs) == set()
    assert found(signature, {"user_intent": text, "context": "x"}, outputs) == {"empty_field"}


@by_name
def test_label_and_faults_must_agree(signature: Signature) -> None:
    if signature.label is None or signature.faults is None:
        return
    inputs, outputs = copy.deepcopy(SAMPLES[signature.name])
    outputs[signature.label] = not outputs[signature.label]
    assert found(signature, inputs, outputs) == {"contradictory_label"}


def test_records_choices_and_floats() -> None:
    signature = Signature(
        name="odd",
        inputs=(Field("box", Record((Field("inner", ListOf(Choice(("x", "y")), 1), "x"),)), "x"),),
        outputs=(Field("share", "float", "x", low=0, high=1),),
        instructions="x",
        metric=lambda _inputs, _labels, _outputs: 0.0,
        project=lambda _scenario: None,
    )
    sound = {"box": {"inner": ["x", "y"]}}
    assert found(signature, sound, {"share": 1}) == set()
    assert found(signature, sound, {"share": 1.5}) == {"out_of_range"}
    assert found(signature, {"box": {"inner": []}}, {"share": 0.5}) == {"empty_field"}
    assert list(problems(signature, {"box": {"inner": ["z", ["x"]], "more": 1}}, {"share": True})) == [
        ("wrong_type", "inputs.box.inner[0]: expected one of x | y"),
        ("wrong_type", "inputs.box.inner[1]: expected one of x | y"),
        ("unknown_field", "inputs.box.more: no field of the signature"),
        ("wrong_type", "outputs.share: expected float, found bool"),
    ]
