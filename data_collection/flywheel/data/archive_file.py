"""`vYYYYMMDD_HHMMSS.tar.gz`: a version's folder as one file, the same bytes whenever it is packed.

It holds the folder itself, so `tar -xzf` beside it puts the version back too.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from typing import TYPE_CHECKING

from flywheel.base.errors import BadInputError, DamagedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

SUFFIX = ".tar.gz"
LEVEL = 6
_FILE_MODE, _FOLDER_MODE = 0o600, 0o700
_UNREADABLE = (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, UnicodeDecodeError)


def is_archive(version: Path) -> bool:
    """Whether a version's place is an archive, by its name."""
    return version.name.endswith(SUFFIX)


def version_of(archive: Path) -> str:
    """`v20251104_120000` of `.../v20251104_120000.tar.gz`."""
    return archive.name.removesuffix(SUFFIX)


def read_folder(folder: Path) -> dict[str, bytes]:
    """Every file of a version's folder, by name.

    Raises:
        BadInputError: it holds a folder or link, which an archive could not give back.
    """
    found = {}
    for path in sorted(folder.iterdir()):
        if path.is_symlink() or not path.is_file():
            msg = f"{path}: no file; a version holds nothing else, so move it away first"
            raise BadInputError(msg)
        found[path.name] = path.read_bytes()
    return found


def pack(version: str, files: Mapping[str, bytes], first: str) -> bytes:
    """The archive of `files`; the one named `first` stands first, so that it is read without the others."""
    buffer = io.BytesIO()
    # Neither clock nor user goes in: equal folders, equal archives.
    with (
        gzip.GzipFile(filename="", mode="wb", compresslevel=LEVEL, fileobj=buffer, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        head = tarfile.TarInfo(version)
        head.type, head.mode = tarfile.DIRTYPE, _FOLDER_MODE
        tar.addfile(head)
        for name in sorted(files, key=lambda name: (name != first, name)):
            entry = tarfile.TarInfo(f"{version}/{name}")
            entry.size, entry.mode = len(files[name]), _FILE_MODE
            tar.addfile(entry, io.BytesIO(files[name]))
    return buffer.getvalue()


def unpack(archive: Path) -> dict[str, bytes]:
    """Every file in the archive, by name.

    Raises:
        DamagedError: it cannot be read to its end, or holds what no version holds.
    """
    return dict(_members(archive))


def unpack_one(archive: Path, wanted: str) -> bytes | None:
    """One file of the archive, read no further than it stands; None when there is none of that name."""
    return next((content for name, content in _members(archive, wanted) if name == wanted), None)


def _members(archive: Path, only: str | None = None) -> Iterator[tuple[str, bytes]]:
    prefix = f"{version_of(archive)}/"
    try:
        with tarfile.open(archive, "r|gz") as tar:
            for entry in tar:
                if entry.isdir() and f"{entry.name}/" == prefix:
                    continue
                name = entry.name.removeprefix(prefix)
                if not entry.isfile() or name == entry.name or "/" in name or name in {"", ".", ".."}:
                    msg = f"{archive}: holds {entry.name!r}, which is no file of a version"
                    raise DamagedError(msg)
                stream = tar.extractfile(entry) if only in {None, name} else None
                if stream is not None:
                    yield name, stream.read()
    except _UNREADABLE as error:
        msg = f"{archive}: no whole archive ({error or 'ends early'}); put it back from a backup"
        raise DamagedError(msg) from error
