"""A signature of a user's own, in one file: given with --signature-file, it needs no other change.

It uses what such a file may use: helpers of its own, every kind of field, a callable metric and a gate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flywheel.data.signatures.types import Choice, Field, Gate, ListOf, Record, Signature

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flywheel.data.scenario import Scenario

SIZES = ("small", "large")


def size_of(count: int) -> str:
    """A module-level helper, so that a run of the file must keep its globals alive."""
    return SIZES[count > 2]


def project(scenario: Scenario) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Every scenario that states requirements says how much work it is."""
    stated = scenario.stated
    if not stated:
        return None
    inputs = {"request": {"wish": scenario.intent, "background": scenario.context}, "count": len(stated)}
    top = max(stated, key=lambda requirement: requirement.priority)
    outputs = {
        "size": size_of(len(stated)),
        "urgent": top.priority >= 8,
        "hours": 1.5 * len(stated),
        "reasons": [r.text for r in stated if r.priority < 8],
    }
    return inputs, outputs


def metric(inputs: Mapping[str, Any], labels: Mapping[str, Any], outputs: Mapping[str, Any]) -> float:
    """Half for the size, half for the urgency; higher is better."""
    del inputs
    return sum(bool(labels[name] == outputs.get(name)) for name in ("size", "urgent")) / 2


SIGNATURES = [
    Signature(
        name="estimate_size",
        inputs=(
            Field(
                "request",
                Record(
                    (
                        Field("wish", "str", "What is wanted"),
                        Field("background", "str", "Where it applies", may_be_empty=True),
                    )
                ),
                "What somebody asks for",
            ),
            Field("count", "int", "How many requirements it states", low=1, high=100),
        ),
        outputs=(
            Field("size", Choice(SIZES), "How much work it is"),
            Field("urgent", "bool", "True if something in it cannot wait"),
            Field("hours", "float", "How long it takes", low=0, high=1000),
            Field("reasons", ListOf("str"), "What can wait"),
        ),
        instructions="Estimate how much work the request is, and whether any of it is urgent.",
        metric=metric,
        project=project,
        label="urgent",
        gate=Gate(min_quality=50.0, tolerance=0.25, max_source_share=1.0),
    )
]
