"""Archives: byte for byte back, readable as they are, and none of a version that somebody needs."""

from __future__ import annotations

import io
import subprocess
import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.base.errors import BadInputError, DamagedError
from flywheel.data import archive_file, archives, store
from flywheel.data.examples import Example, Metadata, example_id
from flywheel.data.publishing import Batch, write_version, writer_lock
from flywheel.data.registry import all_signatures

SIGNATURE = all_signatures()["extract_requirements"]
NAME = SIGNATURE.name
START = datetime(2025, 1, 1, tzinfo=UTC)
LATER = START + timedelta(days=400)


def example(intent: str) -> Example:
    inputs, outputs = {"user_intent": intent, "context": ""}, {"requirements": ["Do it"], "priorities": [5]}
    facts = Metadata(source="git", group=f"g:{intent}", quality_score=90.0)
    return Example(inputs=inputs, outputs=outputs, metadata=facts, id=example_id(NAME, inputs, outputs), split="train")


def make(root: Path, count: int = 5, *, apart: float = 1) -> list[str]:
    """Versions made so many days apart, oldest first."""
    made = []
    for number in range(count):
        batch = Batch("git", "", START + timedelta(days=number * apart))
        with writer_lock(root, NAME):
            made.append(write_version(root, SIGNATURE, [example(f"intent {number}")], batch, None).version)
    return made


@given(st.dictionaries(st.from_regex(r"[a-z]{1,9}\.jsonl?", fullmatch=True), st.binary(max_size=3000), min_size=1))
def test_what_is_packed_is_unpacked_and_packs_alike(files: dict[str, bytes]) -> None:
    first = min(files)
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "v20250101_000000.tar.gz"
        path.write_bytes(archive_file.pack("v20250101_000000", files, first))
        assert archive_file.unpack(path) == files
        assert archive_file.unpack_one(path, first) == files[first]
        assert archive_file.unpack_one(path, "none") is None
        # tar itself puts the same back.
        subprocess.run(["tar", "-xzf", str(path), "-C", scratch], check=True)
        assert archive_file.read_folder(path.with_name("v20250101_000000")) == files
        assert archive_file.pack("v20250101_000000", archive_file.unpack(path), first) == path.read_bytes()


@settings(max_examples=15)
@given(st.lists(st.text(min_size=1), min_size=1, max_size=5, unique=True))
def test_an_archived_version_loads_alike_and_comes_back_byte_for_byte(intents: list[str]) -> None:
    with TemporaryDirectory() as scratch:
        root = Path(scratch)
        with writer_lock(root, NAME):
            version = write_version(
                root, SIGNATURE, [example(i) for i in intents], Batch("git", "", START), None
            ).version
            folder = root / NAME / version
            files, loaded = archive_file.read_folder(folder), store.load(root, NAME, version)
            target = archives.archive(root, NAME, version)
            packed = target.read_bytes()
            assert not folder.exists()
            assert store.load(root, NAME, version) == loaded
            assert [m.version for m in store.versions(root, NAME)] == [version]
            assert archives.restore(root, NAME, version)
            assert archive_file.read_folder(folder) == files
            assert not target.exists()
            assert not archives.restore(root, NAME, version)
            assert archives.archive(root, NAME, version).read_bytes() == packed


def test_due_are_the_old_ones_but_the_latest_three_the_latest_and_the_needed(tmp_path: Path) -> None:
    made = make(tmp_path, 8, apart=40)
    due = archives.due(tmp_path, NAME, LATER, 90, ())
    assert due == made[:5]
    assert archives.due(tmp_path, NAME, LATER, 280, ()) == made[:3]
    assert archives.due(tmp_path, NAME, LATER, 90, {made[1]}) == [made[0], *made[2:5]]
    # Somebody went back to an old version by hand.
    link = tmp_path / NAME / "latest"
    link.unlink()
    link.symlink_to(made[0])
    assert archives.due(tmp_path, NAME, LATER, 90, ()) == made[1:5]
    with writer_lock(tmp_path, NAME):
        archives.archive(tmp_path, NAME, made[1])
    assert archives.due(tmp_path, NAME, LATER, 90, ()) == made[2:5]


def test_order_is_the_sequences_not_the_names(tmp_path: Path) -> None:
    for days in (9, 8, 7, 6):
        with writer_lock(tmp_path, NAME):
            write_version(tmp_path, SIGNATURE, [example("x")], Batch("git", "", START + timedelta(days=days)), None)
    assert [m.version[:9] for m in store.versions(tmp_path, NAME)] == [
        "v20250110",
        "v20250109",
        "v20250108",
        "v20250107",
    ]
    assert archives.due(tmp_path, NAME, LATER, 90, ()) == ["v20250110_000000"]
    assert store.load(tmp_path, NAME)[0].version == "v20250107_000000"


def test_a_damaged_version_is_not_archived_and_a_damaged_archive_not_restored(tmp_path: Path) -> None:
    one, other = make(tmp_path, 2)
    (tmp_path / NAME / one / "dataset.json").write_text("[]")
    with writer_lock(tmp_path, NAME):
        with pytest.raises(DamagedError, match=r"dataset\.json: damaged"):
            archives.archive(tmp_path, NAME, one)
        target = archives.archive(tmp_path, NAME, other)
        target.write_bytes(target.read_bytes()[:-40])
        with pytest.raises(DamagedError, match="no whole archive"):
            archives.restore(tmp_path, NAME, other)
    with pytest.raises(DamagedError, match="no whole archive"):
        store.load(tmp_path, NAME, other)
    assert target.is_file()


def test_a_folder_with_more_than_files_is_refused(tmp_path: Path) -> None:
    (version,) = make(tmp_path, 1)
    (tmp_path / NAME / version / "mine").mkdir()
    with writer_lock(tmp_path, NAME), pytest.raises(BadInputError, match="move it away first"):
        archives.archive(tmp_path, NAME, version)


def test_an_archive_and_another_folder_of_its_name_are_told(tmp_path: Path) -> None:
    (version,) = make(tmp_path, 1)
    folder = tmp_path / NAME / version
    files = {**archive_file.read_folder(folder), "notes.txt": b"mine"}
    folder.with_name(f"{version}.tar.gz").write_bytes(archive_file.pack(version, files, "metadata.json"))
    with writer_lock(tmp_path, NAME):
        with pytest.raises(DamagedError, match="move one of them away"):
            archives.restore(tmp_path, NAME, version)
        # The folder counts: archiving packs it anew.
        assert archive_file.unpack(archives.archive(tmp_path, NAME, version)).keys() == files.keys() - {"notes.txt"}
        with pytest.raises(BadInputError, match="no dataset version v1"):
            archives.restore(tmp_path, NAME, "v1")


@pytest.mark.parametrize("name", ["../escaped", "v20250101_000000/../x", "/etc/x", "v20250101_000000/a/b", "other/x"])
def test_an_archive_that_reaches_elsewhere_is_damage(tmp_path: Path, name: str) -> None:
    path = tmp_path / "v20250101_000000.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = 1
        tar.addfile(entry, io.BytesIO(b"x"))
    with pytest.raises(DamagedError, match="which is no file of a version"):
        archive_file.unpack(path)


def test_a_link_in_an_archive_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "v20250101_000000.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        entry = tarfile.TarInfo("v20250101_000000/dataset.json")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(entry)
    with pytest.raises(DamagedError, match="which is no file of a version"):
        archive_file.unpack(path)
