"""Putting a version into the store: staged in a hidden folder, fsynced, renamed, under one lock per signature.

The rename makes it the latest at that very moment, since the link that `latest` becomes stands ready beside it. What
a killed writer left is finished or removed by the next.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from flywheel.base.clock import iso, stamp
from flywheel.base.files import locked, sync_folder, to_json, write_synced
from flywheel.base.paths import private_folder
from flywheel.data.metadata import DatasetMetadata, content_hash, provenance_row, summarize
from flywheel.data.store import DATASET, LATEST, METADATA, NEXT, PROVENANCE, find, read_file, sha256, versions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from flywheel.data.examples import Example
    from flywheel.data.signatures.types import Signature

_STAGING = ".staging-"


@dataclass(frozen=True)
class Batch:
    """What a new version says of itself besides its examples."""

    source: str
    notes: str
    moment: datetime


def write_version(
    root: Path, signature: Signature, examples: Sequence[Example], batch: Batch, parent: DatasetMetadata | None
) -> DatasetMetadata:
    """Store `examples` (with ids and splits) as a new version and move `latest`; the caller holds the lock."""
    stored = versions(root, signature.name)
    moment, taken = batch.moment, {metadata.version for metadata in stored}
    while f"v{stamp(moment)}" in taken:
        moment += timedelta(seconds=1)
    rows = [example.to_dict() for example in examples]
    known = _timestamps(root, parent) if parent is not None else {}
    body = {
        DATASET: to_json(rows).encode(),
        PROVENANCE: "".join(
            to_json(provenance_row(e, known.get(e.id, iso(batch.moment))), None) for e in examples
        ).encode(),
    }
    salt = parent.salt if parent is not None else secrets.token_hex(16)
    metadata = DatasetMetadata(
        version=f"v{stamp(moment)}",
        sequence=1 + max((m.sequence for m in stored), default=0),
        signature=signature.name,
        created=iso(batch.moment),
        parent_version=parent.version if parent is not None else None,
        source=batch.source,
        notes=batch.notes,
        example_count=len(rows),
        salt=salt,
        content_hash=content_hash(salt, rows),
        files={name: sha256(content) for name, content in body.items()},
        statistics=summarize(signature, examples),
    )
    body[METADATA] = to_json(metadata.model_dump(mode="json", exclude_none=False)).encode()
    folder = root / signature.name
    if not stored:
        # The first version of all: the folders above it are as new as it is.
        sync_folder(root.parent)
        sync_folder(root)
    (folder / NEXT).symlink_to(metadata.version)
    place(folder, metadata.version, body)
    _move_latest(folder)
    sync_folder(folder)
    return metadata


def _timestamps(root: Path, parent: DatasetMetadata) -> dict[str | None, str]:
    """When each of the parent's examples came, by id."""
    content = read_file(find(root, parent.signature, parent.version), PROVENANCE)
    rows = (json.loads(line) for line in content.splitlines())
    return {row["example_id"]: row["timestamp"] for row in rows}


def place(folder: Path, version: str, body: Mapping[str, bytes]) -> None:
    """Put a version's files where they belong, all or none, durably; the caller holds the lock.

    Raises:
        OSError: they cannot be written; the error names the version, of which nothing is left.
    """
    staging = folder / f"{_STAGING}{version}-{secrets.token_hex(4)}"
    try:
        staging.mkdir(mode=0o700)
        for name, content in body.items():
            write_synced(staging / name, content)
        sync_folder(staging)
        staging.rename(folder / version)
    except BaseException as error:
        with contextlib.suppress(OSError):
            _sweep(folder)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(folder / version)) from error
        raise
    sync_folder(folder)


def _move_latest(folder: Path) -> None:
    """Make the link that stands ready the `latest`; one to a version that never came goes."""
    following = folder / NEXT
    if (following / METADATA).is_file():
        following.replace(folder / LATEST)
    else:
        following.unlink(missing_ok=True)


def discard(version: Path) -> None:
    """Remove a version's folder in one step, durably; the caller holds the lock and has put its content elsewhere."""
    leftover = version.with_name(f"{_STAGING}{version.name}-{secrets.token_hex(4)}")
    version.rename(leftover)
    sync_folder(version.parent)
    shutil.rmtree(leftover)


def _sweep(folder: Path) -> None:
    """Finish or remove what a killed writer left; under the lock none of it has a living owner."""
    for staging in folder.glob(f"{_STAGING}*"):
        shutil.rmtree(staging)
    for scratch in folder.glob(".*.tmp"):
        scratch.unlink()
    _move_latest(folder)


@contextlib.contextmanager
def writer_lock(root: Path, signature: str) -> Iterator[None]:
    """The lock that every writer of a signature's datasets holds; makes the folders it needs."""
    folder = private_folder(private_folder(root) / signature)
    with locked(folder / ".lock"):
        _sweep(folder)
        yield
