"""How long a signature's prompts and answers are: those of its own dataset, rendered as they will be sent."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from flywheel.learning.examples import all_to_dspy
from flywheel.learning.rendering import messages_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from flywheel.data.examples import Example
    from flywheel.data.signatures.types import Signature


@dataclass(frozen=True)
class PromptSizes:
    """Mean characters a call: of the baseline's prompts, of prompts with `demos` demonstrations, of right answers."""

    baseline: float
    full: float
    answer: float
    prompts: int


def characters(messages: Iterable[dict[str, Any]]) -> int:
    """How long a prompt is."""
    return sum(len(str(message["content"])) for message in messages)


def measure(
    program: Any, signature: Signature, train: Sequence[Example], asked: Sequence[Example], adapter: Any, demos: int
) -> PromptSizes:
    """Render the program's prompts for what will be `asked`, as it is and with `demos` of `train` as demonstrations.

    Instructions that a search finds may be longer; they are few words beside demonstrations.
    """
    shown = program.deepcopy()
    shown.demos = all_to_dspy(list(train)[:demos], signature)
    inputs = [example.inputs for example in asked]
    return PromptSizes(
        baseline=fmean(characters(messages_of(program, one, adapter)) for one in inputs),
        full=fmean(characters(messages_of(shown, one, adapter)) for one in inputs),
        answer=fmean(
            len(adapter.format_assistant_message_content(program.signature, example.outputs)) for example in asked
        ),
        prompts=2 * len(inputs),
    )
