"""verify names every way in which a version is not what it says."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from flywheel.base.errors import BadInputError
from flywheel.data import archives, store
from flywheel.data.additions import add_examples
from flywheel.data.examples import Example, Metadata
from flywheel.data.metadata import leaf
from flywheel.data.publishing import Batch, writer_lock
from flywheel.data.registry import all_signatures
from flywheel.data.verification import verify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SIGNATURE = all_signatures()["extract_requirements"]
NAME = SIGNATURE.name


def example(number: int) -> Example:
    words = " ".join(f"word{number * 37 + k}" for k in range(12))
    return Example(
        inputs={"user_intent": words, "context": ""},
        outputs={"requirements": [f"Do {words}"], "priorities": [5]},
        metadata=Metadata(source="git", quality_score=90.0, difficulty="easy"),
    )


def add(root: Path, *numbers: int) -> Path:
    batch = Batch("git", "", datetime(2025, 1, max(numbers), tzinfo=UTC))
    added = add_examples(root, SIGNATURE, [example(number) for number in numbers], batch, onto_latest=True)
    assert added.metadata
    return root / NAME / added.metadata.version


def flaws(root: Path, version: str | None = None) -> list[str]:
    return [flaw for _, found in verify(root, SIGNATURE, version) for flaw in found]


def rewrite(folder: Path, change: Callable[[Any], object], name: str = "dataset.json", **facts: Any) -> None:
    """Change the rows of a file, with the checksum to match."""
    path = folder / name
    text = path.read_text()
    rows = [json.loads(line) for line in text.splitlines()] if name.endswith("l") else json.loads(text)
    change(rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) if name.endswith("l") else json.dumps(rows))
    described(folder, files={name: store.sha256(path.read_bytes())}, **facts)


def described(folder: Path, files: dict[str, str] | None = None, **facts: Any) -> None:
    metadata = json.loads((folder / "metadata.json").read_text())
    metadata["files"].update(files or {})
    (folder / "metadata.json").write_text(json.dumps({**metadata, **facts}))


def test_a_sound_store_has_no_flaws_archived_versions_among_it(tmp_path: Path) -> None:
    folders = [add(tmp_path, number) for number in range(1, 5)]
    with writer_lock(tmp_path, NAME):
        archives.archive(tmp_path, NAME, folders[0].name)
    assert dict(verify(tmp_path, SIGNATURE)) == {**{folder.name: [] for folder in folders}, "latest": []}
    assert dict(verify(tmp_path, SIGNATURE, "latest")) == {folders[-1].name: []}
    with pytest.raises(BadInputError, match="no dataset version v1"):
        list(verify(tmp_path, SIGNATURE, "v1"))
    # An example keeps the moment it came.
    lines = (folders[-1] / "provenance.jsonl").read_text().splitlines()
    assert [json.loads(line)["timestamp"][:10] for line in lines] == [f"2025-01-0{n}" for n in range(1, 5)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.pop(), "example_count says 3, there are 2"),
        (lambda rows: rows.pop(), "its lines are not the examples'"),
        (lambda rows: rows.append(rows[0]), "stands 2 times"),
        (lambda rows: rows[0]["inputs"].update(user_intent="other"), "its id is not that of its content"),
        (lambda rows: rows[0]["inputs"].update(user_intent="other"), "content_hash differs"),
        (lambda rows: rows[0].update(split="test"), "recorded for"),
        (lambda rows: rows[0]["outputs"].update(priorities=[99]), "out_of_range"),
        (lambda rows: rows[0].pop("split"), "without split, source, quality score or group"),
        (lambda rows: rows[0]["metadata"].update(quality_score=50), "statistics differ"),
        (lambda rows: rows[0]["metadata"].update(commit_sha="b"), "commit_sha differ from dataset.json"),
        (lambda rows: rows[0].update(inputs=5), "no examples: "),
    ],
)
def test_a_changed_example_is_named_though_the_checksum_fits(
    tmp_path: Path, change: Callable[[Any], object], message: str
) -> None:
    folder = add(tmp_path, 1, 2, 3)
    # The first example is in another split than test.
    rewrite(folder, lambda rows: rows.sort(key=lambda row: row["split"] == "test"))
    order = [row["id"] for row in json.loads((folder / "dataset.json").read_text())]
    rewrite(folder, lambda rows: rows.sort(key=lambda row: order.index(row["example_id"])), "provenance.jsonl")
    assert flaws(tmp_path) == []
    rewrite(folder, change)
    found = flaws(tmp_path)
    assert any(message in flaw and folder.name in flaw for flaw in found), found


def test_what_was_erased_is_verifiable_and_must_not_be_there(tmp_path: Path) -> None:
    folder = add(tmp_path, 1, 2, 3)
    metadata = store.read_metadata(folder)
    (*_, gone) = json.loads((folder / "dataset.json").read_text())
    erased = {gone["id"]: leaf(metadata.salt, gone)}
    described(folder, erased=erased)
    assert any("an example that was erased is there" in flaw for flaw in flaws(tmp_path))
    rewrite(folder, lambda rows: rows.pop(), example_count=2)
    rewrite(folder, lambda rows: rows.pop(), "provenance.jsonl")
    (left,) = flaws(tmp_path)
    assert left.endswith("statistics differ from those of the examples")
    described(folder, erased={})
    assert any("content_hash differs" in flaw for flaw in flaws(tmp_path))


def test_damage_of_files_is_told_and_hides_no_other(tmp_path: Path) -> None:
    one, two, three = add(tmp_path, 1), add(tmp_path, 2), add(tmp_path, 3)
    (one / "dataset.json").write_text("[]")
    (two / "provenance.jsonl").unlink()
    (three / "metadata.json").write_text("{")
    found = flaws(tmp_path)
    assert [flaw.split(":")[0] for flaw in found] == [
        str(one / "dataset.json"),
        str(two / "provenance.jsonl"),
        f"{three / 'metadata.json'}, line 1",
    ]


def test_what_is_off_between_versions_is_told(tmp_path: Path) -> None:
    one, two = add(tmp_path, 1), add(tmp_path, 2)
    described(two, sequence=1)
    (two / "mine.txt").touch()
    (tmp_path / NAME / "latest").unlink()
    found = flaws(tmp_path)
    assert any("holds mine.txt, which is no file of the version" in flaw for flaw in found)
    assert any(f"has the sequence number 1, as {one.name} has" in flaw for flaw in found)
    assert any(f"leads to no version; `ln -sfn {two.name}" in flaw for flaw in found)
    described(two, version="v20200101_000000", files={})
    assert any("metadata.json is of extract_requirements v20200101_000000" in flaw for flaw in flaws(tmp_path))
    (tmp_path / NAME / "splits.jsonl").write_text("{}\n")
    assert any("splits.jsonl, line 1" in flaw for flaw in flaws(tmp_path))
