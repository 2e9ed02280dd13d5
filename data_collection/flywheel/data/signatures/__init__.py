"""The table of signatures. Nothing else in the code names one: a further one is a file of the user's own."""

from __future__ import annotations

from flywheel.data.signatures import (
    extract_requirements,
    generate_guidance,
    validate_completeness,
    validate_correctness,
    validate_intent,
)
from flywheel.data.signatures.types import Choice, Field, Gate, ListOf, Measure, Record, Signature

BUILT_IN: tuple[Signature, ...] = (
    extract_requirements.SIGNATURE,
    validate_intent.SIGNATURE,
    validate_completeness.SIGNATURE,
    validate_correctness.SIGNATURE,
    generate_guidance.SIGNATURE,
)

__all__ = ["BUILT_IN", "Choice", "Field", "Gate", "ListOf", "Measure", "Record", "Signature"]
