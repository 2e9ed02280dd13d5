"""validate_completeness: which requirements does an implementation leave out?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flywheel.data.signatures.explain import explain_met
from flywheel.data.signatures.types import Field, ListOf, Measure, Signature

if TYPE_CHECKING:
    from flywheel.data.scenario import Scenario


def project(scenario: Scenario) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """A scenario whose implementation is known to meet, or not to meet, each requirement."""
    if not scenario.checked or not scenario.implementation:
        return None
    missing = [r.text for r in scenario.missing]
    inputs = {"implementation": scenario.implementation, "requirements": [r.text for r in scenario.checked]}
    explanation = explain_met(scenario, "The implementation is complete", "The implementation is incomplete")
    return inputs, {"is_complete": not missing, "missing_requirements": missing, "explanation": explanation}


SIGNATURE = Signature(
    name="validate_completeness",
    inputs=(
        Field("implementation", "str", "What was done: a summary or a diff"),
        Field("requirements", ListOf("str", 1), "What was asked for"),
    ),
    outputs=(
        Field("is_complete", "bool", "True only if every requirement is met by the implementation"),
        Field("missing_requirements", ListOf("str"), "The requirements that are not met, word for word"),
        Field("explanation", "str", "Why, naming what was seen"),
    ),
    instructions=(
        "Check the implementation against each requirement. It is complete only if all of them are met; repeat each "
        "missing requirement word for word. What is merely mentioned, planned or done elsewhere is not met."
    ),
    metric=(Measure("accuracy", "is_complete", 0.6), Measure("list_f1", "missing_requirements", 0.4)),
    label="is_complete",
    label_share=0.4,
    faults="missing_requirements",
    project=project,
)
