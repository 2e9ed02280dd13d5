"""Versioned datasets: `<root>/<signature>/vYYYYMMDD_HHMMSS/`, each there whole or not at all, `latest` always valid.

Order follows `sequence` in the metadata, never the name. An archived version (`v*.tar.gz`) is read like any other.
Reading takes no lock; what writes is in publishing.py.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from flywheel.base.errors import BadInputError, DamagedError
from flywheel.base.files import parse_json
from flywheel.data import archive_file
from flywheel.data.examples import Example
from flywheel.data.metadata import DatasetMetadata

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DATASET, METADATA, PROVENANCE = "dataset.json", "metadata.json", "provenance.jsonl"
LATEST = "latest"
# What `latest` becomes: it points at a version from before that version is there.
NEXT = ".latest.next"
_VERSION = "v*_*"


def places(root: Path, signature: str) -> dict[str, Path]:
    """Where each version is, by name: its folder, or its archive where there is no (whole) folder."""
    folder = root / signature
    names = dict.fromkeys(archive_file.version_of(path) for path in folder.glob(_VERSION + archive_file.SUFFIX))
    names |= dict.fromkeys(path.name for path in folder.glob(_VERSION) if path.is_dir())
    return {name: place for name in names if (place := _place(folder, name)) is not None}


def _place(folder: Path, version: str) -> Path | None:
    """Where one version is, found without a look at the others; None where there is none of that name."""
    if "/" in version or not fnmatchcase(version, _VERSION):
        return None
    stored, archived = folder / version, folder / f"{version}{archive_file.SUFFIX}"
    if not archived.exists():
        return stored if stored.is_dir() else None
    return stored if (stored / METADATA).is_file() else archived


def versions(root: Path, signature: str) -> list[DatasetMetadata]:
    """The stored versions, archived ones among them, oldest first by sequence.

    Raises:
        DamagedError: a version whose metadata cannot be read.
    """
    found = [read_metadata(path) for path in places(root, signature).values()]
    return sorted(found, key=lambda metadata: (metadata.sequence, metadata.version))


def read_file(version: Path, name: str) -> bytes:
    """A file of the version in a folder or archive.

    Raises:
        DamagedError: it is not there, or the archive is damaged.
    """
    if archive_file.is_archive(version):
        content = archive_file.unpack_one(version, name)
    else:
        content = (version / name).read_bytes() if (version / name).is_file() else None
    if content is None:
        msg = f"{version / name}: missing; put the version back from a backup"
        raise DamagedError(msg)
    return content


def read_metadata(version: Path) -> DatasetMetadata:
    """metadata.json of the version in folder or archive `version`; DamagedError when it is not whole."""
    where = f"{version / METADATA}"
    try:
        value = parse_json(read_file(version, METADATA).decode(), where, "dataset metadata")
        if not isinstance(value, dict):
            msg = f"{where}: expected dataset metadata, found {type(value).__name__}"
            raise DamagedError(msg)
        return DatasetMetadata.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        msg = f"{where}: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise DamagedError(msg) from error
    except (BadInputError, UnicodeDecodeError) as error:
        msg = str(error) if isinstance(error, BadInputError) else f"{where}: not UTF-8 text"
        raise DamagedError(msg) from error


def find(root: Path, signature: str, version: str = LATEST) -> Path:
    """The folder or archive of a version, `latest` resolved.

    Raises:
        BadInputError: no such version; the message says how to see which there are.
    """
    name = latest(root, signature) if version == LATEST else version
    found = _place(root / signature, name) if name is not None else None
    if found is None:
        msg = f"{signature}: no dataset version {version} in {root}; `dataset_manager.py list` shows what there is"
        raise BadInputError(msg)
    return found.resolve()


def latest(root: Path, signature: str) -> str | None:
    """The version that `latest` means; None when the link is missing or leads nowhere.

    A writer that died after its version was in place has not moved the link yet; it counts as moved.
    """
    folder = root / signature
    for link in (folder / NEXT, folder / LATEST):
        if link.is_symlink() and (link / METADATA).is_file():
            return link.readlink().name
    return None


def newest(root: Path, signature: str) -> str | None:
    """The version to add to: `latest`, else the highest sequence, where somebody removed the link; None: no version."""
    name = latest(root, signature)
    if name is not None:
        return name
    found = versions(root, signature)
    return found[-1].version if found else None


def sha256(content: bytes) -> str:
    """The checksum of a file as metadata.json has it."""
    return hashlib.sha256(content).hexdigest()


def checked_files(version: Path) -> tuple[DatasetMetadata, dict[str, bytes]]:
    """Metadata and the files it names, which match its checksums.

    Raises:
        DamagedError: a file that is missing or does not match.
    """
    metadata = read_metadata(version)
    archived = archive_file.is_archive(version)
    files = archive_file.unpack(version) if archived else {name: read_file(version, name) for name in metadata.files}
    for name, expected in metadata.files.items():
        if name not in files:
            msg = f"{version / name}: missing; put the version back from a backup"
            raise DamagedError(msg)
        if sha256(files[name]) != expected:
            msg = (
                f"{version / name}: damaged (its checksum differs from {METADATA}); put the version back from a backup"
            )
            raise DamagedError(msg)
    return metadata, files


def load_files(root: Path, signature: str, version: str = LATEST) -> tuple[DatasetMetadata, dict[str, bytes]]:
    """Metadata and files of a version, matched against their checksums.

    Raises:
        BadInputError: no such version.
        DamagedError: a file that is missing or does not match.
    """
    place = find(root, signature, version)
    try:
        return checked_files(place)
    except (DamagedError, OSError):
        again = find(root, signature, version)
        if again == place:
            raise
        # It was archived, restored or overtaken while it was read.
        return checked_files(again)


def load_rows(root: Path, signature: str, version: str = LATEST) -> tuple[DatasetMetadata, list[dict[str, Any]]]:
    """Metadata and rows of a version, as stored; errors as `load_files`."""
    metadata, files = load_files(root, signature, version)
    try:
        with _uncollected():
            return metadata, json.loads(files[DATASET])
    except (KeyError, ValueError) as error:
        msg = f"{signature} {metadata.version}: {DATASET} is no dataset, though its checksum is right: {error}"
        raise DamagedError(msg) from error


def load(root: Path, signature: str, version: str = LATEST) -> tuple[DatasetMetadata, list[Example]]:
    """Metadata and examples of a version; errors as `load_rows`."""
    metadata, rows = load_rows(root, signature, version)
    try:
        with _uncollected():
            return metadata, TypeAdapter(list[Example]).validate_python(rows)
    except ValidationError as error:
        msg = f"{signature} {metadata.version}: {DATASET} holds what is no example: {error.errors()[0]['msg']}"
        raise DamagedError(msg) from error


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Without the garbage collector, which looks for cycles that decoded JSON cannot have: half the time of a load."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
