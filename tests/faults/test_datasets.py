"""Death and full disks at every change that a dataset command makes: the old state or the new, never a third."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.faults.injection import STRACE, deaths, fail_at, points
from tests.faults.power import losses

import dataset_manager
from flywheel.data import store
from flywheel.data.archive_file import unpack
from flywheel.data.examples import example_id as id_of
from flywheel.data.registry import all_signatures
from flywheel.data.verification import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [STRACE, pytest.mark.slow]
SCRIPT = Path(dataset_manager.__file__)
SIGNATURE = all_signatures()["extract_requirements"]
NAME = SIGNATURE.name
ELSEWHERE = ("output", "programs", "experiments", "telemetry")


def item(number: int) -> dict[str, Any]:
    text = f"{number} " + " ".join(f"word{number * 31 + n}" for n in range(12))
    return {
        "inputs": {"user_intent": text, "context": ""},
        "outputs": {"requirements": [f"Do {text} well"], "priorities": [5]},
        "metadata": {"difficulty": "easy", "category": "api", "quality_score": 90.0},
    }


class Bench:
    """A folder of datasets with its commands, each in a process of its own or, to prepare, in this one."""

    def __init__(self, root: Path) -> None:
        self.data = root / "data"
        self.batches = root / "batches"
        self.data.mkdir(mode=0o700)
        self.batches.mkdir()

    def batch(self, *numbers: int) -> Path:
        path = self.batches / f"{'-'.join(map(str, numbers))}.json"
        path.write_text(json.dumps([item(number) for number in numbers]))
        return path

    def storing(self, command: str, *numbers: int) -> list[str]:
        where = ["--signature", NAME, "--data-dir", str(self.data)]
        return [command, *where, "--examples", str(self.batch(*numbers)), "--source", "git"]

    def command(self, arguments: list[str]) -> list[str]:
        return [sys.executable, str(SCRIPT), *arguments]

    def state(self) -> dict[str, list[str]]:
        """The examples of every version, oldest first, and of the one that `latest` means; all of it sound."""
        if not (self.data / NAME).is_dir():
            return {}
        flaws = [flaw for _, found in verify(self.data, SIGNATURE) for flaw in found]
        assert not flaws
        kept = {
            str(metadata.sequence): sorted(row["id"] for row in store.load_rows(self.data, NAME, metadata.version)[1])
            for metadata in store.versions(self.data, NAME)
        }
        if not kept:
            return {}
        return {**kept, "latest": sorted(row["id"] for row in store.load_rows(self.data, NAME)[1])}

    def leftovers(self) -> list[str]:
        return [path.name for path in (self.data / NAME).glob(".*") if path.name != ".lock"]


def nothing(bench: Bench) -> None:
    assert bench.state() == {}


def one(bench: Bench) -> None:
    assert dataset_manager.main(bench.storing("create", 1, 2, 3)) == 0


def four(bench: Bench) -> None:
    one(bench)
    for number in range(4, 7):
        assert dataset_manager.main(bench.storing("add", number)) == 0


def archived(bench: Bench) -> None:
    four(bench)
    assert dataset_manager.main(["archive", "--older-than", "0", "--data-dir", str(bench.data)]) == 0


def storing(*arguments: Any) -> Callable[[Bench], list[str]]:
    return lambda bench: bench.storing(*arguments)


def archive(bench: Bench) -> list[str]:
    programs = ["--programs-dir", str(bench.data.parent / "no"), "--experiments-dir", str(bench.data.parent / "no")]
    return ["archive", "--older-than", "0", "--data-dir", str(bench.data), *programs]


def restore(bench: Bench) -> list[str]:
    (path,) = (bench.data / NAME).glob("v*.tar.gz")
    version = path.name.removesuffix(".tar.gz")
    return ["restore", "--signature", NAME, "--data-dir", str(bench.data), "--version", version]


def example_id(number: int) -> str:
    return id_of(NAME, item(number)["inputs"], item(number)["outputs"])


def purge(bench: Bench, *flags: str) -> list[str]:
    nowhere = str(bench.data.parent / "no")
    away = [part for name in ELSEWHERE for part in (f"--{name}-dir", nowhere)]
    where = ["--signature", NAME, "--data-dir", str(bench.data)]
    return ["purge", *where, "--example-id", example_id(2), "--reason", "wrong", *flags, *away]


def retire(bench: Bench) -> list[str]:
    return ["retire-test", "--signature", NAME, "--data-dir", str(bench.data), "--reason", "shown"]


# What the command finds, and the command. Whoever adds one that writes adds a line here.
COMMANDS: dict[str, tuple[Callable[[Bench], None], Callable[[Bench], list[str]]]] = {
    "first": (nothing, storing("create", 1, 2)),
    "create": (one, storing("create", 8, 9)),
    "add": (one, storing("add", 8, 9)),
    "archive": (four, archive),
    "restore": (archived, restore),
    "purge": (four, purge),
    "retire": (one, retire),
}


@pytest.fixture(name="bench")
def bench_fixture(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_death_at_any_change_leaves_the_old_state_or_the_new(bench: Bench, name: str) -> None:
    prepare, arguments = COMMANDS[name]
    prepare(bench)
    old = bench.state()
    seen = []
    for _ in deaths(bench.data, bench.command(arguments(bench))):
        seen.append(bench.state())
        # The next writer clears up, and its version stands on what was the latest.
        assert dataset_manager.main(bench.storing("add", 100)) == 0
        assert bench.leftovers() == []
        after = bench.state()
        assert all(after[key] == rows for key, rows in seen[-1].items() if key != "latest")
        assert set(seen[-1].get("latest", [])) < set(after["latest"])
    new = bench.state()
    assert [state for state in seen if state not in (old, new)] == []
    # Up to its end, death undoes the command; there is one moment from which on it is done.
    assert seen == sorted(seen, key=lambda state: state == new and state != old)


def failures(bench: Bench, command: list[str], error: str) -> Iterator[int]:
    """Yields the exit code with the data as the command leaves it when each of its changes and fsyncs fails."""
    before = bench.data.with_name("before")
    shutil.copytree(bench.data, before, symlinks=True)
    found = [f"{point.name}:error={error}:when={point.number}" for point in points(command, bench.data)]
    assert found
    number = itertools.count(1)
    for injection in itertools.chain(found, (f"fsync:error={error}:when={n}" for n in number)):
        shutil.rmtree(bench.data)
        shutil.copytree(before, bench.data, symlinks=True)
        code, fired = fail_at(injection, command)
        if not fired:
            assert injection.startswith("fsync"), f"{injection} did not strike"
            break
        yield code
    assert next(number) > 3


# The first version's changes are a later one's and a few more; one error is enough there.
REFUSALS = [(name, error) for name in COMMANDS for error in ("ENOSPC", "EIO") if (name, error) != ("first", "ENOSPC")]


@pytest.mark.parametrize(("name", "error"), REFUSALS)
def test_a_disk_that_refuses_any_change_leaves_the_old_state_or_the_new(bench: Bench, name: str, error: str) -> None:
    prepare, arguments = COMMANDS[name]
    prepare(bench)
    ends = []
    for code in failures(bench, bench.command(arguments(bench)), error):
        assert code in {0, 2}
        ends.append((code, bench.state()))
    new = bench.state()
    old = ends[0][1]
    assert old != new or name in {"archive", "restore"}
    for code, state in ends:
        assert state in (old, new)
        # What was acknowledged is there.
        assert code == 2 or state == new


@pytest.mark.parametrize("name", COMMANDS)
def test_a_loss_of_power_leaves_the_old_state_or_the_new(bench: Bench, name: str) -> None:
    prepare, arguments = COMMANDS[name]
    prepare(bench)
    old = bench.state()
    command = bench.command(arguments(bench))
    seen = []
    for data in losses(bench.data, command):
        bench.data = data
        seen.append(bench.state())
        assert dataset_manager.main(bench.storing("add", 100)) == 0
        bench.state()
    # The last one comes after the command's end: what it acknowledged is there.
    new = seen[-1]
    assert new != old or name in {"archive", "restore"}
    assert [state for state in seen if state not in (old, new)] == []


class Erasure:
    """Example 2 in versions, one perhaps archived, in a run's file and its cache; the command that erases it."""

    def __init__(self, bench: Bench, prepare: Callable[[Bench], None]) -> None:
        prepare(bench)
        self.bench = bench
        self.run = bench.data / "runs" / "run_20250101_000000"
        (self.run / "cache").mkdir(parents=True)
        (self.run / "cache" / "blob").write_bytes(b"\x00")
        (self.run / "collected.json").write_text(json.dumps([item(1), item(2)]))
        self.versions = {metadata.version for metadata in store.versions(bench.data, NAME)}

    @property
    def command(self) -> list[str]:
        return [*purge(self.bench, "--erase"), "--output-dir", str(self.bench.data / "runs")]

    def check(self, point: object) -> None:
        """Every version is there to be read, from its folder or its archive; the same command completes the rest."""
        data = self.bench.data
        kept = {m.version: store.load_rows(data, NAME, m.version)[1] for m in store.versions(data, NAME)}
        assert kept.keys() >= self.versions, point
        assert all({example_id(1)} <= {row["id"] for row in rows} for rows in kept.values())
        assert dataset_manager.main(self.command) == 0
        self.bench.state()
        assert self.bench.leftovers() == []
        assert not (data / "runs" / self.run.name / "cache").exists()
        assert b"word62" not in everything(data), point


