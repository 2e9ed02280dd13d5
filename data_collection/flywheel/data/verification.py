"""Everything that a version says of itself, computed again from its rows."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from flywheel.base.errors import BadInputError, DamagedError
from flywheel.data import archive_file
from flywheel.data.examples import Example, example_id
from flywheel.data.metadata import content_hash, leaf, provenance_row, summarize
from flywheel.data.schema import problems
from flywheel.data.split_file import Recorded, read_record
from flywheel.data.store import (
    DATASET,
    LATEST,
    METADATA,
    PROVENANCE,
    checked_files,
    latest,
    places,
    read_metadata,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from flywheel.data.metadata import DatasetMetadata
    from flywheel.data.signatures.types import Signature


def verify_version(place: Path, signature: Signature, record: Recorded) -> Iterator[str]:
    """Every way in which the version in a folder or archive is not what it says; nothing for a sound one.

    `record` has the splits of all groups.
    """
    try:
        metadata, files = checked_files(place)
    except (DamagedError, OSError) as error:
        yield str(error)
        return
    named = archive_file.version_of(place)
    if (metadata.version, metadata.signature) != (named, signature.name):
        yield f"{place}: {METADATA} is of {metadata.signature} {metadata.version}"
    if missing := {DATASET, PROVENANCE} - metadata.files.keys():
        yield f"{place}: {METADATA} has no checksum of {', '.join(sorted(missing))}"
        return
    found = archive_file.unpack(place).keys() if place.is_file() else {path.name for path in place.iterdir()}
    for name in sorted(found - metadata.files.keys() - {METADATA}):
        yield f"{place}: holds {name}, which is no file of the version"
    try:
        rows = json.loads(files[DATASET])
        examples = [Example.model_validate(row) for row in rows]
    except (ValueError, TypeError, ValidationError) as error:
        yield f"{place / DATASET}: no examples: {str(error).splitlines()[0]}"
        return
    yield from (f"{place}: {flaw}" for flaw in _facts(metadata, signature, rows, examples))
    yield from (f"{place / DATASET}: {flaw}" for flaw in _rows(signature, examples, record))
    yield from (f"{place / PROVENANCE}: {flaw}" for flaw in _provenance(files[PROVENANCE], examples, metadata))


def _facts(
    metadata: DatasetMetadata, signature: Signature, rows: list[dict[str, Any]], examples: list[Example]
) -> Iterator[str]:
    if metadata.example_count != len(rows):
        yield f"example_count says {metadata.example_count}, there are {len(rows)}"
    if content_hash(metadata.salt, rows, metadata.erased.values()) != metadata.content_hash:
        yield "content_hash differs from that of the examples"
    if any(leaf(metadata.salt, row) in metadata.erased.values() for row in rows):
        yield "an example that was erased is there"
    unfinished = any(e.metadata.quality_score is None or e.split is None for e in examples)
    if examples and not unfinished and summarize(signature, examples) != metadata.statistics:
        yield "statistics differ from those of the examples"


def _rows(signature: Signature, examples: list[Example], record: Recorded) -> Iterator[str]:
    ids = Counter(example.id for example in examples)
    yield from (f"{key} stands {count} times" for key, count in ids.items() if count > 1)
    for example in examples:
        name = f"example {example.id}"
        for reason, detail in problems(signature, example.inputs, example.outputs):
            yield f"{name}: {reason}: {detail}"
        if example.id != example_id(signature.name, example.inputs, example.outputs):
            yield f"{name}: its id is not that of its content"
        facts = example.metadata
        if None in {example.split, facts.source, facts.quality_score, facts.group}:
            yield f"{name}: without split, source, quality score or group"
        elif facts.group is not None and example.split not in (held := record.held(facts.group)):
            yield f"{name}: in {example.split}, but its group {facts.group} is recorded for {_listed(held)}"


def _listed(splits: Iterable[str]) -> str:
    return " and ".join(sorted(splits)) or "none"


def _provenance(content: bytes, examples: list[Example], metadata: DatasetMetadata) -> Iterator[str]:
    try:
        lines = [json.loads(line) for line in content.decode().split("\n")[:-1]]
        ids = [line["example_id"] for line in lines]
    except (ValueError, TypeError, KeyError) as error:
        yield f"not one JSON object with example_id a line ({error})"
        return
    if ids != [example.id for example in examples]:
        yield "its lines are not the examples', one each in their order"
        return
    for line, example in zip(lines, examples, strict=True):
        expected = provenance_row(example, metadata.created)
        differing = [key for key in expected.keys() | line.keys() if line.get(key) != expected.get(key)]
        # An example from an earlier version keeps the moment of its own.
        if set(differing) - {"timestamp"}:
            yield f"example {example.id}: {', '.join(sorted(differing))} differ from {DATASET}"


def verify(root: Path, signature: Signature, version: str | None = None) -> Iterator[tuple[str, list[str]]]:
    """Each version, or the one named, with what is wrong with it; last, under `latest`, what is wrong between them.

    Raises:
        BadInputError: no such version.
    """
    where = places(root, signature.name)
    between: list[str] = []
    try:
        record = read_record(root, signature.name)
    except DamagedError as error:
        record = Recorded()
        between.append(str(error))
    if version == LATEST:
        version = latest(root, signature.name)
    if version is not None and version not in where:
        msg = f"{signature.name}: no dataset version {version} in {root}; `dataset_manager.py list` shows what there is"
        raise BadInputError(msg)
    for name in sorted(where):
        if version in {None, name}:
            yield name, list(verify_version(where[name], signature, record))
    if version is None:
        yield LATEST, [*between, *_between(root, signature.name, where)]


def _between(root: Path, signature: str, where: Mapping[str, Path]) -> Iterator[str]:
    link = root / signature / LATEST
    if where and latest(root, signature) is None:
        yield f"{link}: leads to no version; `ln -sfn {max(where)} {link}` mends it"
    sequences: dict[int, str] = {}
    for name, place in where.items():
        try:
            metadata = read_metadata(place)
        except (DamagedError, OSError):
            continue
        other = sequences.setdefault(metadata.sequence, name)
        if other != name:
            yield f"{place}: has the sequence number {metadata.sequence}, as {other} has"
        both = place.is_dir() and place.with_name(name + archive_file.SUFFIX)
        if both and both.is_file() and not _same(place, both):
            yield f"{both}: differs from {place}; move one of them away"


def _same(folder: Path, archive: Path) -> bool:
    try:
        return archive_file.unpack(archive) == archive_file.read_folder(folder)
    except (BadInputError, DamagedError, OSError):
        return False
