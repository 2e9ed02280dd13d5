"""The exact messages that a call of a program would send, without sending them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dspy

from flywheel.base.errors import BadInputError
from flywheel.base.evaluations import Shown
from flywheel.learning.program import from_envelope, instructions_of, plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flywheel.base.programs import Program
    from flywheel.data.signatures.types import Signature

ADAPTERS = {"ChatAdapter": dspy.ChatAdapter, "JSONAdapter": dspy.JSONAdapter}


def messages_of(program: Any, inputs: Mapping[str, Any], adapter: Any) -> list[dict[str, Any]]:
    """What the adapter makes of the program and these inputs: a list of {role, content}."""
    made: list[dict[str, Any]] = adapter.format(program.signature, program.demos, dict(inputs))
    return made


def placeholders(signature: Signature) -> dict[str, str]:
    """Each input as its name in angle brackets."""
    return {field.name: f"<{field.name}>" for field in signature.inputs}


def render_call(envelope: Program, signature: Signature, inputs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The messages that a call of the stored program would send.

    Raises:
        BadInputError: inputs that the signature does not have or lacks, or an adapter that is not known.
        DamagedError: the program's parts contradict each other.
    """
    wanted = [field.name for field in signature.inputs]
    if set(inputs) != set(wanted):
        msg = f"inputs {', '.join(map(str, inputs)) or '(none)'}: {signature.name} takes exactly {', '.join(wanted)}"
        raise BadInputError(msg)
    if envelope.adapter not in ADAPTERS:
        msg = f"adapter {envelope.adapter!r} is none of {', '.join(ADAPTERS)}"
        raise BadInputError(msg)
    ordered = {name: inputs[name] for name in wanted}
    return messages_of(from_envelope(envelope, signature), ordered, ADAPTERS[envelope.adapter]())


def shown(program: Any, signature: Signature, adapter: Any) -> Shown:
    """The program as people read it, with placeholders for its inputs."""
    return Shown(
        instructions=instructions_of(program),
        demos=[plain(demo) for demo in program.demos],
        messages=plain(messages_of(program, placeholders(signature), adapter)),
    )
