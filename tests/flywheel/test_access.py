from __future__ import annotations

import grp
import os
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.serving.access import ENTER, READ, WRITE, Person, allowed, problems

if TYPE_CHECKING:
    from pathlib import Path

    from flywheel.serving.access import Problem

ROOT = os.geteuid() == 0
# A group that no user of a test machine is in by itself.
OTHER = 65_533
NOBODY = Person(65_534, frozenset({OTHER}), "nobody")
TRY = 'n=0; [ -r "$1" ] && n=$((n+4)); [ -w "$1" ] && n=$((n+2)); [ -x "$1" ] && n=$((n+1)); echo $n'


def status(mode: int, uid: int, gid: int) -> os.stat_result:
    return os.stat_result((mode, 0, 0, 1, uid, gid, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("mode", "uid", "gid", "expected"),
    [
        (0o700, 65_534, 1, 7),
        (0o070, 1, OTHER, 7),
        (0o007, 1, 1, 7),
        (0o077, 65_534, OTHER, 0),  # the owner's bits count for the owner, however wide the rest is
        (0o707, 1, OTHER, 0),
        (0o2770, 1, OTHER, 7),
        (0o640, 1, OTHER, 4),
    ],
)
def test_the_first_class_that_fits_decides(mode: int, uid: int, gid: int, expected: int) -> None:
    found = sum(bit for bit in (READ, WRITE, ENTER) if allowed(status(mode, uid, gid), NOBODY, bit))
    assert found == expected


@given(st.integers(0, 0o777))
def test_root_may_everything(mode: int) -> None:
    assert allowed(status(mode, 5, 5), Person(0, frozenset(), "root"), READ | WRITE | ENTER)


@pytest.mark.skipif(not ROOT, reason="only root can be somebody else")
@pytest.mark.parametrize("mode", [0o700, 0o770, 0o750, 0o707, 0o077, 0o646, 0o031])
def test_the_kernel_agrees(mode: int, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    os.chown(folder, 1, OTHER)
    folder.chmod(mode)
    descriptor = os.open(folder, os.O_PATH)
    try:
        # By its descriptor: pytest's own folders are closed to others.
        done = subprocess.run(
            ["/bin/sh", "-c", TRY, "sh", f"/proc/self/fd/{descriptor}"],
            user=65_534, group=65_534, extra_groups=[OTHER], pass_fds=[descriptor],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    finally:
        os.close(descriptor)
    expected = sum(bit for bit in (READ, WRITE, ENTER) if allowed(folder.stat(), NOBODY, bit))
    assert int(done.stdout) == expected


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    experiments, telemetry = tmp_path / "experiments", tmp_path / "telemetry"
    for folder in (experiments, telemetry):
        folder.mkdir(mode=0o700)
    (experiments / "routing_config.json").write_text("{}")
    (experiments / "routing_config.json").chmod(0o600)
    return experiments, telemetry


def of(found: list[Problem], path: Path) -> list[str]:
    return [problem.fix for problem in found if problem.what.startswith(f"{path}: ")]


def test_the_same_user_needs_nothing_more(places: tuple[Path, Path]) -> None:
    assert problems(*places) == []


def test_what_is_missing_for_a_group_is_named_and_the_fixes_mend_it(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = grp.getgrgid(os.getgid()).gr_name
    monkeypatch.setenv("FLYWHEEL_GROUP", name)
    experiments, telemetry = places
    found = problems(*places)
    assert of(found, experiments) == [f"chmod g+x {experiments}"]
    assert of(found, experiments / "routing_config.json") == [f"chmod g+r {experiments / 'routing_config.json'}"]
    assert of(found, telemetry) == [f"chmod g+wx {telemetry}", f"chmod g+s {telemetry}"]
    for problem in found:
        subprocess.run(["/bin/sh", "-c", problem.fix.split(", ")[0]], check=True)
    assert problems(*places) == []
    assert stat.S_IMODE(telemetry.stat().st_mode) == 0o2730


def test_the_telemetry_folder_counts_only_where_records_are_the_evidence(places: tuple[Path, Path]) -> None:
    places[1].chmod(0o777)
    assert [problem.fix for problem in problems(*places)] == [f"chmod o-w {places[1]}"]
    assert problems(places[0], None) == []


def test_a_group_that_is_unknown_is_the_only_problem(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLYWHEEL_GROUP", "no-such-group-here")
    (found,) = problems(*places)
    assert "no such group" in found.what


def test_a_folder_that_does_not_exist_must_be_one_the_group_can_make(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLYWHEEL_GROUP", grp.getgrgid(os.getgid()).gr_name)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o710)
    closed.chmod(0o710)
    found = problems(tmp_path / "experiments", closed / "telemetry")
    assert of(found, closed / "telemetry")[0].startswith("mkdir -p ")
    closed.chmod(0o730)
    assert of(problems(tmp_path / "experiments", closed / "telemetry"), closed / "telemetry") == []


def test_a_link_is_a_problem(places: tuple[Path, Path], tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(places[1])
    assert of(problems(places[0], link), link) == ["name the folder itself"]
