"""Versioned datasets: `<root>/<signature>/vYYYYMMDD_HHMMSS/`, each there whole or not at all, `latest` always valid.

A version is staged in a hidden folder, fsynced, renamed, and `latest` is swapped by rename, all under one lock per
signature.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from flywheel.base.clock import iso, stamp
from flywheel.base.errors import BadInputError, DamagedError
from flywheel.base.files import (
    locked,
    parse_json,
    read_json_object,
    read_text,
    swap_link,
    sync_folder,
    to_json,
    write_synced,
)
from flywheel.base.paths import private_folder
from flywheel.data.examples import Example
from flywheel.data.metadata import DatasetMetadata, content_hash, provenance_row, summarize

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from flywheel.data.signatures.types import Signature

DATASET, METADATA, PROVENANCE = "dataset.json", "metadata.json", "provenance.jsonl"
LATEST = "latest"


@dataclass(frozen=True)
class Batch:
    """What a new version says of itself besides its examples."""

    source: str
    notes: str
    moment: datetime


def versions(root: Path, signature: str) -> list[DatasetMetadata]:
    """The stored versions, oldest first by sequence.

    Raises:
        DamagedError: a version whose metadata cannot be read.
    """
    folder = root / signature
    found = [read_metadata(p) for p in folder.glob("v*_*") if p.is_dir()] if folder.is_dir() else []
    return sorted(found, key=lambda metadata: metadata.sequence)


def read_metadata(version: Path) -> DatasetMetadata:
    """metadata.json of the version in folder `version`; DamagedError when it is not whole."""
    value = read_json_object(version / METADATA, "dataset metadata")
    try:
        return DatasetMetadata.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        msg = f"{version / METADATA}: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise DamagedError(msg) from error


def find(root: Path, signature: str, version: str = LATEST) -> Path:
    """The folder of a version, `latest` resolved.

    Raises:
        BadInputError: no such version; the message says how to see which there are.
    """
    folder = root / signature / version
    if "/" in version or not (folder / METADATA).is_file():
        msg = f"{signature}: no dataset version {version} in {root}; `dataset_manager.py list` shows what there is"
        raise BadInputError(msg)
    return folder.resolve()


def load_rows(root: Path, signature: str, version: str = LATEST) -> tuple[DatasetMetadata, list[dict[str, Any]]]:
    """Metadata and rows of a version, as stored, after checking its files against their checksums.

    Raises:
        BadInputError: no such version.
        DamagedError: a file that is missing or does not match its checksum.
    """
    folder = find(root, signature, version)
    metadata = read_metadata(folder)
    for name, expected in metadata.files.items():
        if not (folder / name).is_file():
            msg = f"{folder / name}: missing; restore it from an archive"
            raise DamagedError(msg)
        if _sha256((folder / name).read_bytes()) != expected:
            msg = f"{folder / name}: damaged (its checksum differs from {METADATA}); restore it from an archive"
            raise DamagedError(msg)
    return metadata, parse_json(read_text(folder / DATASET), str(folder / DATASET), "a dataset")


def load(root: Path, signature: str, version: str = LATEST) -> tuple[DatasetMetadata, list[Example]]:
    """Metadata and examples of a version; errors as `load_rows`."""
    metadata, rows = load_rows(root, signature, version)
    try:
        return metadata, [Example.model_validate(row) for row in rows]
    except ValidationError as error:
        msg = f"{signature} {metadata.version}: {DATASET} holds what is no example: {error.errors()[0]['msg']}"
        raise DamagedError(msg) from error


def newest(root: Path, signature: str) -> str | None:
    """The version to add to: `latest`, else the highest sequence (a writer was killed before it moved the link)."""
    if (root / signature / LATEST / METADATA).is_file():
        return LATEST
    found = versions(root, signature)
    return found[-1].version if found else None


def write_version(
    root: Path, signature: Signature, examples: Sequence[Example], batch: Batch, parent: DatasetMetadata | None
) -> DatasetMetadata:
    """Store `examples` (with ids and splits) as a new version and move `latest`; the caller holds the lock."""
    folder = root / signature.name
    _sweep(folder)
    moment = batch.moment
    while any((folder / f"v{stamp(moment)}{suffix}").exists() for suffix in ("", ".tar.gz")):
        moment += timedelta(seconds=1)
    rows = [example.to_dict() for example in examples]
    body = {
        DATASET: to_json(rows).encode(),
        PROVENANCE: "".join(to_json(provenance_row(e, iso(batch.moment)), None) for e in examples).encode(),
    }
    salt = parent.salt if parent is not None else secrets.token_hex(16)
    metadata = DatasetMetadata(
        version=f"v{stamp(moment)}",
        sequence=1 + max((m.sequence for m in versions(root, signature.name)), default=0),
        signature=signature.name,
        created=iso(batch.moment),
        parent_version=parent.version if parent is not None else None,
        source=batch.source,
        notes=batch.notes,
        example_count=len(rows),
        salt=salt,
        content_hash=content_hash(salt, rows),
        files={name: _sha256(content) for name, content in body.items()},
        statistics=summarize(signature, examples),
    )
    body[METADATA] = to_json(metadata.model_dump(mode="json", exclude_none=False)).encode()
    _install(folder, metadata.version, body)
    return metadata


def _install(folder: Path, version: str, body: Mapping[str, bytes]) -> None:
    staging = folder / f".staging-{version}-{secrets.token_hex(4)}"
    staging.mkdir(mode=0o700)
    for name, content in body.items():
        write_synced(staging / name, content)
    sync_folder(staging)
    staging.rename(folder / version)
    sync_folder(folder)
    swap_link(folder / LATEST, version)


def _sweep(folder: Path) -> None:
    """Remove what a killed writer left behind; under the lock no staging folder has a living owner."""
    for staging in folder.glob(".staging-*"):
        shutil.rmtree(staging)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def writer_lock(root: Path, signature: str) -> Any:
    """The lock that every writer of a signature's datasets holds; makes the folders it needs."""
    folder = private_folder(private_folder(root) / signature)
    return locked(folder / ".lock")
