"""Versions on disk: whole or not at all, never edited, and damage that is told as such."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel.base.errors import BadInputError, DamagedError
from flywheel.data import archive_file, store
from flywheel.data.examples import Example, Metadata, example_id
from flywheel.data.publishing import Batch, write_version, writer_lock
from flywheel.data.registry import all_signatures

if TYPE_CHECKING:
    from flywheel.data.metadata import DatasetMetadata

SIGNATURE = all_signatures()["extract_requirements"]
NAME = SIGNATURE.name
MOMENT = datetime(2025, 11, 4, 12, 0, tzinfo=UTC)
BATCH = Batch("git", "a note", MOMENT)


def example(intent: str, **facts: Any) -> Example:
    inputs = {"user_intent": intent, "context": ""}
    outputs = {"requirements": ["Do it"], "priorities": [5]}
    settled = {"source": "git", "group": f"g:{intent}", "quality_score": 90.0, **facts}
    return Example(
        inputs=inputs,
        outputs=outputs,
        metadata=Metadata(**settled),
        id=example_id(NAME, inputs, outputs),
        split="train",
    )


def write(root: Path, *examples: Example, parent: DatasetMetadata | None = None) -> DatasetMetadata:
    with writer_lock(root, NAME):
        return write_version(root, SIGNATURE, examples or [example("one")], BATCH, parent)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(
    st.lists(
        st.builds(
            example,
            st.text(min_size=1),
            quality_score=st.floats(0, 100),
            commit_sha=st.text(),
            evidence=st.lists(st.integers() | st.text(), max_size=3),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_what_is_stored_is_loaded(tmp_path: Path, examples: list[Example]) -> None:
    written = write(tmp_path, *examples)
    metadata, loaded = store.load(tmp_path, NAME)
    assert metadata == written
    assert loaded == examples
    assert metadata.example_count == len(examples)
    lines = (tmp_path / NAME / written.version / "provenance.jsonl").read_text().split("\n")
    assert [json.loads(line)["example_id"] for line in lines[:-1]] == [e.id for e in examples]


def test_versions_within_a_second_get_ids_and_sequences_of_their_own(tmp_path: Path) -> None:
    first = write(tmp_path)
    second = write(tmp_path, example("two"), parent=first)
    assert [m.version for m in store.versions(tmp_path, NAME)] == ["v20251104_120000", "v20251104_120001"]
    assert (second.sequence, second.parent_version, second.salt) == (2, "v20251104_120000", first.salt)
    assert (tmp_path / NAME / "latest").readlink() == Path("v20251104_120001")
    assert store.find(tmp_path, NAME) == (tmp_path / NAME / second.version).resolve()


def test_an_archived_id_is_taken_too(tmp_path: Path) -> None:
    folder = tmp_path / NAME / write(tmp_path).version
    files = archive_file.read_folder(folder)
    archive = folder.with_name("v20251104_120000.tar.gz")
    archive.write_bytes(archive_file.pack(folder.name, files, "metadata.json"))
    shutil.rmtree(folder)
    assert write(tmp_path).version == "v20251104_120001"


def test_equal_contents_hash_alike_within_a_line_of_versions_only(tmp_path: Path) -> None:
    first = write(tmp_path)
    assert write(tmp_path, parent=first).content_hash == first.content_hash
    assert write(tmp_path).content_hash != first.content_hash


def test_everything_is_private(tmp_path: Path) -> None:
    version = write(tmp_path).version
    for path in (tmp_path / NAME).rglob("*"):
        if not path.is_symlink():
            assert path.stat().st_mode & 0o077 == 0, path
    assert {p.name for p in (tmp_path / NAME / version).iterdir()} == {
        "dataset.json",
        "metadata.json",
        "provenance.jsonl",
    }


@pytest.mark.parametrize("version", ["v20200101_000000", "../extract_requirements/latest", "", "..", ".lock"])
def test_what_is_no_version_is_told_with_where_to_look(tmp_path: Path, version: str) -> None:
    write(tmp_path)
    with pytest.raises(BadInputError, match=r"no dataset version .*`dataset_manager.py list` shows what there is"):
        store.load(tmp_path, NAME, version)


def test_no_folder_no_versions(tmp_path: Path) -> None:
    assert store.versions(tmp_path / "none", NAME) == []
    assert store.newest(tmp_path / "none", NAME) is None


@pytest.mark.parametrize("name", ["dataset.json", "provenance.jsonl"])
def test_a_changed_or_missing_file_is_damage(tmp_path: Path, name: str) -> None:
    path = tmp_path / NAME / write(tmp_path).version / name
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"git", b"got"))
    with pytest.raises(DamagedError, match=rf"{name}: damaged .*put the version back from a backup"):
        store.load(tmp_path, NAME)
    path.write_bytes(whole[:-10])
    with pytest.raises(DamagedError, match=f"{name}: damaged"):
        store.load(tmp_path, NAME)
    path.unlink()
    with pytest.raises(DamagedError, match=f"{name}: missing; put the version back from a backup"):
        store.load(tmp_path, NAME)
    path.write_bytes(whole)
    store.load(tmp_path, NAME)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not JSON"),
        ("[]", "expected dataset metadata, found list"),
        ("{}", "version: Field required"),
        (None, "sequence: Input should be a valid integer"),
    ],
)
def test_damaged_metadata_is_told_wherever_it_is_needed(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / NAME / write(tmp_path).version / "metadata.json"
    changed = json.dumps({**json.loads(path.read_text()), "sequence": "first"})
    path.write_text(changed if content is None else content)
    with pytest.raises(DamagedError, match=rf"metadata\.json.*{message}"):
        store.load(tmp_path, NAME)
    with pytest.raises(DamagedError, match=message):
        store.versions(tmp_path, NAME)


def test_rows_that_are_no_examples_are_damage_even_where_the_checksum_fits(tmp_path: Path) -> None:
    folder = tmp_path / NAME / write(tmp_path).version
    content = b'[{"inputs": 5, "outputs": {}}]'
    (folder / "dataset.json").write_bytes(content)
    value = json.loads((folder / "metadata.json").read_text())
    value["files"]["dataset.json"] = store.sha256(content)
    (folder / "metadata.json").write_text(json.dumps(value))
    with pytest.raises(DamagedError, match=r"holds what is no example: Input should be a valid dictionary"):
        store.load(tmp_path, NAME)


def test_a_failed_write_leaves_the_versions_as_they_were(tmp_path: Path) -> None:
    first = write(tmp_path)
    broken = example("two").model_copy(update={"inputs": {"user_intent": float("inf"), "context": ""}})
    broken = broken.model_copy(update={"metadata": Metadata(source="git", quality_score=1, evidence=object())})
    with pytest.raises(ValueError, match="serialize"):
        write(tmp_path, broken)
    assert store.load(tmp_path, NAME)[0] == first
    assert not list((tmp_path / NAME).glob(".staging*"))


def test_what_a_killed_writer_left_is_swept_by_the_next(tmp_path: Path) -> None:
    first = write(tmp_path)
    left = tmp_path / NAME / ".staging-v20251104_120001-abcd"
    shutil.copytree(tmp_path / NAME / first.version, left)
    write(tmp_path, parent=first)
    assert not left.exists()
    assert len(store.versions(tmp_path, NAME)) == 2


def test_where_latest_is_gone_the_newest_is_the_highest_sequence(tmp_path: Path) -> None:
    first = write(tmp_path)
    write(tmp_path, parent=first)
    assert store.newest(tmp_path, NAME) == "v20251104_120001"
    latest = tmp_path / NAME / "latest"
    latest.unlink()
    assert store.newest(tmp_path, NAME) == "v20251104_120001"
    latest.symlink_to("v20200101_000000")
    assert store.newest(tmp_path, NAME) == "v20251104_120001"
