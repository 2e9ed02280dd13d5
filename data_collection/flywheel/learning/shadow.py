"""A candidate run in the shadow: recorded inputs through it and the baseline, side by side, before any user meets it.

Both programs answer the same inputs with the same model, past every cache, in alternating order, so that whatever slows
or breaks the model hits both. A candidate is refused where the pairs prove it harmful; that they do not is no proof of
harmlessness, which the rollout still asks for.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dspy

from flywheel.base.clock import iso, now
from flywheel.base.errors import BadInputError
from flywheel.base.programs import read_program
from flywheel.data.schema import problems
from flywheel.learning.evaluation import evaluate
from flywheel.learning.ledger import FILE_NAME, Ledger, RunStopped
from flywheel.learning.lm import context_of, open_model
from flywheel.learning.optimizers import dspy_kept_quiet
from flywheel.learning.pairwise import BASELINE, FEWEST, Outcome, compared
from flywheel.learning.preflight import preflight
from flywheel.learning.program import from_envelope, plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flywheel.base.recorded import Recorded
    from flywheel.data.signatures.types import Signature
    from flywheel.learning.choice import ModelChoice
    from flywheel.learning.pairwise import Terms

THREADS = 4
_PLACE, _ARM = "shadow_place", "shadow_arm"


class _SideBySide(dspy.Module):  # type: ignore[misc] # dspy is untyped
    """Runs whichever program an input names, and keeps every outcome, also when a limit ends the replay."""

    def __init__(self, programs: Mapping[str, Any]) -> None:
        super().__init__()
        self.programs = dict(programs)
        self.done: dict[tuple[int, str], Outcome] = {}

    def forward(self, **inputs: Any) -> Any:
        place, arm = inputs.pop(_PLACE), inputs.pop(_ARM)
        started = time.monotonic()
        answer, counts = None, True
        try:
            prediction = self.programs[arm](**inputs)
            answer = plain(prediction)
        except RunStopped:
            counts = False
            raise
        finally:
            if counts:
                self.done[place, arm] = Outcome(answer, (time.monotonic() - started) * 1000)
        return prediction


def replay(
    signature: Signature,
    modules: Mapping[str, str],
    records: Sequence[Recorded],
    choice: ModelChoice,
    terms: Terms,
) -> dict[str, Any]:
    """The report for JSON: `candidates` has a `Shadow` for each of `modules` but the baseline, `harmful` the refused.

    `modules` are paths of programs by variant, the baseline's under `baseline`.

    Raises:
        BadInputError: too few records, or a module that is no program of the signature.
        ModelError: the model does not answer.
    """
    programs = {
        name: from_envelope(read_program(Path(path), signature.name), signature) for name, path in modules.items()
    }
    usable = [record for record in records if _replayable(signature, record.inputs)]
    if len(usable) < FEWEST:
        msg = (
            f"{signature.name}: {len(usable)} of {len(records)} recorded calls can be replayed, at least {FEWEST} are "
            "needed; have the service sample more calls, or start without --shadow"
        )
        raise BadInputError(msg)
    with tempfile.TemporaryDirectory() as scratch, Ledger(Path(scratch) / FILE_NAME, terms.limits) as ledger:
        model = open_model(choice, ledger.account(signature.name), cache_folder=Path(scratch))
        preflight(model)
        both = _SideBySide(programs)
        stopped = None
        with (Path(scratch) / "dspy.log").open("w") as log, dspy_kept_quiet(log), context_of(model.copy(cache=False)):
            try:
                evaluate(
                    both, _interleaved(signature, usable, tuple(programs)), _answered, threads=THREADS, progress=_unseen
                )
            except RunStopped as error:
                stopped = str(error)
        totals = ledger.totals()
    found = {
        name: compared(signature, usable, both.done, name, terms, len(programs) - 1)
        for name in programs
        if name != BASELINE
    }
    return {
        "at": iso(now()),
        "model": model.model,
        "records": len(usable),
        "stopped": stopped,
        "lm_calls": totals.calls,
        "cost_usd": totals.cost_usd,
        "candidates": {name: asdict(item) for name, item in found.items()},
        "harmful": {name: item.harmful for name, item in found.items() if item.harmful},
    }


def _unseen() -> None:
    """Nobody watches; the model's calls are counted."""


def _answered(*_: object) -> float:
    return 1.0


def _replayable(signature: Signature, inputs: Mapping[str, Any]) -> bool:
    known = {field.name: inputs[field.name] for field in signature.inputs if field.name in inputs}
    return not any(detail.startswith("inputs.") for _, detail in problems(signature, known, {}))


def _interleaved(signature: Signature, records: Sequence[Recorded], arms: tuple[str, ...]) -> list[dspy.Example]:
    """Every input for every program, one program after the other, and each the first in turn."""
    names = [field.name for field in signature.inputs]
    found = []
    for place, record in enumerate(records):
        turn = place % len(arms)
        for arm in (*arms[turn:], *arms[:turn]):
            values = {name: record.inputs[name] for name in names}
            found.append(dspy.Example(**values, **{_PLACE: place, _ARM: arm}).with_inputs(*names, _PLACE, _ARM))
    return found
