"""The five built-in signatures against the contract's table, and what a definition may not be."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.data.scenario import DIFFICULTIES, PRIORITY_BY_KIND, Defect, Requirement, Scenario
from flywheel.data.schema import problems
from flywheel.data.signatures import BUILT_IN, Choice, Field, Gate, ListOf, Measure, Record, Signature
from flywheel.data.signatures.types import type_name

GUIDANCE = "{title: str, description: str, priority: critical | high | medium | low, code_example: str, "
GUIDANCE += "estimated_effort: str}"
CONTRACT = {
    "extract_requirements": (
        {"user_intent": "str", "context": "str"},
        {"requirements": "list[str]", "priorities": "list[int]"},
        None,
    ),
    "validate_intent": (
        {"user_intent": "str", "work_item": "str", "implementation": "str", "requirements": "list[str]"},
        {"intent_satisfied": "bool", "explanation": "str", "missing_aspects": "list[str]"},
        "intent_satisfied",
    ),
    "validate_completeness": (
        {"implementation": "str", "requirements": "list[str]"},
        {"is_complete": "bool", "missing_requirements": "list[str]", "explanation": "str"},
        "is_complete",
    ),
    "validate_correctness": (
        {"implementation": "str", "code_sample": "str"},
        {"is_correct": "bool", "issues": "list[str]", "explanation": "str"},
        "is_correct",
    ),
    "generate_guidance": (
        {"review_findings": "{missing_requirements: list[str], correctness_issues: list[str]}"},
        {"guidance": f"list[{GUIDANCE}]", "explanation": "str"},
        None,
    ),
}
by_name = pytest.mark.parametrize("signature", BUILT_IN, ids=lambda s: s.name)

WORDS = st.text("abcdefghij xyz", min_size=1).filter(str.strip)
REQUIREMENTS = st.builds(
    Requirement,
    text=WORDS,
    kind=st.sampled_from(sorted(PRIORITY_BY_KIND)),
    met=st.sampled_from([True, False, None]),
    stated=st.booleans(),
    where=st.just("") | WORDS,
    snippet=st.just("") | WORDS,
    how=st.just("") | WORDS,
)
SCENARIOS = st.builds(
    Scenario,
    source=st.just("git"),
    group=WORDS,
    category=WORDS,
    difficulty=st.sampled_from(DIFFICULTIES),
    intent=WORDS,
    context=st.just("") | WORDS,
    work_item=st.just("") | WORDS,
    implementation=st.just("") | WORDS,
    requirements=st.lists(REQUIREMENTS, max_size=4).map(tuple),
    claim=st.just("") | WORDS,
    code_sample=st.just("") | WORDS,
    code_judged=st.booleans(),
    defects=st.lists(st.builds(Defect, text=WORDS, where=st.just("") | WORDS, fix=st.just("") | WORDS), max_size=2).map(
        tuple
    ),
)


def test_the_five_are_the_contracts_in_its_order() -> None:
    assert [signature.name for signature in BUILT_IN] == list(CONTRACT)


@by_name
def test_fields_types_and_label_are_the_contracts(signature: Signature) -> None:
    inputs, outputs, label = CONTRACT[signature.name]
    assert [(f.name, type_name(f.kind)) for f in signature.inputs] == list(inputs.items())
    assert [(f.name, type_name(f.kind)) for f in signature.outputs] == list(outputs.items())
    assert signature.label == label
    assert signature.label_share == (0.4 if signature.name == "validate_completeness" else 0.5)


@by_name
def test_models_are_told_what_each_field_is(signature: Signature) -> None:
    assert signature.instructions.strip()
    assert all(field.description for field in (*signature.inputs, *signature.outputs))


@given(SCENARIOS)
def test_whatever_is_projected_is_sound_and_true_to_the_scenario(scenario: Scenario) -> None:
    for signature in BUILT_IN:
        projected = signature.project(scenario)
        if projected is None:
            continue
        inputs, outputs = projected
        assert list(problems(signature, inputs, outputs)) == []
        assert list(inputs) == [field.name for field in signature.inputs]
        assert list(outputs) == [field.name for field in signature.outputs]
        if signature.name in {"validate_intent", "validate_completeness"}:
            assert outputs[signature.label or ""] == all(r.met for r in scenario.checked)
            assert set(inputs["requirements"]) == {r.text for r in scenario.checked}
        if signature.name == "validate_correctness":
            assert outputs["is_correct"] == (not scenario.defects)
            assert scenario.code_judged
        if signature.name == "extract_requirements":
            assert outputs["priorities"] == [r.priority for r in scenario.stated]


@given(SCENARIOS)
def test_guidance_has_an_item_for_each_finding_most_urgent_first(scenario: Scenario) -> None:
    signature = next(s for s in BUILT_IN if s.name == "generate_guidance")
    projected = signature.project(scenario)
    if projected is None:
        assert not [r for r in scenario.missing if r.snippet]
        assert not [d for d in scenario.defects if d.fix]
        return
    inputs, outputs = projected
    findings = [*inputs["review_findings"]["missing_requirements"], *inputs["review_findings"]["correctness_issues"]]
    titles = [item["title"] for item in outputs["guidance"]]
    assert len(titles) == len(findings)
    assert all(any(finding in title for title in titles) for finding in findings)
    ranks = [["critical", "high", "medium", "low"].index(item["priority"]) for item in outputs["guidance"]]
    assert ranks == sorted(ranks)


def plain(**changes: Any) -> Signature:
    settings: dict[str, Any] = {
        "name": "sort_mail",
        "inputs": (Field("mail", "str", "The mail"),),
        "outputs": (Field("urgent", "bool", "Whether"), Field("reasons", ListOf("str"), "Why")),
        "instructions": "Sort.",
        "metric": (Measure("accuracy", "urgent", 1.0),),
        "project": lambda _scenario: None,
    }
    return Signature(**{**settings, **changes})


def test_a_plain_signature_is_fine() -> None:
    assert plain(label="urgent", faults="reasons").name == "sort_mail"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "Sort Mail"}, "signature name 'Sort Mail'"),
        ({"name": "../escape"}, "signature name '../escape'"),
        ({"name": ""}, "signature name ''"),
        ({"inputs": ()}, "needs inputs and outputs"),
        ({"outputs": ()}, "needs inputs and outputs"),
        ({"inputs": (Field("urgent", "str", "x"),)}, "all of different names"),
        ({"label": "mail"}, "'mail' is no output"),
        ({"faults": "none"}, "'none' is no output"),
        ({"label": "reasons"}, "the label 'reasons' is no bool"),
        ({"faults": "urgent"}, "the faults 'urgent' are no list"),
        ({"label_share": 40}, "label_share 40 is not within 0..1"),
        ({"metric": ()}, "weights sum to 0, not 1"),
        ({"metric": (Measure("accuracy", "urgent", 0.4),)}, "weights sum to 0.4, not 1"),
        ({"metric": (Measure("accuracy", "nothing", 1.0),)}, "names 'nothing', which is no field"),
        ({"metric": (Measure("list_f1", "reasons", 1.0, "nothing"),)}, "names 'nothing', which is no field"),
    ],
)
def test_a_definition_that_cannot_work_names_the_bad_value(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plain(**changes)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Field("Bad Name", "str", "x"), "field name 'Bad Name'"),
        (lambda: Field("x", "text", "x"), "type 'text' is none of str, bool, int, float"),
        (lambda: Measure("magic", "x", 1.0), "measure 'magic' is none of accuracy"),
        (lambda: Measure("accuracy", "x", 0.0), "weight 0.0 is not in"),
        (lambda: Gate(min_quality=700), "min_quality 700 is not within 0..100"),
        (lambda: Gate(tolerance=10), "tolerance 10 is not within 0..1"),
        (lambda: Gate(max_source_share=80), "max_source_share 80 is not within 0..1"),
        (lambda: Gate(difficulty={"easy": 0.5, "medium": 0.4}), "shares of easy, medium, hard that sum to 1"),
        (lambda: Gate(difficulty={"trivial": 1.0}), "shares of easy, medium, hard that sum to 1"),
        (lambda: Gate(difficulty={"easy": 1.5, "hard": -0.5}), "shares of easy, medium, hard that sum to 1"),
    ],
)
def test_parts_name_the_bad_value(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_definitions_cannot_be_changed_afterwards() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        plain().name = "other"  # type: ignore[misc]


def test_type_names_are_words_for_any_reader() -> None:
    kind = ListOf(Record((Field("a", "int", "x"), Field("b", Choice(("x", "y")), "x"))), 1)
    assert type_name(kind) == "list[{a: int, b: x | y}]"
