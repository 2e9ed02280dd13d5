"""validate_intent: does an implementation do what its user wanted?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flywheel.data.signatures.explain import explain_met
from flywheel.data.signatures.types import Field, ListOf, Measure, Signature

if TYPE_CHECKING:
    from flywheel.data.scenario import Scenario


def project(scenario: Scenario) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """A scenario whose implementation is known to meet, or not to meet, each requirement."""
    if not scenario.checked or not scenario.work_item or not scenario.implementation:
        return None
    missing = [r.text for r in scenario.missing]
    inputs = {
        "user_intent": scenario.intent,
        "work_item": scenario.work_item,
        "implementation": scenario.implementation,
        "requirements": [r.text for r in scenario.checked],
    }
    explanation = explain_met(scenario, "The intent is satisfied", "The intent is not satisfied")
    return inputs, {"intent_satisfied": not missing, "explanation": explanation, "missing_aspects": missing}


SIGNATURE = Signature(
    name="validate_intent",
    inputs=(
        Field("user_intent", "str", "What the user wanted"),
        Field("work_item", "str", "The task that was made of it"),
        Field("implementation", "str", "What was done: a summary or a diff"),
        Field("requirements", ListOf("str", 1), "What the intent comes down to"),
    ),
    outputs=(
        Field("intent_satisfied", "bool", "True only if every requirement is met by the implementation"),
        Field("explanation", "str", "Why, naming what was seen"),
        Field("missing_aspects", ListOf("str"), "The requirements that are not met; empty when satisfied"),
    ),
    instructions=(
        "Judge whether the implementation satisfies the user's intent. It does only if every listed requirement is "
        "met by what the implementation shows; name each requirement that is not."
    ),
    metric=(Measure("accuracy", "intent_satisfied", 0.6), Measure("list_f1", "missing_aspects", 0.4)),
    label="intent_satisfied",
    faults="missing_aspects",
    project=project,
)
