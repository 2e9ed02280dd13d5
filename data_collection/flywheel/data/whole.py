"""A dataset with its groups as they are by now.

Examples keep the name that their group had when they were stored; a later example may have tied two groups together.
Whoever resamples groups, or must not test one twice, needs to know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flywheel.data.admission import group_of
from flywheel.data.split_file import read_record
from flywheel.data.splits import Groups
from flywheel.data.store import LATEST, load

if TYPE_CHECKING:
    from pathlib import Path

    from flywheel.data.examples import Example
    from flywheel.data.metadata import DatasetMetadata


def whole_groups(root: Path, signature: str) -> Groups:
    """The signature's groups: `find` gives the name of what an older one has become part of."""
    record = read_record(root, signature)
    return Groups(record.splits, record.parts)


def load_whole(root: Path, signature: str, version: str = LATEST) -> tuple[DatasetMetadata, list[Example]]:
    """A version, as `store.load` gives it, each example with the present name of its group."""
    metadata, stored = load(root, signature, version)
    groups = whole_groups(root, signature)
    return metadata, [example.with_metadata(group=groups.find(group_of(example))) for example in stored]
