"""Taking an example out of a signature's dataset: out of what comes (purge), or out of what was as well (erase).

Every step stands on disk before the next begins and is skipped where it is done already, so that whoever repeats a
command that was killed completes it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flywheel.base.clock import iso
from flywheel.base.errors import BadInputError
from flywheel.base.files import sync_folder, to_json, write_atomic
from flywheel.data import archive_file
from flywheel.data.archives import restore
from flywheel.data.examples import Example
from flywheel.data.metadata import DatasetMetadata, leaf, summarize
from flywheel.data.publishing import Batch, discard, write_version, writer_lock
from flywheel.data.store import (
    DATASET,
    LATEST,
    METADATA,
    PROVENANCE,
    checked_files,
    load,
    load_files,
    newest,
    places,
    read_file,
    sha256,
    versions,
)
from flywheel.data.target import Target
from flywheel.data.tombstones import Tombstone, append_tombstone, tombstones

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from flywheel.data.signatures.types import Signature

SOURCE = "purge"


@dataclass(frozen=True)
class Held:
    """Where a dataset holds an example, oldest version first: its split in each that has its body, its latest row.

    `erased` are the versions that its body was erased from.
    """

    splits: dict[str, str]
    erased: tuple[str, ...]
    row: dict[str, Any] | None

    @property
    def versions(self) -> tuple[str, ...]:
        """The versions that have its body."""
        return tuple(self.splits)


def held(root: Path, signature: Signature, example_id: str) -> Held:
    """Where the signature's dataset holds the example.

    Raises:
        DamagedError: a version that does not match its checksums.
    """
    found: dict[str, str] = {}
    erased, row = [], None
    for version in (metadata.version for metadata in versions(root, signature.name)):
        metadata, files = load_files(root, signature.name, version)
        if example_id in metadata.erased:
            erased.append(version)
        # Bytes first: parsing every version's rows would take minutes in a large store.
        if example_id.encode() in files[DATASET]:
            for item in json.loads(files[DATASET]):
                if item["id"] == example_id:
                    row, found[version] = item, str(item.get("split"))
    return Held(found, tuple(erased), row)


def target_of(root: Path, signature: Signature, example_id: str) -> tuple[Target, Held]:
    """What to look for, and where the dataset has it; an erased example's body is known no more.

    Raises:
        BadInputError: no version ever held it, as far as is recorded.
    """
    where = held(root, signature, example_id)
    if where.row is not None:
        return Target.of(signature, where.row), where
    stone = tombstones(root, signature.name).get(example_id)
    if stone is None and not where.erased:
        msg = f"{signature.name}: no version holds an example {example_id}; `dataset_manager.py load` shows the ids"
        raise BadInputError(msg)
    return Target(signature, example_id, stone.inputs_digest if stone is not None else None), where


def purge(root: Path, target: Target, reason: str, moment: datetime, *, erase: bool) -> str | None:
    """Leave a tombstone and make a version without the example; its name, None when the latest has it not.

    Raises:
        BadInputError: the latest version holds nothing else.
    """
    signature, example_id = target.signature, target.example_id
    with writer_lock(root, signature.name):
        base = newest(root, signature.name)
        metadata, examples = load(root, signature.name, base) if base is not None else (None, [])
        left = [e for e in examples if e.id != example_id]
        if examples and not left and not erase:
            msg = f"{signature.name}: {base} holds nothing but {example_id}; add others first, or --erase it"
            raise BadInputError(msg)
        stone = tombstones(root, signature.name).get(example_id)
        if stone is None or (erase and not stone.erase):
            fresh = Tombstone(example_id, reason, iso(moment), target.digest, erase)
            append_tombstone(root, signature.name, fresh)
        if len(left) == len(examples) or not left:
            return None
        notes = f"without {example_id}, which was {'erased' if erase else 'purged'}"
        return write_version(root, signature, left, Batch(SOURCE, notes, moment), metadata).version


def erase_from_versions(root: Path, target: Target) -> list[str]:
    """Put the example's leaf in the place of its body in every version, archived ones too; which ones were changed."""
    name = target.signature.name
    changed = []
    with writer_lock(root, name):
        folder = root / name
        for version in sorted(places(root, name)):
            archive = folder / f"{version}{archive_file.SUFFIX}"
            both = [place for place in (folder / version, archive) if (place / METADATA).is_file() or place.is_file()]
            holding = [place for place in both if _holds(place, target.example_id)]
            if holding:
                write_atomic(archive, archive_file.pack(version, _without(holding[0], target), METADATA))
                changed.append(version)
            if (folder / version) in holding:
                # The archive stands in for the folder until that is back.
                discard(folder / version)
                restore(root, name, version)
        link = folder / LATEST
        if (
            link.is_symlink()
            and not link.exists()
            and (folder / f"{link.readlink().name}{archive_file.SUFFIX}").is_file()
        ):
            restore(root, name, link.readlink().name)
        sync_folder(folder)
    return changed


def _holds(place: Path, example_id: str) -> bool:
    rows, lines = read_file(place, DATASET), read_file(place, PROVENANCE)
    if example_id.encode() not in rows + lines:
        return False
    ids = [row["id"] for row in json.loads(rows)]
    return example_id in [*ids, *(json.loads(line)["example_id"] for line in lines.splitlines())]


def _without(place: Path, target: Target) -> dict[str, bytes]:
    """The version's files without the example's body."""
    metadata, files = checked_files(place)
    rows = json.loads(files[DATASET])
    left = [row for row in rows if row["id"] != target.example_id]
    leaves = {row["id"]: leaf(metadata.salt, row) for row in rows if row["id"] == target.example_id}
    lines = [
        line
        for line in files[PROVENANCE].decode().splitlines(keepends=True)
        if json.loads(line)["example_id"] != target.example_id
    ]
    body = {DATASET: to_json(left).encode(), PROVENANCE: "".join(lines).encode()}
    examples = [Example.model_validate(row) for row in left]
    changed = DatasetMetadata.model_validate(
        {
            **metadata.model_dump(),
            "example_count": len(left),
            "files": {**metadata.files, **{name: sha256(content) for name, content in body.items()}},
            "statistics": summarize(target.signature, examples) if examples else metadata.statistics,
            "erased": {**metadata.erased, **leaves},
        }
    )
    return {**files, **body, METADATA: to_json(changed.model_dump(mode="json", exclude_none=False)).encode()}
