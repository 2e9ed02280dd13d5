"""What a run puts into a signature's dataset, once however often it is resumed, and takes out of it to work on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.base.clock import now
from flywheel.base.programs import deployed_program
from flywheel.data.additions import Added, Sharing, add_examples
from flywheel.data.publishing import Batch
from flywheel.data.store import newest, versions
from flywheel.data.test_uses import generation, used
from flywheel.data.whole import load_whole
from flywheel.learning.assignment import Assignment
from flywheel.learning.waiting import snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flywheel.data.examples import Example
    from flywheel.data.signatures.types import Signature


def put(root: Path, signature: Signature, examples: Sequence[Example], run_id: str, sharing: Sharing) -> Added:
    """Add a run's batch to the dataset; without examples it only retires a test split that is used up.

    A run that was killed after this and is resumed finds its version, and adds nothing.
    """
    batch = Batch("cycle", f"added by {run_id}", now())
    every = {metadata.version: metadata for metadata in versions(root, signature.name)}
    own = next((metadata for metadata in every.values() if metadata.notes == batch.notes), None)
    if own is None:
        return add_examples(root, signature, examples, batch, onto_latest=True, sharing=sharing)
    parent = every.get(own.parent_version or "")
    new = own.example_count - (parent.example_count if parent is not None else 0)
    return Added(own, new, len(examples))


@dataclass(frozen=True)
class Begun:
    """On what a run begins: the newest dataset version, its test split's generation, and the deployed program."""

    dataset_version: str
    generation: int
    deployed: str | None


def begun(root: Path, signature: str, programs: Path, start: Path) -> Begun:
    """What the signature is worked on with from now on; what waits is copied to `start`."""
    snapshot(programs, signature, start)
    deployed = deployed_program(programs, signature)
    version = str(newest(root, signature))
    return Begun(version, generation(root, signature).number, None if deployed is None else str(deployed))


def outdated(root: Path, signature: str, found: Begun, run_id: str) -> str | None:
    """Why a resumed run cannot go on with the signature; None when it can."""
    if generation(root, signature).number != found.generation and not used(root, signature, run_id):
        return "its test split has become training data since the run began; begin a new run"
    if found.deployed is not None and not Path(found.deployed).is_file():
        return f"the program that was deployed when the run began is gone: {found.deployed}; begin a new run"
    return None


def assignment(root: Path, signature: Signature, found: Begun) -> Assignment:
    """All of the dataset version, with groups as they are by now, to be optimized against what was deployed.

    Raises:
        BadInputError: no such version.
        DamagedError: it is not whole.
    """
    metadata, stored = load_whole(root, signature.name, found.dataset_version)
    program = None if found.deployed is None else Path(found.deployed)
    return Assignment(signature, stored, metadata.version, metadata.content_hash, program, root)


def to_work_on(
    root: Path, signatures: Sequence[Signature], left: Mapping[str, Mapping[str, Any]], run_id: str
) -> tuple[list[Assignment], dict[str, str]]:
    """The assignments of what is `left` (by signature, the fields of Begun), and why others cannot be gone on with."""
    work, gone = [], {}
    for signature in signatures:
        if signature.name in left:
            on = Begun(**left[signature.name])
            reason = outdated(root, signature.name, on, run_id)
            if reason is None:
                work.append(assignment(root, signature, on))
            else:
                gone[signature.name] = reason
    return work, gone
