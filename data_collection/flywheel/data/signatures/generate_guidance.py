"""generate_guidance: what should be done about a review's findings?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flywheel.data.signatures.types import Choice, Field, ListOf, Measure, Record, Signature

if TYPE_CHECKING:
    from flywheel.data.scenario import Defect, Requirement, Scenario

EFFORT_BY_LINES = ((5, "15 minutes"), (20, "1 hour"), (60, "half a day"))
LONG_EFFORT = "1 day or more"
EFFORTS = (*(effort for _, effort in EFFORT_BY_LINES), LONG_EFFORT)
LEVEL_BY_PRIORITY = ((9, "critical"), (8, "high"), (5, "medium"))
LEVELS = ("critical", "high", "medium", "low")


def _level(priority: int) -> str:
    return next((level for least, level in LEVEL_BY_PRIORITY if priority >= least), "low")


def _effort(code: str) -> str:
    lines = len(code.splitlines())
    return next((effort for most, effort in EFFORT_BY_LINES if lines <= most), LONG_EFFORT)


def _for_requirement(requirement: Requirement) -> dict[str, str]:
    place = f" in {requirement.where}" if requirement.where else ""
    aim = f"It is done when this holds: {requirement.how}" if requirement.how else "The example shows what is needed."
    return {
        "title": requirement.text,
        "description": f"Nothing meets this yet; add it{place}. {aim}",
        "priority": _level(requirement.priority),
        "code_example": requirement.snippet,
        "estimated_effort": _effort(requirement.snippet),
    }


def _for_defect(defect: Defect, claim: str) -> dict[str, str]:
    place = f" in {defect.where}" if defect.where else ""
    return {
        "title": f"Mend: {defect.text}",
        "description": f"Change the code{place} so that it does what is meant: {claim}",
        "priority": "high",
        "code_example": defect.fix,
        "estimated_effort": _effort(defect.fix),
    }


def project(scenario: Scenario) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """A scenario with findings, each of which has the code that settled it."""
    missing = [r for r in scenario.missing if r.snippet]
    defects = [d for d in scenario.defects if d.fix]
    if not missing and not defects:
        return None
    findings = {"missing_requirements": [r.text for r in missing], "correctness_issues": [d.text for d in defects]}
    guidance = [_for_requirement(r) for r in missing] + [_for_defect(d, scenario.claim) for d in defects]
    guidance.sort(key=lambda item: LEVELS.index(item["priority"]))
    explanation = f"Most urgent first: {'; then '.join(item['title'] for item in guidance)}."
    return {"review_findings": findings}, {"guidance": guidance, "explanation": explanation}


SIGNATURE = Signature(
    name="generate_guidance",
    inputs=(
        Field(
            "review_findings",
            Record(
                (
                    Field("missing_requirements", ListOf("str"), "What was asked for and is not there"),
                    Field("correctness_issues", ListOf("str"), "What is there and wrong"),
                )
            ),
            "What a review found",
        ),
    ),
    outputs=(
        Field(
            "guidance",
            ListOf(
                Record(
                    (
                        Field("title", "str", "What to do, naming the finding"),
                        Field("description", "str", "How and where"),
                        Field("priority", Choice(LEVELS), "How urgent"),
                        Field("code_example", "str", "Code that shows the way", may_be_empty=True),
                        Field("estimated_effort", "str", "Such as: " + ", ".join(EFFORTS)),
                    )
                ),
                1,
            ),
            "One item for each finding, most urgent first",
        ),
        Field("explanation", "str", "What to start with, and why"),
    ),
    instructions=(
        "Give guidance for every finding of the review: one item each, most urgent first, with a title that names the "
        "finding, what to do, a priority (critical for security and data loss, high for defects, medium for features "
        "and performance, low for the rest), a code example and the effort."
    ),
    metric=(Measure("findings_coverage", "guidance", 0.7, "review_findings"), Measure("well_formed", "guidance", 0.3)),
    project=project,
    judge=(
        "A developer knows from the answer what to do next: every finding is met, the most urgent first, with places "
        "and code that fit the finding; nothing is invented, repeated or left vague."
    ),
)
