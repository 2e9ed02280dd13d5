"""dataset_manager.py's versions: shown, compared, verified, exported, archived and restored."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from tests.rollouts import SIGNATURE, Desk, stored_program
from tests.test_dataset_manager import item, run, store, write

import dataset_manager
from flywheel.base.errors import BadInputError, DamagedError
from flywheel.base.programs import deploy

if TYPE_CHECKING:
    from pathlib import Path

EXTRACT = ("--signature", SIGNATURE)


@pytest.fixture(name="data")
def data_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of datasets, given by the environment as cron does."""
    monkeypatch.setenv("TRAINING_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture(name="desk", autouse=True)
def desk_fixture(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Programs and experiments, where the environment says they are."""
    root = tmp_path / "desk"
    root.mkdir()
    monkeypatch.setenv("OPTIMIZED_MODULES_DIR", str(root / "programs"))
    monkeypatch.setenv("AB_EXPERIMENTS_DIR", str(root / "experiments"))
    return Desk(root, capsys)


def versions(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], count: int) -> list[str]:
    """So many versions, each one example larger than the one before; the first has two."""
    store("create", write(tmp_path / "first.json", item(0), item(1)))
    for number in range(2, count + 1):
        store("add", write(tmp_path / "next.json", item(number)))
    made = capsys.readouterr().out.split()
    assert sorted(made) == sorted(path.name for path in (data / "extract_requirements").glob("v*"))
    return made


def test_show_says_what_a_version_is_made_of(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = versions(data, tmp_path, capsys, 2)
    assert run("show", *EXTRACT) == 0
    shown = capsys.readouterr().out
    assert f"version     {second}, number 2\n" in shown
    assert f"made from   {first}\n" in shown
    assert "sources     manual 3\n" in shown
    assert run("show", *EXTRACT, "--version", first, "--json") == 0
    assert json.loads(capsys.readouterr().out)["example_count"] == 2


def test_diff_names_what_came_and_went(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = versions(data, tmp_path, capsys, 2)
    assert run("diff", *EXTRACT, first, "latest") == 0
    shown = capsys.readouterr().out
    assert f"{first} (2) -> {second} (3): 1 added, 0 removed, 0 changed\n  added " in shown
    assert run("diff", *EXTRACT, second, first, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    (gone,) = found.pop("removed")
    assert found == {"signature": EXTRACT[1], "old": second, "new": first, "added": [], "changed": []}
    assert gone in {row["id"] for row in json.loads((data / EXTRACT[1] / second / "dataset.json").read_text())}


def test_verify_is_1_and_names_what_is_off(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = versions(data, tmp_path, capsys, 2)
    assert run("verify") == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("", "2 version(s) of 1 signature(s): all sound\n")
    damaged = data / "extract_requirements" / first / "dataset.json"
    damaged.write_text("[]")
    assert run("verify", *EXTRACT, "--json") == 1
    report = json.loads(capsys.readouterr().out)["extract_requirements"]
    assert (report[second], report["latest"]) == ([], [])
    assert "damaged" in report[first][0]
    assert run("verify", "--version", second, *EXTRACT) == 0
    capsys.readouterr()
    assert run("verify") == 1
    assert capsys.readouterr().out.startswith(f"{damaged}: damaged")


def test_archive_spares_what_programs_in_use_were_made_from(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], desk: Desk
) -> None:
    made = versions(data, tmp_path, capsys, 8)
    deployed = stored_program(desk, dataset_version=made[0])
    deploy(desk.root / "programs", SIGNATURE, deployed.parent.name)
    tested = stored_program(desk, dataset_version=made[1])
    stored_program(desk, dataset_version=made[2])
    modules = ["--baseline", str(deployed), "--candidate", str(tested)]
    desk.run("start", "--experiment-id", "exp", *EXTRACT, *modules)
    capsys.readouterr()
    folder = data / "extract_requirements"
    old = ["archive", "--older-than", "0"]
    assert run("archive") == 0
    assert capsys.readouterr().out == ""
    assert run(*old, "--dry-run") == 0
    assert capsys.readouterr().out.split() == [str(folder / version) for version in made[2:5]]
    assert not list(folder.glob("*.tar.gz"))
    assert run(*old) == 0
    assert capsys.readouterr().out.split() == [str(folder / f"{version}.tar.gz") for version in made[2:5]]
    assert run("list", *EXTRACT) == 0
    assert [line.endswith("(archived)") for line in capsys.readouterr().out.splitlines()[1:]] == [
        version in made[2:5] for version in made
    ]
    # An experiment that cannot be read may need any of them.
    (desk.experiments / "experiment_broken.json").write_text("{")
    with pytest.raises(DamagedError, match="experiment_broken"):
        run(*old)


def test_an_archived_version_loads_and_comes_back(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = versions(data, tmp_path, capsys, 4)[0]
    folder = data / "extract_requirements" / first
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert run("archive", "--older-than", "0") == 0
    assert not folder.exists()
    capsys.readouterr()
    assert run("load", *EXTRACT, "--version", first) == 0
    assert capsys.readouterr().out.encode() == before["dataset.json"]
    assert run("restore", *EXTRACT, "--version", first) == 0
    assert "restored" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert run("restore", *EXTRACT, "--version", first) == 0
    assert "is not archived; nothing to do" in capsys.readouterr().err
    with pytest.raises(BadInputError, match="no versions in"):
        run("restore", "--signature", "validate_intent", "--version", first)


def test_the_specs_way_of_restoring_by_hand_works(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = versions(data, tmp_path, capsys, 4)[0]
    assert run("archive", "--older-than", "0") == 0
    steps = f"tar -xzf {first}.tar.gz && rm latest && ln -s {first} latest"
    subprocess.run(["sh", "-c", steps], cwd=data / "extract_requirements", check=True)
    assert run("verify") == 0
    capsys.readouterr()
    assert run("load", *EXTRACT) == 0
    assert len(json.loads(capsys.readouterr().out)) == 2
    # Adding goes on from what somebody chose.
    assert store("add", write(tmp_path / "next.json", item(50))) == 0
    metadata = json.loads((data / "extract_requirements/latest/metadata.json").read_text())
    assert (metadata["parent_version"], metadata["sequence"], metadata["example_count"]) == (first, 5, 3)


@pytest.mark.parametrize("form", ["jsonl", "dspy", "hf", "parquet"])
def test_load_and_export_give_the_same(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    store("create", write(tmp_path / "a.json", *map(item, range(6))))
    command = [sys.executable, dataset_manager.__file__, "load", *EXTRACT, "--format", form]
    printed = subprocess.run(command, capture_output=True, check=True).stdout
    target = tmp_path / "exported"
    capsys.readouterr()
    assert run("export", *EXTRACT, "--format", form, "--output", target) == 0
    assert capsys.readouterr().out.strip() == str(target)
    if form == "hf":
        parts = [path.read_bytes().splitlines() for path in target.glob("*.jsonl")]
        assert sorted(printed.splitlines()) == sorted(line for part in parts for line in part)
    else:
        assert target.read_bytes() == printed
    assert data.is_dir()


MEANS = """
for ver in $(ls -1 . | grep "^v" | tail -3); do
    cat $ver/metadata.json | jq '.statistics.quality_scores.mean'
done
"""
SOURCES = "group_by(.source) | map({source: .[0].source, avg_quality: (map(.quality_score) | add/length)})"


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("cat latest/metadata.json | jq '.statistics.quality_scores' | jq -r .count", "6"),
        ("cat latest/provenance.jsonl | jq -s 'map(.quality_score) | add/length'", "70"),
        ("cat latest/metadata.json | jq -c '.statistics.sources'", '{"git":3,"manual":3}'),
        (MEANS, "70\n70\n70"),
        (
            f"cat ../*/latest/provenance.jsonl | jq -sc '{SOURCES}'",
            '[{"source":"git","avg_quality":60},{"source":"manual","avg_quality":80}]',
        ),
    ],
)
@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_the_specs_jq_lines_work_on_the_files(data: Path, tmp_path: Path, program: str, expected: str) -> None:
    facts: list[dict[str, Any]] = [{"source": "git", "quality_score": 60}, {"quality_score": 80}]
    for number in range(5):
        items = [item(10 * number + n, **facts[n % 2]) for n in range(6)]
        store("create", write(tmp_path / "a.json", *items))
    assert run("archive", "--older-than", "0") == 0
    done = subprocess.run(
        ["sh", "-c", program], cwd=data / "extract_requirements", capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == expected
