"""Explanations that follow from a scenario's facts, so that they are as true as the label."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flywheel.data.scenario import Requirement, Scenario


def _quoted(requirements: tuple[Requirement, ...]) -> str:
    return "; ".join(f"“{r.text}”" for r in requirements)


def explain_met(scenario: Scenario, yes: str, no: str) -> str:
    """Why all requirements are met, or which are not and where they would have shown."""
    checked, missing = scenario.checked, scenario.missing
    if not missing:
        shown = "; ".join(f"“{r.text}”{f' in {r.where}' if r.where else ''}" for r in checked)
        return f"{yes}: it shows {shown}."
    met = len(checked) - len(missing)
    share = f"{met} of {len(checked)} requirements are met, but " if met else ""
    return f"{no}: {share}nothing shown meets {_quoted(missing)}."


def explain_defects(scenario: Scenario) -> str:
    """What is wrong with the code and where, or that nothing is."""
    if not scenario.defects:
        return f"The code does what is meant ({scenario.claim.rstrip('.')}); no defect was found."
    places = [
        f"{defect.text.rstrip('.')}{f' (in {defect.where})' if defect.where else ''}" for defect in scenario.defects
    ]
    return f"The code does not do what is meant: {'; '.join(places)}."