@pytest.mark.parametrize("prepare", [four, archived])
def test_an_erasure_that_dies_is_completed_by_the_same_command(bench: Bench, prepare: Callable[[Bench], None]) -> None:
    erasure = Erasure(bench, prepare)
    for point in deaths(bench.data, bench.command(erasure.command)):
        erasure.check(point)


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
def test_an_erasure_that_a_disk_refuses_is_completed_by_the_same_command(bench: Bench, error: str) -> None:
    erasure = Erasure(bench, archived)
    for number, code in enumerate(failures(bench, bench.command(erasure.command), error)):
        assert code in {0, 2}
        assert code == 2 or b"word62" not in everything(bench.data)
        erasure.check(number)


@pytest.mark.parametrize("prepare", [four, archived])
def test_an_erasure_that_power_ends_is_completed_by_the_same_command(
    bench: Bench, prepare: Callable[[Bench], None]
) -> None:
    erasure = Erasure(bench, prepare)
    for number, data in enumerate(losses(bench.data, bench.command(erasure.command))):
        bench.data = data
        erasure.check(number)


def everything(folder: Path) -> bytes:
    """All bytes below the folder, archives unpacked."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    packed = [b"".join(unpack(path).values()) for path in found if path.name.endswith(".tar.gz")]
    return b"".join([*packed, *(path.read_bytes() for path in found)])


WRITER = """
import sys
import dataset_manager
command, count, *rest = sys.argv[1:]
for _ in range(int(count)):
    assert dataset_manager.main([command, *rest]) == 0
"""


@pytest.mark.timeout(1200)
def test_eight_writers_of_a_hundred_versions_each_lose_none(bench: Bench) -> None:
    writers = []
    for number in range(8):
        command = [sys.executable, "-c", WRITER, "create", "100", *bench.storing("create", number)[1:]]
        environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parent)}
        writers.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    try:
        ends = [writer.communicate() for writer in writers]
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    assert [writer.returncode for writer in writers] == [0] * 8, ends
    acknowledged = [version for out, _ in ends for version in out.split()]
    assert len(set(acknowledged)) == len(acknowledged) == 800
    stored = store.versions(bench.data, NAME)
    assert {metadata.version for metadata in stored} == set(acknowledged)
    assert [metadata.sequence for metadata in stored] == list(range(1, 801))
    assert store.find(bench.data, NAME).name == stored[-1].version
    assert bench.leftovers() == []
    assert len(bench.state()) == 801
