from __future__ import annotations

import grp
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flywheel.base import paths
from flywheel.base.errors import BadInputError
from flywheel.base.paths import Place, private_folder

ROOM = Path(__file__).resolve().parents[2] / "data_collection"
PLACE = Place("SOME_PLACE", "some/where", "folder of things")
NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SOME_PLACE", paths.GROUP_VARIABLE):
        monkeypatch.delenv(name, raising=False)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_flag_before_environment_before_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert PLACE.resolve() == paths.PROJECT_ROOT / "some/where"
    monkeypatch.setenv("SOME_PLACE", "/from/environment")
    assert PLACE.resolve() == Path("/from/environment")
    assert PLACE.resolve("/from/flag") == Path("/from/flag")
    monkeypatch.chdir(tmp_path)
    assert PLACE.resolve("../x/./y") == tmp_path.parent / "x/y"


def test_an_empty_variable_means_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_PLACE", "")
    assert PLACE.resolve() == paths.PROJECT_ROOT / "some/where"


def test_an_empty_flag_is_refused_not_taken_for_the_working_directory() -> None:
    with pytest.raises(BadInputError, match="empty path given for the folder of things"):
        PLACE.resolve("")


def test_home_is_known_and_strangers_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert PLACE.resolve("~/data") == tmp_path / "data"
    with pytest.raises(BadInputError, match="~nobody-of-that-name/x: no such user"):
        PLACE.resolve("~nobody-of-that-name/x")


def test_resolve_keeps_links_so_that_they_can_be_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    assert PLACE.resolve(str(tmp_path / "link")) == tmp_path / "link"


def test_defaults_do_not_depend_on_where_one_stands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = paths.DATASETS.resolve()
    monkeypatch.chdir(tmp_path)
    assert paths.DATASETS.resolve() == before == ROOM.parent / "training_data"


def test_private_folder_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        assert mode(private_folder(tmp_path / "a/b")) == 0o700
    finally:
        os.umask(before)


def test_private_folder_again_is_fine_and_keeps_what_is_in_it(tmp_path: Path) -> None:
    (private_folder(tmp_path / "a") / "file").touch()
    assert private_folder(tmp_path / "a") == tmp_path / "a"
    assert (tmp_path / "a/file").exists()


def test_private_folder_refuses_a_link_even_to_our_own(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(BadInputError, match="link: is a link"):
        private_folder(tmp_path / "link")
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(BadInputError, match="dangling: is a link"):
        private_folder(tmp_path / "dangling")


def test_private_folder_refuses_files_in_its_place_or_above(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInputError, match="file: exists and is no folder"):
        private_folder(tmp_path / "file")
    with pytest.raises(BadInputError, match="below: cannot be created: "):
        private_folder(tmp_path / "file/below")


@as_root
def test_private_folder_refuses_somebody_elses(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", NOBODY, -1)
    with pytest.raises(BadInputError, match=f"theirs: belongs to another user .uid {NOBODY}."):
        private_folder(tmp_path / "theirs")


@as_root
def test_private_folder_of_an_unprivileged_user_that_cannot_be_written(tmp_path: Path) -> None:
    """Root may write anywhere, so the question is put by nobody."""
    folder = tmp_path / "sealed"
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)
    folder.chmod(0o500)
    tmp_path.chmod(0o711)
    code = (
        "import os, sys; from pathlib import Path; from flywheel.base import errors, paths\n"
        f"os.setuid({NOBODY})\n"
        "for name in ('', 'inner'):\n"
        "    try:\n        paths.private_folder(Path('sealed') / name)\n"
        "    except errors.BadInputError as error:\n        print(error)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOM)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    sealed, inner = done.stdout.splitlines()
    assert sealed.startswith("sealed: not writable by this user")
    assert inner == "sealed/inner: cannot be created: Permission denied"


def test_an_unknown_group_is_the_users_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(paths.GROUP_VARIABLE, "no-such-group")
    with pytest.raises(BadInputError, match="FLYWHEEL_GROUP=no-such-group: no such group"):
        private_folder(tmp_path / "shared", shared=True)
    assert mode(private_folder(tmp_path / "private")) == 0o700


@as_root
def test_flywheel_group_opens_shared_folders_and_no_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    group = grp.getgrgid(NOBODY)
    monkeypatch.setenv(paths.GROUP_VARIABLE, group.gr_name)
    shared = private_folder(tmp_path / "shared", shared=True)
    assert (mode(shared), shared.stat().st_gid) == (0o2770, NOBODY)
    assert mode(private_folder(tmp_path / "private")) == 0o700


@as_root
def test_flywheel_group_opens_a_folder_made_before_it_was_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    private_folder(tmp_path / "shared", shared=True)
    monkeypatch.setenv(paths.GROUP_VARIABLE, grp.getgrgid(NOBODY).gr_name)
    private_folder(tmp_path / "shared", shared=True)
    assert mode(tmp_path / "shared") == 0o2770
    assert (tmp_path / "shared").stat().st_gid == NOBODY


@as_root
def test_flywheel_group_is_trusted_as_owner_of_a_shared_folder_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(paths.GROUP_VARIABLE, grp.getgrgid(NOBODY).gr_name)
    (tmp_path / "theirs").mkdir(mode=0o770)
    os.chown(tmp_path / "theirs", NOBODY, NOBODY)
    assert private_folder(tmp_path / "theirs", shared=True).stat().st_uid == NOBODY
    with pytest.raises(BadInputError, match="belongs to another user"):
        private_folder(tmp_path / "theirs")
    os.chown(tmp_path / "theirs", NOBODY, 12345)
    with pytest.raises(BadInputError, match="belongs to another user"):
        private_folder(tmp_path / "theirs", shared=True)
