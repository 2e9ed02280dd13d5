from __future__ import annotations

import dataclasses
from typing import Any

import dspy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.data.signatures import BUILT_IN, Signature
from flywheel.data.similarity import best_match, partial, ratio
from flywheel.learning.metrics import build_metric, score

BY_NAME = {signature.name: signature for signature in BUILT_IN}
EXTRACT = BY_NAME["extract_requirements"]
COMPLETENESS = BY_NAME["validate_completeness"]
GUIDANCE = BY_NAME["generate_guidance"]
FINDINGS = {"missing_requirements": ["Log every reset of a password"], "correctness_issues": ["mean() skips the first"]}
FIRST = {
    "title": "Mend: mean() skips the first", "description": "Start the loop at 0", "priority": "high",
    "code_example": "", "estimated_effort": "1 hour",
}  # fmt: skip
SECOND = {**FIRST, "title": "Log every reset of a password", "description": "Write a line", "priority": "low"}
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def completeness(label: dict[str, Any], output: dict[str, Any]) -> float:
    return score(COMPLETENESS, {"implementation": "i", "requirements": ["r"]}, label, output)


def extract(names: list[str], priorities: list[Any], gold: tuple[list[str], list[int]]) -> float:
    label = {"requirements": gold[0], "priorities": gold[1]}
    return score(EXTRACT, {}, label, {"requirements": names, "priorities": priorities})


def guide(items: Any, findings: Any = FINDINGS) -> float:
    return score(GUIDANCE, {"review_findings": findings}, {}, {"guidance": items, "explanation": "e"})


def test_a_perfect_answer_is_1_and_an_empty_one_0() -> None:
    label = {"is_complete": False, "missing_requirements": ["Log every reset"], "explanation": "e"}
    assert completeness(label, label) == pytest.approx(1)
    assert completeness(label, {}) == 0
    assert completeness(label, {"is_complete": True, "missing_requirements": []}) == 0


def test_both_lists_empty_is_agreement() -> None:
    label = {"is_complete": True, "missing_requirements": []}
    assert completeness(label, label) == pytest.approx(1)
    assert completeness(label, {**label, "missing_requirements": ["x"]}) == pytest.approx(0.6)


def test_a_label_as_text_earns_nothing() -> None:
    assert completeness({"is_complete": True}, {"is_complete": "True"}) == 0
    assert completeness({"is_complete": True}, {"is_complete": 1}) == 0


def test_repeating_an_item_does_not_pay() -> None:
    label = {"is_complete": False, "missing_requirements": ["Log every reset"]}
    once = completeness(label, label)
    assert completeness(label, {**label, "missing_requirements": ["Log every reset"] * 3}) < once


@pytest.mark.parametrize(
    ("priorities", "expected"),
    [([9, 5, 1], 1.0), ([10, 9, 8], 1.0), ([1, 5, 9], 0.7), ([5, 5, 5], 0.85), ([9, 5], 0.7), ([9, "5", 1], 0.7)],
)
def test_priorities_are_judged_by_their_order(priorities: list[Any], expected: float) -> None:
    names = ["Log every reset", "Add a dark theme", "Write the manual"]
    assert extract(names, priorities, (names, [9, 5, 1])) == pytest.approx(expected)


def test_priorities_follow_their_requirements_when_these_are_reordered() -> None:
    names = ["Log every reset", "Add a dark theme", "Write the manual"]
    assert extract(names[::-1], [1, 5, 9], (names, [9, 5, 1])) == pytest.approx(1)


def test_without_an_order_to_agree_with_the_numbers_distance_counts() -> None:
    assert extract(["Log every reset"], [10], (["Log every reset"], [10])) == pytest.approx(1)
    assert extract(["Log every reset"], [1], (["Log every reset"], [10])) == pytest.approx(0.7)
    assert extract(["Paint it blue"], [10], (["Log every reset"], [10])) == 0


def test_guidance_must_name_each_finding_and_nothing_else() -> None:
    assert guide([FIRST, SECOND]) == pytest.approx(1)
    assert guide([FIRST]) < guide([FIRST, {**SECOND, "title": "Buy more servers"}, SECOND]) < 1
    assert guide([]) == 0
    assert guide([FIRST, SECOND], {"missing_requirements": [], "correctness_issues": []}) == pytest.approx(0.3)


def test_guidance_out_of_order_or_hollow_is_worth_less() -> None:
    assert guide([SECOND, FIRST]) == pytest.approx(1 - 0.3 * 0.25)
    assert guide([{**FIRST, "estimated_effort": "n/a"}, SECOND]) == pytest.approx(1 - 0.3 * 0.1)
    assert guide([{**FIRST, "priority": "soon"}, SECOND]) < 1


def test_a_metric_takes_dspys_objects() -> None:
    metric = build_metric(GUIDANCE)
    gold = dspy.Example(review_findings=FINDINGS, guidance=[FIRST, SECOND], explanation="e")
    assert metric(gold, dspy.Prediction(guidance=[FIRST, SECOND], explanation="e")) == pytest.approx(1)
    assert metric(gold, dspy.Prediction(guidance=None, explanation=None), trace=[]) == 0
    assert metric(gold, None) == 0


def test_a_signatures_own_metric_must_stay_within_0_and_1() -> None:
    def own(value: float) -> Signature:
        return dataclasses.replace(COMPLETENESS, metric=lambda *_: value)

    assert score(own(0.25), {}, {}, {}) == 0.25
    for wrong in (1.5, -0.1, float("nan"), True, "1"):
        with pytest.raises(ValueError, match="validate_completeness"):
            score(own(wrong), {}, {}, {})  # type: ignore[arg-type]


@pytest.mark.parametrize("signature", BUILT_IN, ids=lambda s: s.name)
@given(data=st.data())
def test_no_answer_makes_a_metric_fail_or_leave_its_range(signature: Signature, data: st.DataObject) -> None:
    label = {
        "requirements": ["Log every reset"], "priorities": [3], "missing_requirements": ["a b"], "is_complete": True,
        "is_correct": True, "issues": [], "intent_satisfied": False, "missing_aspects": ["x y"],
    }  # fmt: skip
    output = {field.name: data.draw(JUNK) for field in signature.outputs}
    value = score(signature, {"review_findings": FINDINGS}, label, output)
    assert 0 <= value <= 1


def test_likeness_sees_words_not_case_order_or_punctuation() -> None:
    assert ratio("Log every reset.", "reset; EVERY log") == 1
    assert ratio("", "x") == 0
    assert ratio("", "...") == 1
    assert partial("log", "a catalogue") == 0
    assert partial("log", "a log") == 1
    assert partial("log every reset", "you should log every reset now") == 1


def test_best_match_uses_each_text_once() -> None:
    assert best_match(["a b", "a b"], ["a b", "c d"], 0.6) == [(0, 0, 1.0)]
    assert best_match([], ["a"]) == []
