"""dataset_manager.py through its command line: versions made, grown, listed and loaded."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import dataset_manager
from flywheel.base.errors import BadInputError, DamagedError

SCRIPT = Path(dataset_manager.__file__)
WORDS = [f"{first}{second}{last}" for first in "bdfgklm" for second in "aeiou" for last in ("st", "rn", "lp", "mt")]


def item(number: int, **metadata: Any) -> dict[str, Any]:
    words = " ".join(random.Random(number).sample(WORDS, 30))
    return {
        "inputs": {"user_intent": f"Do {words}", "context": ""},
        "outputs": {"requirements": [f"Do {words} well"], "priorities": [5]},
        "metadata": {"difficulty": "easy", "category": "api", **metadata},
    }


@pytest.fixture(name="data")
def data_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of datasets, given by the environment as cron does."""
    monkeypatch.setenv("TRAINING_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


def write(path: Path, *items: Any) -> Path:
    path.write_text(json.dumps(items))
    return path


def run(*arguments: object) -> int:
    return dataset_manager.main([str(argument) for argument in arguments])


def store(command: str, path: Path, *more: object) -> int:
    return run(command, "--signature", "extract_requirements", "--examples", path, "--source", "manual", *more)


def test_create_makes_a_version_with_its_facts(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.json", *(item(n, source="git" if n % 2 else None) for n in range(12)))
    assert store("create", path, "--notes", "Monthly collection") == 0
    out, err = capsys.readouterr()
    version = out.strip()
    folder = data / "extract_requirements" / version
    metadata = json.loads((folder / "metadata.json").read_text())
    assert metadata["notes"] == "Monthly collection"
    assert metadata["source"] == "manual"
    assert metadata["statistics"]["sources"] == {"git": 6, "manual": 6}
    assert metadata["statistics"]["quality_scores"]["count"] == 12
    rows = json.loads((folder / "dataset.json").read_text())
    assert {row["split"] for row in rows} == {"train", "val", "test"}
    assert "extract_requirements: 12 new of 12\n" in err
    assert f"{version} has 12 examples (" in err
    assert (data / "extract_requirements/latest").readlink() == Path(version)


def test_without_a_command_it_is_create(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.json", item(1))
    assert run("--signature", "extract_requirements", "--examples", path, "--source", "git") == 0
    assert (data / "extract_requirements" / capsys.readouterr().out.strip()).is_dir()


def test_add_grows_the_latest_and_says_what_was_not_new(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "a.json", *map(item, range(6)))
    store("create", path)
    first = capsys.readouterr().out.strip()
    assert store("add", path) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "extract_requirements: 0 new of 6 (refused: 6 duplicate)\n" in err
    assert store("add", write(tmp_path / "b.json", *map(item, range(4, 10)))) == 0
    out, err = capsys.readouterr()
    assert "4 new of 6 (refused: 2 duplicate)" in err
    metadata = json.loads((data / "extract_requirements" / out.strip() / "metadata.json").read_text())
    assert (metadata["parent_version"], metadata["example_count"], metadata["sequence"]) == (first, 10, 2)


def test_the_first_add_makes_the_first_version(data: Path, tmp_path: Path) -> None:
    assert store("add", write(tmp_path / "a.json", item(1))) == 0
    assert json.loads((data / "extract_requirements/latest/metadata.json").read_text())["parent_version"] is None


def test_files_of_other_signatures_are_passed_over_and_malformed_ones_left_out(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write(tmp_path / "validate_intent.json", {"inputs": {}})
    own = write(tmp_path / "own.json", item(1), {**item(2), "outputs": {"requirements": []}})
    command = ["create", "--signature", "extract_requirements", "--source", "git", "--examples", other, own]
    assert run(*command) == 0
    err = capsys.readouterr().err
    assert f"passed over {other}: examples of another signature" in err
    assert "left out 1 malformed example(s), first: outputs." in err
    assert json.loads((data / "extract_requirements/latest/metadata.json").read_text())["example_count"] == 1


def test_examples_come_from_stdin_too(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with write(tmp_path / "stdin", item(1), item(2)).open() as stream:
        monkeypatch.setattr("sys.stdin", stream)
        assert store("create", Path("-")) == 0
    assert "extract_requirements: 2 new of 2" in capsys.readouterr().err
    assert (data / "extract_requirements" / "latest").is_dir()


def test_nothing_to_store_is_1_and_makes_nothing(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.jsonl").touch()
    assert store("create", tmp_path / "empty.jsonl") == 1
    assert "extract_requirements: nothing to store in 1 file(s)" in capsys.readouterr().err
    assert not data.exists()


def test_list_shows_versions_for_people_and_for_machines(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("list", "--signature", "extract_requirements") == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "no versions yet" in err
    store("create", write(tmp_path / "a.json", *(item(n, source="git\x1b[2J") for n in range(8))))
    store("add", write(tmp_path / "b.json", item(20)))
    versions = capsys.readouterr().out.split()
    assert run("list", "--signature", "extract_requirements") == 0
    table = capsys.readouterr().out
    assert [line.split()[0] for line in table.splitlines()] == ["version", *versions]
    assert "\x1b" not in table
    assert run("list", "--signature", "extract_requirements", "--json") == 0
    assert [m["example_count"] for m in json.loads(capsys.readouterr().out)] == [8, 9]
    assert data.is_dir()


def test_load_prints_what_is_stored(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store("create", write(tmp_path / "a.json", *map(item, range(5))))
    version = capsys.readouterr().out.strip()
    for more in ([], ["--version", "latest"], ["--version", version]):
        assert run("load", "--signature", "extract_requirements", *more) == 0
        out, err = capsys.readouterr()
        assert json.loads(out) == json.loads((data / "extract_requirements" / version / "dataset.json").read_text())
        assert f"extract_requirements {version}: 5 examples" in err


def test_what_was_loaded_can_be_stored_again(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store("create", write(tmp_path / "a.json", *map(item, range(5))))
    capsys.readouterr()
    run("load", "--signature", "extract_requirements")
    (tmp_path / "loaded.json").write_text(capsys.readouterr().out)
    assert store("create", tmp_path / "loaded.json") == 0
    again = json.loads((data / "extract_requirements/latest/dataset.json").read_text())
    assert again == json.loads((tmp_path / "loaded.json").read_text())


def test_damage_is_told(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store("create", write(tmp_path / "a.json", item(1)))
    path = data / "extract_requirements" / capsys.readouterr().out.strip() / "dataset.json"
    path.write_text("[]")
    with pytest.raises(DamagedError, match=r"dataset\.json: damaged"):
        run("load", "--signature", "extract_requirements")
    with pytest.raises(DamagedError, match=r"dataset\.json: damaged"):
        store("add", write(tmp_path / "b.json", item(2)))


def test_a_version_that_is_not_there_is_told(data: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=f"no dataset version v1_1 in {data}"):
        run("load", "--signature", "extract_requirements", "--version", "v1_1")
    with pytest.raises(BadInputError, match="no such file or folder"):
        store("create", tmp_path / "none.json")


def test_the_split_can_be_chosen(data: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", *map(item, range(20)))
    assert store("create", path, "--split", "50/20/30") == 0
    metadata = json.loads((data / "extract_requirements/latest/metadata.json").read_text())
    assert metadata["statistics"]["splits"] == {"test": 6, "train": 10, "val": 4}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--split", "50/50"], "expected three percentages above 0 that sum to 100"),
        (["--split", "50/50/0"], "above 0"),
        (["--split", "50/40/20"], "sum to 100"),
        (["--split", "nan/50/50"], "expected three percentages"),
        (["--split", "a/b/c"], "expected three percentages such as 25/25/50"),
        (["--source", ""], "expected a name on one line"),
        (["--source", " git"], "expected a name on one line"),
        (["--source", "g\x1bit"], "holds control, hidden or undecodable characters"),
        (["--source", "\udcff"], "holds control, hidden or undecodable characters"),
        (["--notes", "half \ud800"], "holds control, hidden or undecodable characters"),
    ],
)
def test_flags_out_of_range_are_usage_errors_and_store_nothing(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    path = write(tmp_path / "a.json", item(1))
    with pytest.raises(SystemExit) as caught:
        store("create", path, *flags)
    assert caught.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not data.exists()


def test_no_command_is_usage(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["list"], ["no-such-command"]):
        with pytest.raises(SystemExit) as caught:
            run(*arguments)
        assert caught.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_two_scripts_at_once_both_succeed_with_a_version_each(data: Path, tmp_path: Path) -> None:
    started = []
    for number in range(2):
        path = write(tmp_path / f"{number}.json", *map(item, range(10 * number, 10 * number + 10)))
        command = [sys.executable, str(SCRIPT), "add", "--signature", "extract_requirements", "--examples", str(path)]
        started.append(
            subprocess.Popen([*command, "--source", "git"], env=dict(os.environ), stdout=subprocess.PIPE, text=True)
        )
    versions = {process.communicate(timeout=60)[0].strip() for process in started}
    assert [process.returncode for process in started] == [0, 0]
    assert len(versions) == 2
    assert versions == {p.name for p in (data / "extract_requirements").glob("v*")}
    assert json.loads((data / "extract_requirements/latest/metadata.json").read_text())["example_count"] == 20
