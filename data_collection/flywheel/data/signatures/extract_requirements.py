"""extract_requirements: what does somebody ask for, and how urgent is each thing?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flywheel.data.scenario import PRIORITY_RUBRIC
from flywheel.data.signatures.types import Field, ListOf, Measure, Signature

if TYPE_CHECKING:
    from flywheel.data.scenario import Scenario


def project(scenario: Scenario) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The stated requirements of a scenario that states any."""
    stated = scenario.stated
    if not stated:
        return None
    inputs = {"user_intent": scenario.intent, "context": scenario.context}
    return inputs, {"requirements": [r.text for r in stated], "priorities": [r.priority for r in stated]}


SIGNATURE = Signature(
    name="extract_requirements",
    inputs=(
        Field("user_intent", "str", "What somebody wants, in their own words"),
        Field("context", "str", "Where it applies: background, details, constraints", may_be_empty=True),
    ),
    outputs=(
        Field("requirements", ListOf("str", 1), "Each thing asked for, as one checkable imperative sentence"),
        Field(
            "priorities",
            ListOf("int", 1),
            "One per requirement, 1-10, 10 = most urgent",
            low=1,
            high=10,
            one_per="requirements",
        ),
    ),
    instructions=(
        "List every requirement that the intent and its context ask for, each as one checkable imperative sentence, "
        "and give each a priority from 1 to 10 by its kind: " + PRIORITY_RUBRIC + ". "
        "Leave out what is said to be out of scope or already done."
    ),
    metric=(Measure("list_f1", "requirements", 0.7), Measure("rank_agreement", "priorities", 0.3, "requirements")),
    project=project,
)
