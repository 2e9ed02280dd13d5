"""Score a deployed program on its canary: a few frozen examples, asked of the model past every cache."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.base.canaries import CanaryItem, CanaryScore, CanarySet
from flywheel.base.clock import iso, now
from flywheel.base.errors import BadInputError, FlywheelError
from flywheel.base.files import locked
from flywheel.base.programs import DEPLOYED, FILE_NAME, deployed_program, read_program
from flywheel.data.examples import Example
from flywheel.data.store import LATEST, load
from flywheel.learning.choice import choose_model
from flywheel.learning.evaluation import evaluate
from flywheel.learning.examples import all_to_dspy
from flywheel.learning.ledger import FILE_NAME as CALLS
from flywheel.learning.ledger import Ledger
from flywheel.learning.lm import context_of, open_model
from flywheel.learning.metrics import build_metric
from flywheel.learning.optimizers import dspy_kept_quiet
from flywheel.learning.preflight import preflight
from flywheel.learning.program import from_envelope

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from flywheel.base.programs import Program
    from flywheel.data.signatures.types import Signature

SIZE, FEWEST = 20, 8
THREADS = 4


def choose(program: Program, examples: Iterable[Example]) -> tuple[CanaryItem, ...]:
    """At most SIZE examples for the program's canary, in an order that its id alone decides.

    Never of the test split, which only a verdict may see, and none that the program shows the model as a demonstration.
    Validation examples come before training ones, and each group gives one before any gives a second.
    """
    shown = [{name: demo.get(name) for name in demo} for demo in program.demos]
    free = [
        example
        for example in examples
        if example.split in {"train", "val"} and not any(example.inputs.items() <= demo.items() for demo in shown)
    ]
    free.sort(key=lambda example: (example.split != "val", _shuffled(program, example)))
    seen: dict[str, int] = {}
    turns = []
    for example in free:
        turn = seen[_group(example)] = seen.get(_group(example), 0) + 1
        turns.append((turn, example))
    turns.sort(key=lambda item: item[0])
    return tuple(
        CanaryItem(example.id or "", _group(example), example.inputs, example.outputs) for _, example in turns[:SIZE]
    )


def _group(example: Example) -> str:
    return example.metadata.group or example.id or ""


def _shuffled(program: Program, example: Example) -> str:
    return hashlib.sha256(f"{program.run_id}:{example.id}".encode()).hexdigest()


def frozen(program: Program, folder: Path, datasets: Path) -> CanarySet:
    """The canary beside the program, chosen now where there is none yet.

    Raises:
        BadInputError: the dataset has fewer than FEWEST examples to choose from.
    """
    if (known := CanarySet.read(folder)) is not None:
        return known
    metadata, examples = _dataset(program, datasets)
    items = choose(program, examples)
    if len(items) < FEWEST:
        msg = f"{program.signature}: {len(items)} examples for a canary, at least {FEWEST} are needed; collect more"
        raise BadInputError(msg)
    found = CanarySet(program.signature, metadata, iso(now()), items)
    found.write(folder)
    return found


def _dataset(program: Program, datasets: Path) -> tuple[str, Sequence[Example]]:
    """The examples of the version that the program was made from, else (it is archived or gone) of the newest."""
    try:
        metadata, examples = load(datasets, program.signature, program.dataset_version)
    except BadInputError:
        metadata, examples = load(datasets, program.signature, LATEST)
    return metadata.version, examples


def score_canary(path: Path, signature: Signature, datasets: Path) -> CanaryScore:
    """Ask the program in `path` (a stored version's file) every example of its canary, and append the score to its log.

    The model is the one that the program was made for; FLYWHEEL_API_BASE says where a server of one's own is.

    Raises:
        ModelError: the model does not answer.
        BadInputError: no examples, or a program that does not fit the signature.
        LockedError: another process scores this canary.
    """
    folder = path.parent
    with locked(folder / ".canary.lock", wait=False):
        program = read_program(path, signature.name)
        canary = frozen(program, folder, datasets)
        score = _score(program, canary, signature, folder.name)
        score.append(folder)
    return score


def _score(program: Program, canary: CanarySet, signature: Signature, name: str) -> CanaryScore:
    choice = choose_model(program.model)
    items = [Example(id=item.id, inputs=item.inputs, outputs=item.outputs) for item in canary.items]
    with tempfile.TemporaryDirectory() as scratch, Ledger(Path(scratch) / CALLS) as ledger:
        model = open_model(
            choice, ledger.account(signature.name), cache_folder=Path(scratch), **_settings(program.model_parameters)
        )
        preflight(model)
        with (Path(scratch) / "dspy.log").open("w") as log, dspy_kept_quiet(log), context_of(model):
            scored = evaluate(
                from_envelope(program, signature),
                all_to_dspy(items, signature),
                build_metric(signature),
                threads=THREADS,
                progress=lambda: None,
            )
        totals = ledger.totals()
    return CanaryScore(
        iso(now()),
        name,
        model.model,
        _snapshot(model.history),
        {item.id: one.score for item, one in zip(canary.items, scored, strict=True)},
        {item.id: item.group for item in canary.items},
        totals.calls,
        totals.cost_usd,
    )


def _settings(parameters: dict[str, Any]) -> dict[str, Any]:
    """How the program's own run asked the model."""
    tokens = parameters.get("max_tokens", parameters.get("max_completion_tokens"))
    return {"temperature": parameters.get("temperature"), "max_tokens": tokens}


def _snapshot(history: Iterable[dict[str, Any]]) -> str | None:
    """What the provider said that it answered with; several, where its answers changed within the round."""
    told = {str(entry["response_model"]) for entry in history if entry.get("response_model")}
    return ", ".join(sorted(told)) or None


def score_deployed(programs: Path, datasets: Path, table: Mapping[str, Signature]) -> dict[str, CanaryScore | str]:
    """Score every deployed program; its score, or why it could not be scored: one that fails stops no other."""
    found: dict[str, CanaryScore | str] = {}
    for name in sorted(path.parent.parent.name for path in programs.glob(f"*/{DEPLOYED}/{FILE_NAME}")):
        path = deployed_program(programs, name)
        if name not in table:
            found[name] = "a signature that is not known here; name its file by --signature-file"
        elif path is not None:
            try:
                found[name] = score_canary(path, table[name], datasets)
            except FlywheelError as error:
                found[name] = str(error)
    return found
