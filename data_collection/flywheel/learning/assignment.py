"""What to work on: one signature with the examples and the baseline that a run begins on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flywheel.base.programs import read_program
from flywheel.learning.program import PLAIN, build_program, from_envelope

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import dspy

    from flywheel.data.examples import Example
    from flywheel.data.signatures.types import Signature


@dataclass(frozen=True)
class Assignment:
    """What to work on: a signature, a dataset version's examples with their splits, the deployed program if any.

    `datasets` is the folder of datasets, where the uses of the test split are counted.
    """

    signature: Signature
    examples: Sequence[Example]
    dataset_version: str
    dataset_hash: str
    deployed: Path | None
    datasets: Path

    def split(self, name: str) -> list[Example]:
        """The examples of one split, in stored order."""
        return [example for example in self.examples if example.split == name]


def baseline_of(assignment: Assignment) -> tuple[str, dspy.Module]:
    """The deployed program where there is one, else the plain one; and what to call it."""
    signature = assignment.signature
    if assignment.deployed is None:
        return PLAIN, build_program(signature)
    program = read_program(assignment.deployed, signature.name)
    return assignment.deployed.parent.name, from_envelope(program, signature)
