"""The one door to git: history and patches of a repository that nobody trusts, streamed.

git runs in an environment of its own, so that neither inherited GIT_* variables nor the repository's own
configuration (fsmonitor, external diff, textconv, gpg program, hooks, pager, remote helpers) runs anything.
"""

from __future__ import annotations

import os
import secrets
import tempfile
import threading
from collections import deque
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple, Self

from flywheel.base.errors import BadInputError
from flywheel.data.diffs import FileDiff, parse_patch, records
from flywheel.data.git_safety import clean_command, explained

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from git import Git

MAX_PATCH_BYTES = 1_000_000
CONTEXT_LINES = 6
CHUNK = 1 << 20
STDERR_LINES = 40
DIFF_OPTIONS = ("--no-renames", "--no-ext-diff", "--no-textconv", "--no-color", "--no-relative", "--full-index")
LINK, SUBMODULE = "120000", "160000"


class Change(NamedTuple):
    """One path that a commit touches: status A, M, D or T, and the file modes before and after."""

    status: str
    path: str
    old_mode: str
    new_mode: str

    @property
    def is_plain(self) -> bool:
        """An ordinary file on either side: no symbolic link, no submodule, more than a change of mode."""
        return not {LINK, SUBMODULE} & {self.old_mode, self.new_mode} and self.status in "AMD"


class Commit(NamedTuple):
    """What the log says of one commit; times are ISO 8601 with offset, bytes that are no UTF-8 become U+FFFD."""

    sha: str
    parents: tuple[str, ...]
    author: str
    email: str
    authored_at: str
    committed_at: str
    message: str
    changes: tuple[Change, ...]

    @property
    def is_merge(self) -> bool:
        """It has more than one parent."""
        return len(self.parents) > 1


class Process:
    """A running git whose stdout is read in chunks; its stderr is drained aside, so that neither side blocks."""

    def __init__(self, git: Git, argv: list[str], istream: IO[bytes] | None = None) -> None:
        options = {} if istream is None else {"istream": istream}
        self._process = git.execute(argv, as_process=True, **options)
        self._errors: deque[bytes] = deque(maxlen=STDERR_LINES)
        self._drain = threading.Thread(target=self._read_errors, daemon=True)
        self._drain.start()

    def _read_errors(self) -> None:
        self._errors.extend(self._process.stderr)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        process = self._process.proc
        if process is None:
            return
        if process.poll() is None:
            process.kill()
        process.wait()
        self._drain.join()
        process.stdout.close()
        process.stderr.close()

    def chunks(self) -> Iterator[bytes]:
        """Everything git prints.

        Raises:
            BadInputError: git failed.
        """
        while chunk := self._process.stdout.read1(CHUNK):
            yield chunk
        if self._process.proc.wait() != 0:
            self._drain.join()
            raise BadInputError(explained(b"".join(self._errors).decode("utf-8", "replace")))


def _library() -> type[Git]:
    """GitPython's command runner; importing it looks for the git program."""
    try:
        from git import Git
    except ImportError as error:
        msg = "the git program was not found or does not run; install git and have it on PATH"
        raise BadInputError(msg) from error
    runner: type[Git] = Git
    return runner


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _parse_commit(record: bytes) -> Commit:
    """A record of `log --raw -z`: seven fields, then pairs of `:modes shas status` and path."""
    sha, parents, author, email, authored, committed, message, *rest = record.split(b"\0")
    changes = []
    entries = iter(rest)
    for entry in entries:
        header = entry.lstrip(b"\n")
        if header.startswith(b":"):
            old, new, _, _, status = header[1:].split(b" ")
            changes.append(Change(_text(status[:1]), os.fsdecode(next(entries)), _text(old), _text(new)))
    texts = [_text(part) for part in (author, email, authored, committed, message)]
    return Commit(
        _text(sha), tuple(_text(parents).split()), texts[0], texts[1], texts[2], texts[3], texts[4], tuple(changes)
    )


class Repository:
    """A git repository, opened for reading.

    `shallow` tells that its history was cut off: older commits are not there to be mined.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            msg = f"{path}: no such folder"
            raise BadInputError(msg)
        library = _library()
        self.path = path
        self._git = library(str(path))
        self._command = clean_command(library.GIT_PYTHON_GIT_EXECUTABLE)
        self.shallow = self._ask("rev-parse", "--is-shallow-repository").strip() == "true"

    def _process(self, *argv: str, istream: IO[bytes] | None = None) -> Process:
        return Process(self._git, [*self._command, *argv], istream)

    def _ask(self, *argv: str) -> str:
        try:
            with self._process(*argv) as process:
                return _text(b"".join(process.chunks()))
        except BadInputError as error:
            msg = f"{self.path}: {error}"
            raise BadInputError(msg) from error

    def require_commits(self) -> None:
        """Raise BadInputError when there is no commit yet."""
        self._ask("rev-parse", "--verify", "--end-of-options", "HEAD^{commit}")

    def log(self, since: datetime | None = None, max_count: int | None = None) -> Iterator[Commit]:
        """The commits that HEAD reaches, newest first, with the paths each touches (a merge: against its first parent).

        Raises:
            BadInputError: git failed, for instance because an object is missing.
        """
        nonce = secrets.token_hex(16)
        fields = "%H%x00%P%x00%an%x00%ae%x00%aI%x00%cI%x00%B%x00"
        argv = ["log", "--raw", "-z", "--no-abbrev", "--no-mailmap", "--no-show-signature", "--no-decorate"]
        argv += ["--encoding=UTF-8", "--diff-merges=first-parent", f"--format=tformat:{nonce}{fields}", *DIFF_OPTIONS]
        argv += [] if since is None else [f"--since={since.isoformat(timespec='seconds')}"]
        argv += [] if max_count is None else [f"--max-count={max_count}"]
        with self._process(*argv, "--end-of-options", "HEAD") as process:
            for record in records(process.chunks(), nonce.encode()):
                if record is not None:
                    yield _parse_commit(record)

    def patches(self, commits: Iterable[Commit]) -> Iterator[tuple[Commit, tuple[FileDiff, ...] | None]]:
        """Each commit with its diff by file, in the order given; None for a diff of more than MAX_PATCH_BYTES.

        Raises:
            BadInputError: git failed.
        """
        nonce = secrets.token_hex(16)
        wanted = list(commits)
        argv = ["diff-tree", "--stdin", "--root", "--always", "-p", f"-U{CONTEXT_LINES}", *DIFF_OPTIONS]
        argv += [f"--format=tformat:{nonce}", "--no-show-signature"]
        with tempfile.TemporaryFile() as listing:
            # Naming the first parent makes a merge give one diff, against it.
            listing.write("".join(f"{' '.join([c.sha, *c.parents[:1]])}\n" for c in wanted).encode())
            listing.seek(0)
            with self._process(*argv, istream=listing) as process:
                found = records(process.chunks(), nonce.encode(), MAX_PATCH_BYTES)
                for commit, record in zip(wanted, found, strict=True):
                    yield commit, None if record is None else parse_patch(record)


def locate(repo_path: str | None) -> Repository:
    """The repository at `repo_path`, or around the folder one stands in.

    Raises:
        BadInputError: no such folder, no repository, somebody else's, or git is missing.
    """
    return Repository(Path(repo_path).expanduser() if repo_path else Path.cwd())
