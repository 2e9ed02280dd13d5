from __future__ import annotations

import grp
import json
import logging
import multiprocessing
import os
import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from flywheel.serving.bucketing import bucket
from flywheel.serving.logfile import LogFile
from flywheel.serving.records import NO_TOKENS, Interaction, parse
from flywheel.serving.telemetry import LARGEST_RECORD, SAMPLING_SALT, Recorder

SCRIPTS = Path(__file__).resolve().parents[2] / "data_collection"
# Nothing is flushed by time in these tests: what is on disk came from flush() or close().
NEVER = 1_000.0


def interaction(**changes: Any) -> Interaction:
    values: dict[str, Any] = {
        "module_name": "sig",
        "module_version": "Baseline",
        "signature": "sig",
        "input": {"question": "why"},
        "output": {"answer": "because"},
        "timestamp_ms": 1,
        "latency_ms": 2.0,
        "tokens": NO_TOKENS,
        "cost_usd": 0.0,
        "model": "m",
        "success": True,
        "error": None,
        "metadata": {"k": "v"},
    }
    return Interaction(**{**values, **changes})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "telemetry"


def recorder(folder: Path, **options: Any) -> Recorder:
    return Recorder(folder, **{"flush_seconds": NEVER, "sample_percent": 100.0, **options})


