"""An assignment packed for a worker that shares no disk with its caller, and what the worker sends back.

The worker finds the files that the work reads in a folder of its own, laid out as here: the deployed program, the
candidate that waits, the uses of the test split, and what the run has of the signature already (its answers, calls and
decisions, where it is resumed). Back come the files under the run's folder; calls come one by one, as they happen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cloudpickle

from flywheel.base.clock import now
from flywheel.base.errors import DamagedError
from flywheel.base.files import to_json, write_atomic
from flywheel.base.lines import append_lines, read_lines
from flywheel.base.paths import private_folder
from flywheel.base.programs import WAITING
from flywheel.data.test_uses import USES_FILE, generation, record_use
from flywheel.learning.calls import read_calls
from flywheel.learning.cycle import CACHE
from flywheel.learning.ledger import FILE_NAME
from flywheel.learning.replay import DECISIONS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flywheel.learning.assignment import Assignment
    from flywheel.learning.cycle import Terms, Worked

RUN, PROGRAMS, DATASETS = "run", "programs", "datasets"
# What several signatures write to one after another: added to what is there.
_ADDED = frozenset({".log"})


@dataclass(frozen=True)
class Parcel:
    """An assignment and its terms, pickled, and the files that go with them by their path in the worker's folder."""

    body: bytes
    files: dict[str, bytes]


@dataclass(frozen=True)
class Goods:
    """What came of it, pickled, the files by their path in the run's folder, and whether the test split was used."""

    body: bytes
    files: dict[str, bytes]
    used_test: bool

    @property
    def worked(self) -> Worked:
        """What became of the assignment."""
        worked: Worked = cloudpickle.loads(self.body)
        return worked


def pack(assignment: Assignment, terms: Terms) -> Parcel:
    """Everything the work needs. The rollout stays behind: its caller begins it."""
    name, run = assignment.signature.name, terms.results.parent
    files = dict(_under(terms.waiting / name / WAITING, f"{PROGRAMS}/{name}/{WAITING}"))
    if assignment.deployed is not None:
        path = f"{PROGRAMS}/{name}/{assignment.deployed.parent.name}/{assignment.deployed.name}"
        files[path] = assignment.deployed.read_bytes()
    uses = assignment.datasets / name / USES_FILE
    if uses.is_file():
        files[f"{DATASETS}/{name}/{USES_FILE}"] = uses.read_bytes()
    answers = dict(_under(run / CACHE / name, f"{RUN}/{CACHE}/{name}"))
    if answers:
        # Without the answers, what the ledger knows as answered would have to be asked again, and past the limits.
        calls = (vars(call) for call in read_calls(run / FILE_NAME) if call.signature == name)
        files |= {**answers, f"{RUN}/{FILE_NAME}": "".join(to_json(call, indent=None) for call in calls).encode()}
        if (run / DECISIONS).is_file():
            files[f"{RUN}/{DECISIONS}"] = (run / DECISIONS).read_bytes()
    return Parcel(cloudpickle.dumps((assignment, replace(terms, roll_out=None))), files)


def unpack(parcel: Parcel, folder: Path) -> tuple[Assignment, Terms]:
    """The assignment and its terms, with all their places under `folder`."""
    assignment, terms = cloudpickle.loads(parcel.body)
    for path, content in parcel.files.items():
        _write(folder, path, content)
    results = private_folder(folder / RUN / terms.results.name)
    own = folder / PROGRAMS / assignment.signature.name
    deployed = assignment.deployed and own / assignment.deployed.parent.name / assignment.deployed.name
    private_folder(folder / DATASETS / assignment.signature.name)
    placed = replace(assignment, deployed=deployed, datasets=folder / DATASETS)
    # That machine made no call to try the model, as little as a resumed run does: its first one has to be answered.
    return placed, replace(terms, results=results, programs=folder / PROGRAMS, resumed=True)


def gathered(worked: Worked, assignment: Assignment, terms: Terms) -> Goods:
    """What a worker that has done its work sends back, but for the calls."""
    used = terms.run_id in generation(assignment.datasets, assignment.signature.name).runs
    files = dict(_under(terms.results.parent, ""))
    files.pop(FILE_NAME, None)
    return Goods(cloudpickle.dumps(worked), files, used)


def put_away(goods: Goods, assignment: Assignment, terms: Terms) -> None:
    """Put what came back in its place, before anybody sees the verdict."""
    if goods.used_test:
        name, version = assignment.signature.name, assignment.dataset_version
        record_use(assignment.datasets, name, terms.run_id, version, now())
    run = terms.results.parent
    for path, content in goods.files.items():
        target = run / path
        if path == DECISIONS:
            known = set(read_lines(target))
            append_lines(target, "".join(f"{line}\n" for line in content.decode().splitlines() if line not in known))
        else:
            before = target.read_bytes() if target.suffix in _ADDED and target.is_file() else b""
            _write(run, path, before + content)


def _under(folder: Path, prefix: str) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            relative = path.relative_to(folder).as_posix()
            yield (f"{prefix}/{relative}" if prefix else relative), path.read_bytes()


def _write(folder: Path, path: str, content: bytes) -> None:
    target = folder / path
    if not target.resolve().is_relative_to(folder.resolve()):
        msg = f"{path}: leads out of the folder that it is for"
        raise DamagedError(msg)
    private_folder(target.parent)
    write_atomic(target, content)
