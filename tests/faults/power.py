"""Loss of power: a folder as a disk may hold it that keeps only what was fsynced, rebuilt from a command's calls.

Two disks at every moment: one lost all that was not fsynced (a file's content by its own fsync, a name by its
folder's); the other kept every name, as a journal of metadata does, but no content that was not fsynced.
"""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CALLS = (
    *("openat", "read", "lseek", "write", "ftruncate", "fsync", "fdatasync", "rename", "mkdir", "symlink"),
    *("unlink", "unlinkat", "rmdir", "close"),
)
# Calls that change a disk and that no writer of ours makes; one that did would be missed here.
UNKNOWN = (
    *("creat", "open", "truncate", "pwrite64", "writev", "pwritev", "copy_file_range", "sendfile", "link", "linkat"),
    *("renameat", "renameat2", "mkdirat", "symlinkat", "fallocate"),
)
_LINE = re.compile(r"(\w+)\((.*)\) += (-?\d+)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_DESCRIPTOR = re.compile(r"(\d+)<")


@dataclass
class File:
    """A file's content as programs see it and as the disk holds it."""

    content: bytearray = field(default_factory=bytearray)
    synced: bytes = b""


@dataclass
class Link:
    """A symbolic link, which is durable with its name."""

    target: str


@dataclass
class Folder:
    """A folder's names as programs see them and as the disk holds them."""

    names: dict[str, Node] = field(default_factory=dict)
    synced: dict[str, Node] = field(default_factory=dict)


Node = File | Link | Folder


@dataclass
class Open:
    """A file that is open, and where it is read or written next."""

    node: Node
    at: int = 0


class Disk:
    """A folder's tree under a command's calls."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tree = _read(root)
        self.opened: dict[int, Open] = {}

    def _parent(self, path: str) -> tuple[Folder, str] | None:
        """The folder that holds the path, and its name there; None when it is elsewhere."""
        relative = Path(os.path.abspath(path))  # noqa: PTH100 - links are not followed
        if not relative.is_relative_to(self.root) or relative == self.root:
            return None
        node: Node = self.tree
        *above, name = relative.relative_to(self.root).parts
        for part in above:
            assert isinstance(node, Folder)
            node = node.names[part]
        assert isinstance(node, Folder)
        return node, name

    def apply(self, name: str, rest: str, result: int) -> bool:
        """Take over one call; whether it changed anything here."""
        texts = [bytes.fromhex(text.replace("\\x", "")) for text in _TEXT.findall(rest)]
        number = _DESCRIPTOR.match(rest)
        if name == "openat":
            return self._open(texts[-1].decode(), rest, result)
        if name in {"read", "lseek", "write", "ftruncate", "fsync", "fdatasync", "close"}:
            assert number
            return self._descriptor(name, int(number[1]), rest, texts, result)
        paths = [text.decode() for text in texts]
        if name == "unlinkat" and not paths[-1].startswith("/"):
            base = re.search(r"<([^>]*)>", rest)
            assert base
            paths = [f"{_decoded(base[1])}/{paths[-1]}"]
        return self._names(name, paths)

    def _open(self, path: str, rest: str, result: int) -> bool:
        base = re.search(r"^\d+<([^>]*)>", rest)
        if base and not path.startswith("/"):
            path = f"{_decoded(base[1])}/{path}"
        if Path(path) == self.root:
            self.opened[result] = Open(self.tree)
            return False
        found = self._parent(path)
        if found is None:
            return False
        folder, name = found
        if "O_TRUNC" in rest and name in folder.names:
            msg = f"{path} is overwritten in place"
            raise AssertionError(msg)
        fresh = name not in folder.names
        node = folder.names.setdefault(name, File()) if fresh else folder.names[name]
        self.opened[result] = Open(node)
        return fresh

    def _descriptor(self, name: str, number: int, rest: str, texts: list[bytes], result: int) -> bool:
        handle = self.opened.get(number)
        if handle is None:
            return False
        node = handle.node
        if name == "close":
            del self.opened[number]
        elif name in {"fsync", "fdatasync"}:
            if isinstance(node, Folder):
                node.synced = dict(node.names)
            elif isinstance(node, File):
                node.synced = bytes(node.content)
            return True
        elif name == "lseek":
            handle.at = result
        elif name == "read":
            handle.at += result
        else:
            assert isinstance(node, File)
            if name == "ftruncate":
                del node.content[int(rest.rpartition(",")[2]) :]
            else:
                assert len(texts[0]) >= result, "strace cut the content"
                node.content[handle.at : handle.at + result] = texts[0][:result]
                handle.at += result
            return True
        return False

    def _names(self, name: str, paths: list[str]) -> bool:
        places = [self._parent(path) for path in paths]
        if name == "symlink":
            places[0] = None
        if places[-1] is None:
            return False
        folder, last = places[-1]
        if name == "rename":
            assert places[0]
            folder.names[last] = places[0][0].names.pop(places[0][1])
        elif name == "mkdir":
            folder.names[last] = Folder()
        elif name == "symlink":
            folder.names[last] = Link(paths[0])
        else:
            del folder.names[last]
        return True


def _decoded(text: str) -> str:
    return bytes.fromhex(text.replace("\\x", "")).decode() if text.startswith("\\x") else text


def _read(path: Path) -> Folder:
    """A tree that has been on disk for long."""
    folder = Folder()
    for entry in path.iterdir():
        if entry.is_symlink():
            folder.names[entry.name] = Link(str(entry.readlink()))
        elif entry.is_dir():
            folder.names[entry.name] = _read(entry)
        else:
            content = entry.read_bytes()
            folder.names[entry.name] = File(bytearray(content), content)
    folder.synced = dict(folder.names)
    return folder


def _write(folder: Folder, path: Path, *, journal: bool) -> None:
    path.mkdir(mode=0o700)
    for name, node in (folder.names if journal else folder.synced).items():
        if isinstance(node, Link):
            (path / name).symlink_to(node.target)
        elif isinstance(node, Folder):
            _write(node, path / name, journal=journal)
        else:
            (path / name).write_bytes(node.synced)


def _seen(folder: Folder, *, journal: bool) -> object:
    """The tree as a value, to tell disks apart."""
    found: dict[str, object] = {}
    for name, node in (folder.names if journal else folder.synced).items():
        if isinstance(node, Folder):
            found[name] = _seen(node, journal=journal)
        else:
            found[name] = node.target if isinstance(node, Link) else node.synced
    return found


def losses(root: Path, command: Sequence[str]) -> Iterator[Path]:
    """Yields every folder that a loss of power at any moment of the command may leave of `root`, in time's order.

    The command runs once, and must succeed. The last folders are those after its end.
    """
    disk = Disk(root)
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "log"
        trace = ",".join(f"?{name}" for name in (*CALLS, *UNKNOWN))
        flags = ["-qq", "-f", "-y", "-xx", "-s", "10000000", "-o", str(log), "-e", f"trace={trace}", "--seccomp-bpf"]
        variables = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(["strace", *flags, *command], capture_output=True, check=False, env=variables)
        assert done.returncode == 0, done.stderr.decode()
        known: list[object] = []
        count = itertools.count()
        for line in log.read_text().splitlines():
            match = _LINE.search(line)
            if match is None or int(match[3]) < 0:
                continue
            name, rest, result = match[1], match[2], int(match[3])
            if name in UNKNOWN:
                assert str(root) not in _decoded_line(rest), line[:200]
                continue
            if not disk.apply(name, rest, result):
                continue
            for journal in (False, True):
                state = _seen(disk.tree, journal=journal)
                if state in known:
                    continue
                known.append(state)
                target = Path(scratch) / f"disk{next(count)}"
                _write(disk.tree, target, journal=journal)
                yield target
        # The very end, which may look like an earlier moment: the plain disk, from which nothing unsynced came back.
        target = Path(scratch) / "end"
        _write(disk.tree, target, journal=False)
        yield target


def _decoded_line(rest: str) -> str:
    return re.sub(r"(?:\\x[0-9a-f]{2})+", lambda match: _decoded(match[0]), rest)
