"""validate_correctness: does a piece of code do what it claims?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flywheel.data.signatures.explain import explain_defects
from flywheel.data.signatures.types import Field, ListOf, Measure, Signature

if TYPE_CHECKING:
    from flywheel.data.scenario import Scenario


def project(scenario: Scenario) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """A scenario with code of which all defects are known."""
    if not scenario.code_judged or not scenario.code_sample or not scenario.claim:
        return None
    issues = [defect.text for defect in scenario.defects]
    inputs = {"implementation": scenario.claim, "code_sample": scenario.code_sample}
    return inputs, {"is_correct": not issues, "issues": issues, "explanation": explain_defects(scenario)}


SIGNATURE = Signature(
    name="validate_correctness",
    inputs=(
        Field("implementation", "str", "What the code is meant to do"),
        Field("code_sample", "str", "The code"),
    ),
    outputs=(
        Field("is_correct", "bool", "True only if the code does what is meant, without a defect"),
        Field("issues", ListOf("str"), "Each defect and its effect, one sentence each; empty when correct"),
        Field("explanation", "str", "Why, naming the place in the code"),
    ),
    instructions=(
        "Judge whether the code does what it is meant to do. Name each defect and its effect in one sentence; "
        "style is no defect."
    ),
    metric=(Measure("accuracy", "is_correct", 0.7), Measure("list_f1", "issues", 0.3)),
    label="is_correct",
    faults="issues",
    project=project,
)
