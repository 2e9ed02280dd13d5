"""Old versions packed into `v*.tar.gz` beside the others, and put back byte for byte.

The archive is whole on disk before the folder goes, and the folder before the archive: a reader always finds one.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from flywheel.base.errors import BadInputError, DamagedError
from flywheel.base.files import sync_folder, write_atomic
from flywheel.data import archive_file
from flywheel.data.publishing import discard, place
from flywheel.data.store import METADATA, checked_files, latest, places, versions

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

# However old they are, the newest stay as folders.
KEPT = 3


def due(root: Path, signature: str, now: datetime, days: float, needed: Collection[str]) -> list[str]:
    """The versions to archive, oldest first: made more than `days` ago and not archived yet.

    The latest three by sequence, the one that `latest` means and those `needed` stay.
    """
    where = places(root, signature)
    spared = {*needed, latest(root, signature)}
    limit = now - timedelta(days=days)
    return [
        metadata.version
        for metadata in versions(root, signature)[:-KEPT]
        if metadata.version not in spared
        and where[metadata.version].is_dir()
        and datetime.fromisoformat(metadata.created) < limit
    ]


def archive(root: Path, signature: str, version: str) -> Path:
    """Pack a version and remove its folder; the archive's path. The caller holds the writer's lock.

    Raises:
        DamagedError: the version does not match its checksums; nothing is changed.
        BadInputError: its folder holds what an archive could not give back.
    """
    folder = root / signature / version
    target = folder.with_name(version + archive_file.SUFFIX)
    checked_files(folder)
    files = archive_file.read_folder(folder)
    if not (target.is_file() and _holds(target, files)):
        write_atomic(target, archive_file.pack(version, files, METADATA))
        if not _holds(target, files):
            msg = f"{target}: reads back differently from what was written; {folder} stays as it was"
            raise DamagedError(msg)
    discard(folder)
    return target


def _holds(target: Path, files: dict[str, bytes]) -> bool:
    try:
        return archive_file.unpack(target) == files
    except DamagedError:
        return False


def restore(root: Path, signature: str, version: str) -> bool:
    """Put an archived version's folder back and remove its archive; False: it was not archived.

    The caller holds the writer's lock.

    Raises:
        BadInputError: no such version.
        DamagedError: the archive is damaged, or differs from a folder that is there too; nothing is changed.
    """
    folder = root / signature / version
    source = folder.with_name(version + archive_file.SUFFIX)
    if version not in places(root, signature):
        msg = f"{signature}: no dataset version {version} in {root}; `dataset_manager.py list` shows what there is"
        raise BadInputError(msg)
    if not source.is_file():
        return False
    checked_files(source)
    files = archive_file.unpack(source)
    if (folder / METADATA).is_file():
        if archive_file.read_folder(folder) != files:
            msg = f"{folder}: differs from {source}; move one of them away"
            raise DamagedError(msg)
    else:
        place(folder.parent, version, files)
    source.unlink()
    sync_folder(folder.parent)
    return True
