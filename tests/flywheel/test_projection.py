from __future__ import annotations

from flywheel.data.projection import project_all
from flywheel.data.scenario import Requirement, Scenario
from flywheel.data.signatures import BUILT_IN

EXTRACT = next(signature for signature in BUILT_IN if signature.name == "extract_requirements")
ASKED = Requirement("Return at most 20 rows", "feature")


def scenario(number: int, *requirements: Requirement) -> Scenario:
    return Scenario(
        "git", f"commit:{number}", "api", "hard", f"intent {number}",
        requirements=requirements, provenance={"commit_sha": f"{number:040x}"},
    )  # fmt: skip


def test_examples_come_in_order_with_their_scenarios_facts() -> None:
    examples = project_all(EXTRACT, [scenario(1, ASKED), scenario(2), scenario(3, ASKED)])
    assert [e.inputs["user_intent"] for e in examples] == ["intent 1", "intent 3"]
    facts = examples[1].metadata
    assert (facts.source, facts.difficulty, facts.category, facts.group) == ("git", "hard", "api", "commit:3")
    assert examples[1].extra("commit_sha") == f"{3:040x}"
    assert examples[1].extra("no such key") is None


def test_scenarios_that_say_nothing_give_nothing() -> None:
    for signature in BUILT_IN:
        assert project_all(signature, [scenario(1)]) == []