def records(folder: Path) -> list[Interaction]:
    found = [parse(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_bytes().splitlines()]
    assert all(isinstance(item, Interaction) for item in found)
    return [item for item in found if isinstance(item, Interaction)]


def test_what_is_recorded_is_read_back(folder: Path) -> None:
    mine = recorder(folder)
    mine.record(interaction(unit_id="u", quality_score=0.5))
    mine.close()
    (found,) = records(folder)
    assert (found.input, found.output, found.unit_id, found.sampled) == (
        {"question": "why"},
        {"answer": "because"},
        "u",
        True,
    )
    assert found.metadata.keys() == {"k", "record_id"}
    assert (mine.written, mine.dropped, mine.stripped) == (1, 0, 0)


def test_every_call_leaves_a_record_and_the_sample_keeps_its_payload(folder: Path) -> None:
    mine = recorder(folder, sample_percent=10)
    for number in range(5_000):
        mine.record(interaction(unit_id=f"u{number}"))
    mine.close()
    found = records(folder)
    assert len(found) == 5_000
    assert 400 < sum(bool(item.sampled) for item in found) < 600
    assert all((item.input == {}) == (item.output == {}) == (not item.sampled) for item in found)
    for item in found:
        assert ((bucket(SAMPLING_SALT, item.metadata["record_id"]) or 0) < 1_000) is item.sampled


def test_the_background_thread_writes_by_itself(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = threading.Event()
    append = LogFile.append

    def notice(self: LogFile, lines: bytes) -> None:
        append(self, lines)
        written.set()

    monkeypatch.setattr(LogFile, "append", notice)
    mine = recorder(folder, flush_seconds=0.001)
    mine.record(interaction())
    assert written.wait(30)
    assert len(records(folder)) == 1
    mine.close()


def test_threads_lose_nothing_and_every_id_is_its_own(folder: Path) -> None:
    mine = recorder(folder, flush_seconds=0.001)

    def serve() -> None:
        for _ in range(500):
            mine.record(interaction())

    threads = [threading.Thread(target=serve) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    mine.close()
    found = records(folder)
    assert len(found) == 8_000
    assert len({item.metadata["record_id"] for item in found}) == 8_000


def test_a_full_queue_drops_counts_and_warns_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "flywheel.telemetry")
    mine = recorder(folder, queue_bytes=2_000)
    for _ in range(20):
        mine.record(interaction())
    mine.close()
    assert mine.dropped + mine.written == 20
    assert 0 < mine.written == len(records(folder)) < 20
    assert len(caplog.records) == 1


def test_a_closed_recorder_drops_and_closing_twice_is_fine(folder: Path) -> None:
    mine = recorder(folder)
    mine.close()
    mine.record(interaction())
    mine.close()
    assert (mine.dropped, mine.written) == (1, 0)


def circle() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["self"] = value
    return value


@pytest.mark.parametrize("payload", [{"x": "a" * LARGEST_RECORD}, circle()], ids=["large", "circular"])
def test_a_payload_that_cannot_be_written_costs_the_payload_alone(payload: dict[str, Any], folder: Path) -> None:
    mine = recorder(folder)
    mine.record(interaction(input=payload))
    mine.close()
    (found,) = records(folder)
    assert (found.sampled, found.input, mine.stripped, mine.dropped) == (False, {}, 1, 0)


def test_hostile_text_is_written_all_the_same(folder: Path) -> None:
    mine = recorder(folder)
    mine.record(interaction(unit_id="a\ud800", error="x\ny\u2028\x00", output={"n": 1 << 70}))
    mine.close()
    (found,) = records(folder)
    assert (found.unit_id, found.error) == ("a?", "x\ny\u2028\x00")


def test_what_the_service_changes_later_is_not_recorded(folder: Path) -> None:
    mine = recorder(folder)
    payload = {"question": "why"}
    mine.record(interaction(input=payload))
    payload["question"] = "changed"
    mine.close()
    assert records(folder)[0].input == {"question": "why"}


def test_files_rotate_by_size(folder: Path) -> None:
    mine = recorder(folder, file_bytes=1_000)
    for _ in range(10):
        mine.record(interaction())
        mine.flush()
    mine.close()
    sizes = [path.stat().st_size for path in folder.iterdir()]
    assert len(sizes) > 2
    assert max(sizes) < 2_000
    assert len(records(folder)) == 10


def test_files_rotate_by_day_and_when_removed(folder: Path) -> None:
    today = [datetime(2026, 11, 23, 23, 59, tzinfo=UTC)]
    log = LogFile(folder, "w", 1 << 20, lambda: today[0])
    log.append(b"1\n")
    today[0] = datetime(2026, 11, 24, tzinfo=UTC)
    log.append(b"2\n")
    (folder / "interactions-20261124-w-0002.jsonl").unlink()
    log.append(b"3\n")
    log.close()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "interactions-20261123-w-0001.jsonl": b"1\n",
        "interactions-20261124-w-0003.jsonl": b"3\n",
    }


def test_a_line_torn_by_a_full_disk_does_not_swallow_the_next(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = LogFile(folder, "w", 1 << 20, lambda: datetime(2026, 11, 23, tzinfo=UTC))
    log.append(b'{"a":1}\n')
    write = os.write
    room = [4, 0]

    def full(descriptor: int, content: memoryview) -> int:
        free = room.pop(0)
        if not free:
            raise OSError(28, "No space left on device")
        return write(descriptor, content[:free])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        log.append(b'{"a":2}\n')
    monkeypatch.setattr(os, "write", write)
    log.append(b'{"a":3}\n')
    log.close()
    (path,) = folder.iterdir()
    assert path.read_bytes() == b'{"a":1}\n{"a"\n{"a":3}\n'


def test_a_folder_that_cannot_be_written_costs_records_and_not_the_service(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "flywheel.telemetry")
    (tmp_path / "file").touch()
    mine = recorder(tmp_path / "file")
    for _ in range(3):
        mine.record(interaction())
        mine.flush()
    mine.close()
    assert (mine.dropped, mine.written) == (3, 0)
    assert len(caplog.records) == 1


@pytest.mark.parametrize(("readers", "modes"), [("mine", (0o700, 0o600)), ("group", (0o2770, 0o660))])
def test_modes_follow_the_group_whatever_the_umask(
    readers: str,
    modes: tuple[int, int],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("FLYWHEEL_GROUP", raising=False)
    if readers == "group":
        monkeypatch.setenv("FLYWHEEL_GROUP", grp.getgrgid(os.getegid()).gr_name)
    previous = os.umask(0o027)
    try:
        mine = recorder(folder)
        mine.record(interaction())
        mine.close()
    finally:
        os.umask(previous)
    (path,) = folder.iterdir()
    assert (stat.S_IMODE(folder.stat().st_mode), stat.S_IMODE(path.stat().st_mode)) == modes


def test_the_end_of_the_process_flushes(folder: Path) -> None:
    program = f"""
import sys
sys.path[:0] = [{str(SCRIPTS)!r}, {str(Path(__file__).parent)!r}]
import test_telemetry
test_telemetry.recorder(test_telemetry.Path(sys.argv[1])).record(test_telemetry.interaction())
"""
    subprocess.run([sys.executable, "-c", program, str(folder)], check=True)
    assert len(records(folder)) == 1


def _record_in_child(mine: Recorder) -> None:
    mine.record(interaction(unit_id="child"))
    mine.close()


def test_a_forked_child_writes_its_own_records_to_its_own_file(folder: Path) -> None:
    mine = recorder(folder)
    mine.record(interaction(unit_id="parent"))
    child = multiprocessing.get_context("fork").Process(target=_record_in_child, args=(mine,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)
        child.start()
    child.join()
    mine.close()
    assert child.exitcode == 0
    assert sorted(item.unit_id or "" for item in records(folder)) == ["child", "parent"]
    assert len(list(folder.iterdir())) == 2
    assert len({item.metadata["record_id"] for item in records(folder)}) == 2


def test_the_default_folder_is_the_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELEMETRY_DIR", str(tmp_path / "elsewhere"))
    mine = Recorder()
    mine.record(interaction())
    mine.close()
    assert len(records(tmp_path / "elsewhere")) == 1


def test_keys_are_the_contracts(folder: Path) -> None:
    mine = recorder(folder)
    mine.record(interaction())
    mine.close()
    (path,) = folder.iterdir()
    assert list(json.loads(path.read_text())) == [
        "module_name",
        "module_version",
        "signature",
        "input",
        "output",
        "timestamp_ms",
        "latency_ms",
        "tokens",
        "cost_usd",
        "model",
        "success",
        "error",
        "metadata",
        "experiment_id",
        "variant",
        "unit_id",
        "quality_score",
        "sampled",
    ]
