"""From scenarios to examples, the same way for every collector."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flywheel.data.examples import Example, Metadata

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flywheel.data.scenario import Scenario
    from flywheel.data.signatures.types import Signature


def project_all(signature: Signature, scenarios: Iterable[Scenario]) -> list[Example]:
    """The examples that `scenarios` hold for `signature`, in order; scenarios that say nothing to it give none."""
    found = []
    for scenario in scenarios:
        projected = signature.project(scenario)
        if projected is not None:
            found.append(_example(scenario, *projected))
    return found


def _example(scenario: Scenario, inputs: dict[str, object], outputs: dict[str, object]) -> Example:
    metadata = Metadata(
        source=scenario.source,
        difficulty=scenario.difficulty,
        category=scenario.category,
        group=scenario.group,
        **scenario.provenance,
    )
    return Example(inputs=inputs, outputs=outputs, metadata=metadata)
