"""Optimized programs on disk: an envelope of our own around DSPy's state, and the links that say which is in use.

`optimized_modules/<signature>/vYYYYMMDD_HHMMSS/program.json`, with the relative links `latest` (the newest) and
`deployed` (the one that serves). The envelope can be read in any language without DSPy; this module knows none of it.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
from dataclasses import asdict, dataclass, fields, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from flywheel.base.clock import stamp
from flywheel.base.errors import BadInputError, DamagedError
from flywheel.base.files import locked, read_json_object, swap_link, sync_folder, to_json, write_synced
from flywheel.base.paths import private_folder

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

SCHEMA_VERSION = 1
FILE_NAME = "program.json"
LATEST = "latest"
DEPLOYED = "deployed"
# The folder beside the versions of a candidate that waits for its next test.
WAITING = "waiting"
_MARK = "flywheel_program"
# What other readers of the envelope rely on, by type.
_KINDS = {
    **dict.fromkeys(("signature", "instructions", "adapter", "model", "optimizer", "run_id", "created"), str),
    **dict.fromkeys(("dataset_version", "dataset_hash"), str),
    **dict.fromkeys(("fields", "demos"), list),
    **dict.fromkeys(("state", "scores", "model_parameters"), dict),
    "seed": int,
}


@dataclass(frozen=True)
class ProgramField:
    """One field of the signature, in order; `type` as in `list[str]`, `role` input or output."""

    name: str
    role: str
    type: str
    description: str


@dataclass(frozen=True)
class ProgramScores:
    """How the program fared on the test split (0-1, higher is better) in the run that made it."""

    baseline: float
    optimized: float
    improvement_percent: float | None
    improvement_ci: tuple[float, float] | None
    n_test: int


@dataclass(frozen=True)
class Program:
    """An optimized program and everything needed to say where it came from.

    `state` is DSPy's own JSON state; `instructions` and `demos` repeat what matters of it for other readers.
    """

    signature: str
    fields: tuple[ProgramField, ...]
    instructions: str
    demos: tuple[dict[str, Any], ...]
    adapter: str
    model: str
    model_snapshot: str | None
    model_parameters: dict[str, Any]
    optimizer: str
    seed: int
    dataset_version: str
    dataset_hash: str
    run_id: str
    created: str
    scores: ProgramScores
    state: dict[str, Any]

    def to_json(self) -> str:
        """The envelope as JSON text."""
        return to_json({_MARK: SCHEMA_VERSION, **asdict(self)})

    @classmethod
    def from_object(cls, value: dict[str, Any], source: str) -> Self:
        """The program in a decoded envelope.

        Raises:
            DamagedError: no envelope, another schema, keys missing or unknown, or values of a wrong type.
        """
        if value.get(_MARK) != SCHEMA_VERSION:
            found = f"schema {value[_MARK]}" if _MARK in value else "no envelope"
            msg = f"{source}: not a program envelope of schema {SCHEMA_VERSION} ({found})"
            raise DamagedError(msg)
        body = {key: item for key, item in value.items() if key != _MARK}
        expected = {field.name for field in fields(cls)}
        if body.keys() != expected:
            msg = f"{source}: keys missing {sorted(expected - body.keys())}, unknown {sorted(body.keys() - expected)}"
            raise DamagedError(msg)
        wrong = [name for name, kind in _KINDS.items() if not isinstance(body[name], kind)]
        if wrong:
            msg = f"{source}: malformed program envelope: {', '.join(wrong)} of a wrong type"
            raise DamagedError(msg)
        try:
            body["fields"] = tuple(ProgramField(**field) for field in body["fields"])
            body["demos"] = tuple(dict(demo) for demo in body["demos"])
            scores = dict(body["scores"])
            low_high = scores.pop("improvement_ci")
            body["scores"] = ProgramScores(improvement_ci=tuple(low_high) if low_high else None, **scores)
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            msg = f"{source}: malformed program envelope: {error}"
            raise DamagedError(msg) from error
        return cls(**body)


def read_program(path: Path, signature: str | None = None) -> Program:
    """The program in `path`, which must be of `signature` where one is given.

    Raises:
        BadInputError: it cannot be read, or belongs to another signature.
        DamagedError: it is no whole envelope.
    """
    program = Program.from_object(read_json_object(path, "a program envelope"), str(path))
    if signature is not None and program.signature != signature:
        msg = f"{path}: a program of {program.signature}, not of {signature}"
        raise BadInputError(msg)
    return program


def envelope_signature(path: Path) -> str | None:
    """The signature that the envelope in `path` belongs to; None when the JSON is not our envelope.

    Raises:
        BadInputError: it cannot be read.
        DamagedError: it is not a JSON object, or an envelope without a signature.
    """
    value = read_json_object(path, "a JSON object")
    if _MARK not in value:
        return None
    name = value.get("signature")
    if not isinstance(name, str):
        msg = f"{path}: program envelope without a signature"
        raise DamagedError(msg)
    return name


def deployed_program(programs: Path, signature: str) -> Path | None:
    """The file of the program that serves `signature`, its version resolved; None when none is deployed."""
    path = programs / signature / DEPLOYED / FILE_NAME
    return path.resolve() if path.is_file() else None


def publish(programs: Path, program: Program, moment: datetime) -> Path:
    """Store the program as a new version, whole or not at all, and move `latest`; the path of its file.

    What a run has published already, before it was killed and resumed, becomes no second version.
    """
    folder = private_folder(private_folder(programs) / program.signature)
    with locked(folder / ".lock"):
        before = _published(folder, program)
        if before is not None:
            swap_link(folder / LATEST, max(path.parent.name for path in _versions(folder)))
            return before
        while (target := folder / f"v{stamp(moment)}").exists():
            moment += timedelta(seconds=1)
        for left in folder.glob(".staging-*"):  # by a killed process: under the lock nobody else is at work
            shutil.rmtree(left)
        staging = folder / f".staging-{target.name}-{secrets.token_hex(4)}"
        staging.mkdir(mode=0o700)
        write_synced(staging / FILE_NAME, program.to_json().encode())
        sync_folder(staging)
        staging.rename(target)
        sync_folder(folder)
        swap_link(folder / LATEST, target.name)
    return target / FILE_NAME


def _versions(folder: Path) -> list[Path]:
    """The files of all stored versions."""
    return sorted(folder.glob(f"v*/{FILE_NAME}"))


def _published(folder: Path, program: Program) -> Path | None:
    """The version that the same run has made of the same program; the time of making may differ."""
    for path in _versions(folder):
        with contextlib.suppress(BadInputError, DamagedError):
            if replace(read_program(path), created=program.created).to_json() == program.to_json():
                return path
    return None


def deploy(programs: Path, signature: str, version: str) -> Path:
    """Move `deployed` to a stored version, a link such as `latest` meaning what it points at now; the program's path.

    Raises:
        BadInputError: no such version.
    """
    folder = programs / signature
    path = folder / version / FILE_NAME
    if "/" in version or not path.is_file():
        msg = f"{path}: no such program; `ls {folder}` shows the versions"
        raise BadInputError(msg)
    with locked(folder / ".lock"):
        stored = path.parent.resolve()
        swap_link(folder / DEPLOYED, stored.name)
    return folder / stored.name / FILE_NAME


def succeed(programs: Path, predecessor: Path | None, successor: Path) -> None:
    """Move `deployed` to a published program, if `predecessor` serves still (None: nothing does); repeated, it stays.

    Raises:
        BadInputError: another program was deployed since.
    """
    folder = successor.parent.parent
    with locked(folder / ".lock"):
        require_predecessor(programs, predecessor, successor)
        swap_link(folder / DEPLOYED, successor.parent.name)


def require_predecessor(programs: Path, predecessor: Path | None, successor: Path) -> None:
    """Refuse that the successor takes the place of a program with which it was never compared.

    Raises:
        BadInputError: another program was deployed since.
    """
    serving = deployed_program(programs, successor.parent.parent.name)
    allowed = {path.resolve() for path in (predecessor, successor) if path is not None}
    if serving in allowed or (serving is None and predecessor is None):
        return
    now = "nothing is deployed" if serving is None else f"{serving.parent.name} was deployed"
    before = "the plain program" if predecessor is None else predecessor.parent.name
    msg = f"{now} since the run began, and it was compared with {before}; the next run compares it with what serves"
    raise BadInputError(msg)


def undeploy(programs: Path, signature: str) -> None:
    """Remove `deployed`: nothing was deployed before. The versions stay."""
    folder = programs / signature
    with locked(folder / ".lock"):
        (folder / DEPLOYED).unlink(missing_ok=True)
        sync_folder(folder)
