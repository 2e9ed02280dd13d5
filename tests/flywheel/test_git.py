"""The door to git: history and patches are read whole, and nothing that a repository asks for is run."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from flywheel.base.errors import BadInputError
from flywheel.data import git as door
from flywheel.data.git import Repository, locate

if TYPE_CHECKING:
    from pathlib import Path

    from flywheel.data.diffs import FileDiff

IDENTITY = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false")


def git(folder: Path, *argv: str, **environment: str) -> str:
    done = subprocess.run(
        ["git", *IDENTITY, *argv],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        check=True,
    )
    return done.stdout.decode("utf-8", "replace")


def commit(folder: Path, message: str, **files: str | bytes) -> str:
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", message)
    return git(folder, "rev-parse", "HEAD").strip()


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    folder = tmp_path / "repo"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    return folder


def one_patch(folder: Path) -> tuple[door.Commit, dict[str, FileDiff]]:
    repository = Repository(folder)
    newest = next(iter(list(repository.log())))
    ((found, files),) = list(repository.patches([newest]))
    assert files is not None
    return found, {file.path: file for file in files}


def test_log_tells_who_when_and_what(repo: Path) -> None:
    first = commit(repo, "Start here", a="1\n")
    second = commit(repo, "Change a\n\nBecause of b.", a="2\n", b="x\n")
    newest, oldest = list(Repository(repo).log())
    assert (newest.sha, newest.parents, oldest.sha, oldest.parents) == (second, (first,), first, ())
    assert (newest.author, newest.email) == ("Ada", "ada@example.org")
    assert newest.message.strip() == "Change a\n\nBecause of b."
    assert {(c.status, c.path) for c in newest.changes} == {("M", "a"), ("A", "b")}
    assert datetime.fromisoformat(newest.authored_at).tzinfo is not None


def test_since_and_max_count_bound_the_log(repo: Path) -> None:
    (repo / "a").write_text("1")
    git(repo, "add", "a")
    old = (datetime.now(UTC) - timedelta(days=30)).isoformat()
    git(repo, "commit", "-qm", "Old one", GIT_COMMITTER_DATE=old, GIT_AUTHOR_DATE=old)
    commit(repo, "New one", a="2")
    commit(repo, "Newer one", a="3")
    repository = Repository(repo)
    assert len(list(repository.log(since=datetime.now(UTC) - timedelta(days=7)))) == 2
    assert [c.message.strip() for c in repository.log(max_count=1)] == ["Newer one"]


@pytest.mark.parametrize(
    "name", ["with space.py", 'quo"te.py', "line\nbreak.py", "tab\there.py", "ünï.py", "a b/b c.py", "-x.py"]
)
def test_strange_paths_are_read_alike_in_log_and_patch(repo: Path, name: str) -> None:
    commit(repo, "Start", a="1\n")
    (repo / name).parent.mkdir(exist_ok=True)
    (repo / name).write_text("one\n")
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "Add it")
    found, files = one_patch(repo)
    assert [c.path for c in found.changes] == [name]
    assert files[name].hunks[0].added == ["one"]


def test_bytes_that_are_no_utf8_are_survived(repo: Path) -> None:
    path = os.fsdecode(b"latin\xe9.py")
    (repo / path).write_bytes(b"caf\xe9 = 1\r\nplain = 2\n")
    git(repo, "add", "-A")
    subprocess.run(
        ["git", *IDENTITY, "-c", "i18n.commitEncoding=latin1", "commit", "-q", "-F", "-"],
        cwd=repo,
        input="Añadir café".encode("latin1"),
        check=True,
    )
    found, files = one_patch(repo)
    assert found.message.strip() == "Añadir café"
    assert files[path].hunks[0].added == ["caf\ufffd = 1", "plain = 2"]


def test_modes_links_submodules_and_binaries_give_no_hunks_to_mine(repo: Path) -> None:
    files: dict[str, str | bytes] = {"run.sh": "echo\n", "data.bin": b"\0\1"}
    commit(repo, "Start", **files)
    (repo / "run.sh").chmod(0o755)
    (repo / "data.bin").write_bytes(b"\0\2")
    (repo / "link").symlink_to("run.sh")
    git(repo, "update-index", "--add", "--cacheinfo", "160000,1234567890123456789012345678901234567890,module")
    git(repo, "add", "run.sh", "data.bin", "link")
    git(repo, "commit", "-qm", "Change modes")
    found, patches = one_patch(repo)
    plain = {change.path for change in found.changes if change.is_plain}
    assert plain == {"run.sh", "data.bin"}
    assert patches["run.sh"].hunks == ()
    assert patches["data.bin"].binary


def test_missing_final_newline_and_renames(repo: Path) -> None:
    commit(repo, "Start", a="one\ntwo")
    git(repo, "mv", "a", "b")
    commit(repo, "Rename and end", b="one\ntwo\nthree")
    _, files = one_patch(repo)
    assert files["a"].status == "D"
    assert files["b"].hunks[0].added == ["one", "two", "three"]


def test_a_diff_holding_what_looks_like_separators_is_read_right(repo: Path) -> None:
    commit(repo, "Start", a="x\n")
    text = "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-old\n+new\n"
    commit(repo, "Add a patch as data\n\ndiff --git a/y b/y", a=text, b="plain\n")
    _, files = one_patch(repo)
    assert sorted(files) == ["a", "b"]
    assert files["a"].hunks[0].added == text.splitlines()


def test_giant_diffs_are_passed_over_and_the_next_one_is_read(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "MAX_PATCH_BYTES", 5_000)
    commit(repo, "Small", a="1\n")
    commit(repo, "Giant", big="line\n" * 5_000)
    commit(repo, "Small again", a="2\n")
    repository = Repository(repo)
    sizes = [files is None for _, files in repository.patches(repository.log())]
    assert sizes == [False, True, False]


def test_a_merge_is_diffed_against_its_first_parent(repo: Path) -> None:
    commit(repo, "Start", a="1\n")
    git(repo, "checkout", "-qb", "side")
    commit(repo, "Side work", b="side\n")
    git(repo, "checkout", "-q", "main")
    commit(repo, "Main work", a="2\n")
    git(repo, "merge", "-q", "--no-ff", "-m", "Merge it", "side")
    found, files = one_patch(repo)
    assert found.is_merge
    assert [c.path for c in found.changes] == ["b"]
    assert list(files) == ["b"]


def test_clear_errors(tmp_path: Path, repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInputError, match="no such folder"):
        locate(str(tmp_path / "nowhere"))
    (tmp_path / "plain").mkdir()
    with pytest.raises(BadInputError, match="not a git repository"):
        locate(str(tmp_path / "plain"))
    with pytest.raises(BadInputError, match="no commits yet"):
        locate(str(repo)).require_commits()
    monkeypatch.chdir(repo)
    assert locate(None).path == repo


def test_a_missing_git_is_told(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(repo))
    with pytest.raises(BadInputError, match="no such program"):
        Repository(repo)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a repository to another user")
def test_a_repository_of_another_user_is_refused_clearly(repo: Path) -> None:
    commit(repo, "Start", a="1\n")
    for path in (repo, repo / ".git"):
        os.chown(path, 12345, 12345)
    with pytest.raises(BadInputError, match=r"another user.*safe\.directory"):
        Repository(repo)


def test_a_shallow_clone_is_noted(repo: Path, tmp_path: Path) -> None:
    commit(repo, "One", a="1\n")
    commit(repo, "Two", a="2\n")
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{repo}", "shallow")
    repository = Repository(tmp_path / "shallow")
    assert repository.shallow
    assert len(list(repository.log())) == 1
    assert not Repository(repo).shallow


def hostile(repo: Path, marker: Path) -> None:
    """Everything in a repository that makes a careless git run something; each would leave a file."""
    script = repo.parent / "attack.sh"
    script.write_text(f'#!/bin/sh\ntouch "{marker}/$(basename "$0")-$$"\ncat >/dev/null 2>&1\nexit 1\n')
    script.chmod(0o755)
    config = {
        "core.fsmonitor": str(script), "core.hooksPath": str(repo.parent / "hooks"), "core.pager": str(script),
        "pager.log": str(script), "pager.diff-tree": str(script), "diff.external": str(script),
        "diff.evil.command": str(script), "diff.evil.textconv": str(script), "filter.evil.smudge": str(script),
        "filter.evil.clean": str(script), "gpg.program": str(script), "log.showSignature": "true",
        "core.sshCommand": str(script), "core.gitProxy": str(script), "credential.helper": str(script),
        "core.alternateRefsCommand": str(script), "core.askPass": str(script), "core.editor": str(script),
        "protocol.ext.allow": "always", "protocol.allow": "always", "protocol.file.allow": "always",
        "alias.log": f"!{script}", "uploadpack.packObjectsHook": str(script), "diff.renames": "true",
        "remote.evil.url": f"ext::{script}", "remote.evil.promisor": "true",
        "remote.evil.partialclonefilter": "blob:none",
        "remote.evil.uploadpack": str(script), "extensions.partialClone": "evil", "log.mailmap": "true",
    }  # fmt: skip
    hooks = repo.parent / "hooks"
    hooks.mkdir()
    for hook in ("post-checkout", "reference-transaction", "fsmonitor-watchman", "pre-auto-gc", "post-index-change"):
        (hooks / hook).write_text(script.read_text())
        (hooks / hook).chmod(0o755)
        (repo / ".git" / "hooks").mkdir(exist_ok=True)
        (repo / ".git" / "hooks" / hook).write_text(script.read_text())
        (repo / ".git" / "hooks" / hook).chmod(0o755)
    with (repo / ".git" / "config").open("a") as stream:
        for name, value in config.items():
            section, _, key = name.rpartition(".")
            top, _, sub = section.partition(".")
            head = f'[{top} "{sub}"]' if sub else f"[{top}]"
            stream.write(f'{head}\n\t{key} = "{value}"\n')


def sign(repo: Path) -> None:
    """Give HEAD a signature header, so that showing signatures would start the gpg program."""
    raw = git(repo, "cat-file", "commit", "HEAD")
    head, _, message = raw.partition("\n\n")
    signature = "gpgsig -----BEGIN PGP SIGNATURE-----\n \n abc\n -----END PGP SIGNATURE-----"
    done = subprocess.run(
        ["git", "hash-object", "-t", "commit", "-w", "--stdin"],
        cwd=repo,
        input=f"{head}\n{signature}\n\n{message}".encode(),
        capture_output=True,
        check=True,
    )
    git(repo, "update-ref", "refs/heads/main", done.stdout.decode().strip())


def test_nothing_a_hostile_repository_asks_for_is_run(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "ran"
    marker.mkdir()
    commit(repo, "Start", **{".gitattributes": "* diff=evil filter=evil\n", "a.py": "x = 1\n"})
    commit(repo, "Change it", **{"a.py": "x = 2\n"})
    sign(repo)
    hostile(repo, marker)
    attack = str(tmp_path / "attack.sh")
    for name in ("GIT_EXTERNAL_DIFF", "GIT_PAGER", "PAGER", "GIT_SSH_COMMAND", "GIT_ASKPASS", "GIT_PROXY_COMMAND"):
        monkeypatch.setenv(name, attack)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "diff.external")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", attack)
    monkeypatch.chdir(repo)
    repository = Repository(repo)
    repository.require_commits()
    found = list(repository.patches(repository.log()))
    assert len(found) == 2
    assert found[0][1] is not None
    assert found[0][1][0].hunks[0].added == ["x = 2"]
    assert list(marker.iterdir()) == []


def test_a_missing_object_is_an_error_and_never_fetched(repo: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    marker.mkdir()
    commit(repo, "Start", **{"a.py": "x = 1\n"})
    commit(repo, "Change it", **{"a.py": "x = 2\n"})
    blob = git(repo, "rev-parse", "HEAD:a.py").strip()
    hostile(repo, marker)
    (repo / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    repository = Repository(repo)
    with pytest.raises(BadInputError, match="git failed"):
        list(repository.patches(repository.log()))
    assert list(marker.iterdir()) == []


def test_the_attacks_are_real(repo: Path, tmp_path: Path) -> None:
    """Without the door's precautions the same repository does run its programs."""
    marker = tmp_path / "ran"
    marker.mkdir()
    commit(repo, "Start", **{".gitattributes": "* diff=evil\n", "a.py": "x = 1\n"})
    commit(repo, "Change it", **{"a.py": "x = 2\n"})
    hostile(repo, marker)
    subprocess.run(["git", "log", "-p", "--ext-diff", "-1"], cwd=repo, capture_output=True, check=False)
    assert list(marker.iterdir())


def test_reading_can_stop_half_way(repo: Path) -> None:
    for number in range(5):
        commit(repo, f"Commit {number}", a=f"{number}\n")
    repository = Repository(repo)
    for found, _ in repository.patches(repository.log()):
        assert found.message.strip() == "Commit 4"
        break
