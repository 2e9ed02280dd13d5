"""A candidate that no test could decide upon yet, kept beside the programs with the evidence so far.

`<programs>/<signature>/waiting/` holds program.json and retest.json. Evidence is a bet on every test group's mean
difference between candidate and baseline, each group once: an e-value, which multiplies over the months. Were the
candidate no better, its expectation would be at most 1, and it would ever reach 40 with probability 1/40 at most,
however often one looks.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, ConfigDict

from flywheel.base.betting import STAKES, added, bet_logs, mixture, zeros
from flywheel.base.evaluations import Retested
from flywheel.base.files import locked, write_atomic, write_json
from flywheel.base.paths import private_folder
from flywheel.base.programs import FILE_NAME as PROGRAM_FILE
from flywheel.base.programs import WAITING, Program, read_program
from flywheel.base.record_file import read_record

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from flywheel.learning.verdict import Item

STATE_FILE = "retest.json"
ENOUGH = 40.0
# After so many tests without a decision the candidate is given up, and new trials are bought.
MOST_TESTS = 4


class Tested(BaseModel):
    """One month's test: the run, how many examples both programs answered, sums of their scores, e-value after it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str
    n: int
    n_synthetic: int
    baseline_sum: float
    optimized_sum: float
    e_value: float


class Evidence(BaseModel):
    """retest.json: what is known of the candidate. `groups` were its test already and never are again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    baseline: str
    logs: tuple[float, ...] = zeros(len(STAKES))
    groups: tuple[str, ...] = ()
    tests: tuple[Tested, ...] = ()

    @property
    def e_value(self) -> float:
        """The evidence that the candidate is better than the baseline; deploy from 40."""
        return mixture(self.logs)

    @property
    def n(self) -> int:
        """How many examples it rests on."""
        return sum(test.n for test in self.tests)

    @property
    def synthetic_share(self) -> float:
        """The share of synthetic examples among them, 0-1."""
        return sum(test.n_synthetic for test in self.tests) / self.n if self.n else 0.0

    @property
    def improvement_percent(self) -> float:
        """The improvement over all tests, in percent of the baseline's score; points of 100 where that is 0."""
        return _improvement(self.tests)

    @property
    def history(self) -> list[Retested]:
        """What was known after each test, oldest first."""
        return [
            Retested(
                run_id=test.run_id,
                n=test.n,
                e_value=test.e_value,
                improvement_percent=_improvement(self.tests[: number + 1]),
            )
            for number, test in enumerate(self.tests)
        ]

    def after(self, items: Sequence[Item], run_id: str) -> Self:
        """The evidence with a further test on groups that were not looked at before.

        Raises:
            ValueError: a group was.
        """
        differences: dict[str, list[float]] = defaultdict(list)
        answered = [(i, i.baseline, i.optimized) for i in items if i.baseline is not None and i.optimized is not None]
        for item, before, after in answered:
            differences[item.group].append(after - before)
        seen = set(self.groups) & differences.keys()
        if seen:
            msg = f"groups tested again: {', '.join(sorted(seen))}"
            raise ValueError(msg)
        logs = added(self.logs, bet_logs([fmean(differences[group]) for group in sorted(differences)]))
        test = Tested(
            run_id=run_id,
            n=len(answered),
            n_synthetic=sum(item.source == "synthetic" for item, _, _ in answered),
            baseline_sum=sum(before for _, before, _ in answered),
            optimized_sum=sum(after for _, _, after in answered),
            e_value=mixture(logs),
        )
        # A group counts as looked at even where an answer failed.
        groups = tuple(sorted({*self.groups, *(item.group for item in items)}))
        return self.model_copy(update={"logs": logs, "groups": groups, "tests": (*self.tests, test)})


def _improvement(tests: Sequence[Tested]) -> float:
    before, after = sum(test.baseline_sum for test in tests), sum(test.optimized_sum for test in tests)
    return 100 * (after - before) / (before or sum(test.n for test in tests) or 1)


@dataclass(frozen=True)
class Waiting:
    """A candidate that waits for its next test."""

    program: Program
    evidence: Evidence


def read_waiting(programs: Path, signature: str) -> Waiting | None:
    """The signature's waiting candidate; None when there is none.

    Raises:
        BadInputError: a file cannot be read.
        DamagedError: one is not whole.
    """
    folder = programs / signature / WAITING
    if not (folder / STATE_FILE).is_file():
        return None
    advice = f"remove the folder {folder}"
    evidence = read_record(Evidence, folder / STATE_FILE, "a candidate's evidence", advice)
    return Waiting(read_program(folder / PROGRAM_FILE, signature), evidence)


def keep(programs: Path, waiting: Waiting) -> None:
    """Keep the candidate and its evidence; one that waited before is replaced."""
    own = private_folder(private_folder(programs) / waiting.program.signature)
    with locked(own / ".lock"):
        folder = private_folder(own / WAITING)
        # Without its evidence a program does not wait: a crash between the files leaves nothing half believed.
        (folder / STATE_FILE).unlink(missing_ok=True)
        write_atomic(folder / PROGRAM_FILE, waiting.program.to_json())
        write_json(folder / STATE_FILE, waiting.evidence.model_dump(mode="json"))


def snapshot(programs: Path, signature: str, into: Path) -> None:
    """Copy what waits now below the folder `into`: what a run is to see of it, however often it is resumed."""
    folder = private_folder(private_folder(private_folder(into) / signature) / WAITING)
    for name in (PROGRAM_FILE, STATE_FILE):
        source = programs / signature / WAITING / name
        if source.is_file():
            write_atomic(folder / name, source.read_bytes())


def forget(programs: Path, signature: str) -> None:
    """The candidate waits no longer."""
    own = programs / signature
    if (own / WAITING).is_dir():
        with locked(own / ".lock"):
            shutil.rmtree(own / WAITING)
