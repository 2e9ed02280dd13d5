from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from flywheel.base.errors import DamagedError
from flywheel.serving import tail as tail_module
from flywheel.serving.exposure import LONGEST_UNIT, MOST_UNITS, Exposure
from flywheel.serving.records import NO_TOKENS, Interaction
from flywheel.serving.samples import RECORD, is_timeout, samples
from flywheel.serving.telemetry import Recorder
from flywheel.serving.window import FUTURE_MS, HORIZON_MS, RECENT_KEYS, SETTLING_MS, Batch, Span, Window

START = 1_700_000_000_000
NOW = START + 3_600_000
SPANS = {"exp": Span(START, START)}


def row(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "module_name": "sig",
        "module_version": "Baseline",
        "signature": "sig",
        "input": {},
        "output": {},
        "timestamp_ms": START + SETTLING_MS + number,
        "latency_ms": 100.5 + number,
        "tokens": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2},
        "cost_usd": 0,
        "model": "m",
        "success": True,
        "error": None,
        "metadata": {"record_id": f"w-{number}"},
        "experiment_id": "exp",
        "variant": "candidate" if number % 4 == 0 else "baseline",
        "unit_id": f"u{number}",
        "quality_score": None,
        **changes,
    }


def lines(*rows: Any) -> bytes:
    return b"".join(item if isinstance(item, bytes) else json.dumps(item).encode() + b"\n" for item in rows)


def append(path: Path, *rows: Any) -> None:
    with path.open("ab") as stream:
        stream.write(lines(*rows))


def ticked(window: Window, now_ms: int = NOW, spans: dict[str, Span] | None = None) -> list[Batch]:
    return list(window.tick(SPANS if spans is None else spans, now_ms))


def latencies(batches: list[Batch]) -> list[float]:
    return sorted(sample[3] for batch in batches for sample in batch.samples)


def numbers(*found: int) -> list[float]:
    return sorted(100.5 + number for number in found)


def resumed(window: Window, folder: Path) -> Window:
    """As another process would go on: from the checkpoint after a trip through JSON."""
    return Window(folder, json.loads(json.dumps(window.checkpoint())))


def outcomes(window: Window) -> dict[str, int]:
    return {name: count for name, count in window.counts.items() if count}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.jsonl"


def test_a_batch_says_what_decisions_need(path: Path) -> None:
    append(
        path,
        row(1, quality_score=0.5),
        row(2, success=False, error="ValueError", latency_ms=1),
        row(3, success=False, error="ReadTimeout", latency_ms=9_000, quality_score=1),
        row(4),
    )
    candidate, baseline = sorted(ticked(Window(path.parent)), key=lambda batch: batch.calls)
    assert (candidate.experiment_id, candidate.variant, candidate.calls) == ("exp", "candidate", 1)
    assert (baseline.calls, baseline.errors, baseline.quality_scores) == (3, 2, [0.5, 1])
    assert baseline.latencies_ms == [101.5, 9_000]
    assert baseline.timestamps_ms == [START + SETTLING_MS + number for number in (1, 2, 3)]
    assert baseline.since(START + SETTLING_MS + 2).calls == 2


@pytest.mark.parametrize(
    ("error", "expected"), [("TimeoutError", True), ("it timed out", True), ("ValueError", False), (None, False)]
)
def test_timeouts_have_a_latency(error: str | None, expected: object) -> None:
    assert is_timeout(error) is expected


def test_only_what_is_new_is_read(path: Path) -> None:
    window = Window(path.parent)
    assert ticked(window) == []
    append(path, row(1))
    assert latencies(ticked(window)) == numbers(1)
    assert ticked(window) == []
    append(path, row(2), row(3))
    (path.parent / "b.jsonl").write_bytes(lines(row(4)))
    window = resumed(window, path.parent)
    assert latencies(ticked(window)) == numbers(2, 3, 4)
    assert outcomes(window) == {"counted": 4}


def test_a_folder_that_is_missing_is_empty(tmp_path: Path) -> None:
    assert ticked(Window(tmp_path / "missing")) == []


def test_a_torn_last_line_waits(path: Path) -> None:
    window = Window(path.parent)
    whole = lines(row(1), row(2))
    for cut in (0, 1, len(whole) // 2 - 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(b"")
        append(path, whole[:cut])
        found = ticked(window)
        append(path, whole[cut:])
        found += ticked(resumed(window, path.parent))
        assert latencies(found) == numbers(1, 2), cut
        window = Window(path.parent)
        path.unlink()


def test_every_line_that_is_no_evidence_is_counted_for_what_it_is(path: Path) -> None:
    append(
        path,
        row(1),
        b"{torn\n",
        b"\n",
        b"5\n",
        row(2, experiment_id=None),
        row(3, variant=None),
        {key: value for key, value in row(4).items() if key not in {"experiment_id", "variant"}},
        row(5, experiment_id="another"),
        row(6, success="yes"),
        row(7, latency_ms=-1),
        row(8, quality_score=2),
        {key: value for key, value in row(9).items() if key != "metadata"},
        row(10, timestamp_ms=START - 1),
        row(11, timestamp_ms=NOW + FUTURE_MS + 1),
        row(1),
        row(12),
    )
    window = Window(path.parent)
    assert latencies(ticked(window)) == numbers(1, 12)
    assert outcomes(window) == {
        "counted": 2,
        "garbled": 1,
        "unattributed": 3,
        "other_experiment": 1,
        "invalid": 5,
        "late": 1,
        "future": 1,
        "duplicate": 1,
    }


def test_what_is_older_than_the_horizon_is_late(path: Path) -> None:
    append(path, row(1), row(2, timestamp_ms=START + HORIZON_MS))
    window = Window(path.parent)
    assert latencies(ticked(window, START + HORIZON_MS + FUTURE_MS)) == numbers(2)
    assert window.counts["late"] == 1


def test_the_edges_of_time_are_evidence(path: Path) -> None:
    append(path, row(1, timestamp_ms=START), row(2, timestamp_ms=NOW + FUTURE_MS))
    assert latencies(ticked(Window(path.parent))) == numbers(1, 2)


def test_keys_that_the_rust_adapter_leaves_out_are_no_fault(path: Path) -> None:
    bare = {key: value for key, value in row(1).items() if key not in {"unit_id", "quality_score"}}
    append(path, bare, row(2))
    window = Window(path.parent)
    assert latencies(ticked(window)) == numbers(1, 2)
    assert outcomes(window) == {"counted": 2}


WITHOUT_ID: dict[str, Any] = {"metadata": {}}


def test_duplicates_are_told_by_record_id_else_by_unit_time_and_variant(path: Path) -> None:
    append(
        path,
        row(1),
        row(2, **WITHOUT_ID),
        row(3, **WITHOUT_ID, unit_id=None),
        row(4, metadata={"record_id": "x" * 500}),
    )
    window = Window(path.parent)
    ticked(window)
    window = resumed(window, path.parent)
    append(path, row(1, latency_ms=7), row(2, **WITHOUT_ID, latency_ms=7), row(4, metadata={"record_id": "x" * 500}))
    append(path, row(2, **WITHOUT_ID, variant="candidate"), row(3, **WITHOUT_ID, unit_id=None))
    assert len(latencies(ticked(window))) == 2
    assert window.counts["duplicate"] == 3


def test_duplicates_are_found_within_a_bounded_window(path: Path) -> None:
    append(path, *(row(number) for number in range(RECENT_KEYS * 4)))
    window = Window(path.parent)
    ticked(window)
    append(path, row(RECENT_KEYS * 4 - 1), row(RECENT_KEYS * 3 + 10))
    ticked(window)
    assert window.counts["duplicate"] == 2
    assert len(window.checkpoint()["recent"]) <= RECENT_KEYS
    assert len(window._recent) + len(window._older) <= RECENT_KEYS * 3


def test_rotation_by_rename_neither_loses_nor_repeats(path: Path) -> None:
    window = Window(path.parent)
    append(path, row(1))
    ticked(window)
    append(path, row(2))
    path.rename(path.with_name("a-20261123.jsonl"))
    append(path, row(3))
    window = resumed(window, path.parent)
    assert latencies(ticked(window)) == numbers(2, 3)
    assert outcomes(window) == {"counted": 3}


@pytest.mark.parametrize("name", ["0-copy.jsonl", "z-copy.jsonl"])
def test_copy_and_truncate_neither_loses_nor_repeats(name: str, path: Path) -> None:
    window = Window(path.parent)
    append(path, *(row(number) for number in range(50)))
    ticked(window)
    append(path, row(50))
    shutil.copy(path, path.with_name(name))
    os.truncate(path, 0)
    append(path, row(51))
    window = resumed(window, path.parent)
    assert latencies(ticked(window)) == numbers(50, 51)
    assert (window.counts["duplicate"], window.file_counts["copied"], window.file_counts["truncated"]) == (0, 1, 1)


def test_a_reading_that_an_older_version_began_goes_on(path: Path) -> None:
    window = Window(path.parent)
    append(path, *(row(number) for number in range(RECENT_KEYS * 3)))
    ticked(window)
    checkpoint, content = json.loads(json.dumps(window.checkpoint())), path.read_bytes()
    (position,) = checkpoint["tail"]["positions"]
    for name, end in (("head", position["head_size"]), ("mark", position["offset"])):
        part = content[end - position[f"{name}_size"] : end]
        position[name] = blake2b(part, digest_size=8).hexdigest()
    shutil.copy(path, path.with_name("copy.jsonl"))
    append(path, row(99_999))
    window = Window(path.parent, checkpoint)
    assert latencies(ticked(window)) == numbers(99_999)
    assert (window.file_counts["copied"], window.file_counts["replaced"]) == (0, 0), "the copy has nothing more"
    path.with_name("copy.jsonl").unlink()
    path.write_bytes(content[:-50] + b" " * 50 + lines(row(1)))
    window = Window(path.parent, checkpoint)
    ticked(window)
    assert window.file_counts["replaced"] == 1


def test_a_copy_met_after_its_original_was_truncated_is_known(path: Path) -> None:
    window = Window(path.parent)
    append(path, *(row(number) for number in range(RECENT_KEYS * 3)))
    ticked(window)
    aside = path.with_name("aside")
    shutil.copy(path, aside)
    os.truncate(path, 0)
    assert ticked(window) == []
    aside.rename(path.with_name("back.jsonl"))
    assert ticked(resumed(window, path.parent)) == []


def test_a_backup_beside_its_original_is_not_counted_again(path: Path) -> None:
    append(path, *(row(number) for number in range(RECENT_KEYS * 3)))
    shutil.copy(path, path.with_name("b.jsonl"))
    shutil.copy(path, path.with_name("0.jsonl"))
    window = Window(path.parent)
    assert len(latencies(ticked(window))) == RECENT_KEYS * 3
    assert window.counts["duplicate"] == 0


def test_a_shorter_copy_waits_until_it_has_something_new(path: Path) -> None:
    window = Window(path.parent)
    append(path, *(row(number) for number in range(RECENT_KEYS * 6)))
    ticked(window)
    whole = path.read_bytes()
    copy = path.with_name("copy.jsonl")
    copy.write_bytes(whole[: len(whole) // 2])
    assert ticked(window) == []
    copy.write_bytes(whole + lines(row(99_999)))
    assert latencies(ticked(window)) == numbers(99_999)


def test_files_that_begin_alike_are_not_taken_for_copies(path: Path) -> None:
    prompt = {"input": {"context": "the same long prompt " * 200}}
    append(path, *({**prompt, **row(number, input=prompt)} for number in range(3)))
    window = Window(path.parent)
    ticked(window)
    append(path.with_name("b.jsonl"), *({**prompt, **row(number, input=prompt)} for number in range(3, 9)))
    assert latencies(ticked(window)) == numbers(*range(3, 9))


def test_a_file_truncated_and_grown_beyond_what_was_read_is_read_anew(path: Path) -> None:
    window = Window(path.parent)
    append(path, row(1), row(2))
    ticked(window)
    path.write_bytes(lines(*(row(number) for number in range(3, 30))))
    window = resumed(window, path.parent)
    assert latencies(ticked(window)) == numbers(*range(3, 30))
    assert window.file_counts["replaced"] == 1


def test_a_removed_file_is_forgotten(path: Path) -> None:
    window = Window(path.parent)
    append(path, row(1))
    ticked(window)
    path.unlink()
    assert ticked(window) == []
    assert window.checkpoint()["tail"]["positions"] == []


def test_links_folders_and_other_names_are_left_alone(path: Path) -> None:
    append(path.with_name("outside"), row(1))
    path.symlink_to(path.with_name("outside"))
    path.with_name("folder.jsonl").mkdir()
    os.mkfifo(path.with_name("pipe.jsonl"))
    append(path.with_name(".hidden.jsonl"), row(2))
    window = Window(path.parent)
    assert ticked(window) == []
    assert window.file_counts["unreadable"] == 0


def test_a_file_that_cannot_be_opened_is_counted_and_tried_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append(path, row(1))
    window = Window(path.parent)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
        assert ticked(window) == []
    assert window.file_counts["unreadable"] == 1
    assert latencies(ticked(window)) == numbers(1)


def test_an_overlong_line_is_skipped_in_bounded_memory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail_module, "LONGEST_LINE", 100_000)
    window = Window(path.parent)
    append(path, row(1), b"x" * 300_000)
    found = ticked(window)
    window = resumed(window, path.parent)
    append(path, b"y" * 50_000)
    found += ticked(window)
    append(path, b"\n", row(2))
    found += ticked(window)
    assert latencies(found) == numbers(1, 2)
    assert window.file_counts["overlong"] == 1


def test_two_experiments_are_told_apart(path: Path) -> None:
    append(path, row(1), row(2, experiment_id="other"), row(3))
    spans = {**SPANS, "other": Span(START, START)}
    window = Window(path.parent)
    found = {batch.experiment_id: latencies([batch]) for batch in ticked(window, spans=spans)}
    assert found == {"exp": numbers(1, 3), "other": numbers(2)}


def test_a_unit_in_two_variants_is_noticed(path: Path) -> None:
    window = Window(path.parent)
    append(path, row(1, unit_id="same"), row(2, unit_id="steady"), row(3, unit_id=None))
    ticked(window)
    window = resumed(window, path.parent)
    append(path, row(4, unit_id="same"), row(5, unit_id="steady"), row(8, unit_id=None))
    ticked(window)
    assert window.multiple_exposures("exp") == (1, 2)
    assert window.multiple_exposures("unknown") == (0, 0)


def test_a_unit_that_a_larger_share_moves_is_no_multiple_exposure(path: Path) -> None:
    window = Window(path.parent)
    append(path, row(1, unit_id="moved"))
    ticked(window)
    raised = START + 1_000_000
    spans = {"exp": Span(START, raised)}
    append(path, row(2, unit_id="moved", timestamp_ms=raised + SETTLING_MS - 1))
    append(path, row(4, unit_id="moved", timestamp_ms=raised + SETTLING_MS))
    ticked(window, spans=spans)
    assert window.multiple_exposures("exp") == (0, 1)


def test_watching_units_is_bounded(path: Path) -> None:
    append(path, *(row(number) for number in range(MOST_UNITS + 1_000)), row(90_000, unit_id="u" * 10_000))
    window = Window(path.parent)
    ticked(window)
    (crossed, watched), drawn = window.multiple_exposures("exp"), drawn_by(window)
    assert crossed == 0
    # Up to the end of a chunk, of every variant alike: which of them is read first within it does not matter.
    assert MOST_UNITS <= watched == sum(drawn.values()) < MOST_UNITS + 500
    assert drawn["candidate"] == pytest.approx(watched / 4, abs=2)
    window = resumed(window, path.parent)
    append(path, *(row(number) for number in range(100_000, 100_100)), row(100_100, unit_id="u1", variant="candidate"))
    append(path, row(100_101, unit_id=None))
    ticked(window)
    assert window.multiple_exposures("exp") == (1, watched)
    assert drawn_by(window) == {**drawn, "baseline": drawn["baseline"] + 1}


def drawn_by(window: Window) -> dict[str, int]:
    return {variant: window.drawn("exp", variant) for variant in ("candidate", "baseline")}


def test_a_unit_is_drawn_once_and_a_call_without_one_for_itself(path: Path) -> None:
    settled = START + SETTLING_MS
    append(
        path,
        row(1, unit_id="early", timestamp_ms=settled - 1),
        *(row(number, unit_id="busy") for number in (1, 2, 3)),
        row(4, unit_id="other"),
        row(5, unit_id=None),
        row(6, unit_id=None),
        row(7, unit_id="é" * 1_000),
    )
    window = Window(path.parent)
    ticked(window)
    assert drawn_by(window) == {"candidate": 1, "baseline": 4}
    append(path, row(8, unit_id="early"), row(9, unit_id="busy"), row(10, unit_id="é" * 1_000))
    append(path, row(12, unit_id="busy"))
    window = resumed(window, path.parent)
    ticked(window)
    assert drawn_by(window) == {"candidate": 2, "baseline": 4}
    assert window.multiple_exposures("exp") == (1, 4)
    assert window.drawn("unknown", "candidate") == 0


UNITS = ("", "u", "a\nb", "\n", "\0", "ü" * LONGEST_UNIT, "x" * LONGEST_UNIT + "y")


@settings(max_examples=30)
@given(
    calls=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 3)), max_size=200),
    cuts=st.lists(st.integers(0, 200), max_size=5),
    names=st.permutations(["baseline", "candidate", "candidate_2"]),
)
def test_what_is_drawn_are_distinct_units_however_calls_are_cut_into_chunks(
    calls: list[tuple[int, int]], cuts: list[int], names: list[str]
) -> None:
    """With routing that is sticky; in any order of variants."""
    exposure = Exposure(START)
    for start, stop in pairwise([0, *sorted(cuts), len(calls)]):
        chunk: dict[str, list[str | None]] = {name: [] for name in names}
        for unit, times in calls[start:stop]:
            chunk[names[unit % 3]] += [UNITS[unit % len(UNITS)] + str(unit // len(UNITS) or "")] * times
        exposure.add(chunk)
        exposure = Exposure.from_object(json.loads(json.dumps(exposure.to_object())))
    expected = Counter(names[unit % 3] for unit in {unit for unit, _ in calls})
    assert {name: count for name, count in exposure.drawn.items() if count} == expected
    assert (exposure.crossed, exposure.watched) == (set(), expected.total())


def test_variants_that_nobody_drew_are_bounded() -> None:
    exposure = Exposure(START)
    exposure.add({f"v{number}": [f"u{number}"] for number in range(100)})
    assert len(exposure.drawn) == len(exposure.met) == 16


@pytest.mark.parametrize("exposure", [{}, {"stage_ms": START, "met": {}, "drawn": {"baseline": 1.5}, "crossed": []}])
def test_a_damaged_exposure_is_refused(exposure: Any, tmp_path: Path) -> None:
    checkpoint = {**Window(tmp_path).checkpoint(), "exposures": {"exp": exposure}}
    with pytest.raises(DamagedError, match="checkpoint"):
        Window(tmp_path, checkpoint)


@pytest.mark.parametrize("checkpoint", [{}, {"schema_version": 1}, {"schema_version": 2, "counts": 5}, []])
def test_a_damaged_checkpoint_is_refused(checkpoint: Any, tmp_path: Path) -> None:
    with pytest.raises(DamagedError, match="checkpoint"):
        Window(tmp_path, checkpoint)


@pytest.mark.parametrize("tail", [{}, {"positions": [{}], "retired": [], "counts": {}}, {"positions": 5}])
def test_a_damaged_tail_is_refused(tail: Any, tmp_path: Path) -> None:
    checkpoint = {**Window(tmp_path).checkpoint(), "tail": tail}
    with pytest.raises(DamagedError, match="checkpoint"):
        Window(tmp_path, checkpoint)


def test_what_a_recorder_writes_is_evidence(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "telemetry", flush_seconds=1_000)
    for number in range(200):
        body = {key: value for key, value in row(number, metadata={}).items() if key != "tokens"}
        recorder.record(Interaction(tokens=NO_TOKENS, **body))
    recorder.close()
    window = Window(tmp_path / "telemetry")
    assert latencies(ticked(window)) == numbers(*range(200))
    assert outcomes(window) == {"counted": 200}


ODD: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        True,
        -1,
        0,
        0.5,
        1.0,
        2,
        1e13,
        2**63,
        2**64,
        "x",
        "",
        "\ud800",
        [],
        {},
        {"record_id": 5},
        {"record_id": None},
    ]
)
FIELDS = st.sampled_from([*row(0)])
ABSENT = st.sets(FIELDS, max_size=1)
WHOLE = json.dumps(row(7)).encode()
RAW = st.sampled_from(
    [
        *(
            WHOLE[:40],
            WHOLE[-40:],
            WHOLE[:40] + WHOLE,
            WHOLE + WHOLE,
            b"",
            b"  ",
            b"null",
            b"5",
            b"[]",
            b"{}",
            b"[",
            b"]",
        ),
        WHOLE.replace(b'"latency_ms": 107.5', b'"latency_ms": 107.5, "latency_ms": 8'),
        WHOLE.replace(b'"latency_ms": 107.5', b'"latency_ms": NaN'),
        WHOLE.replace(b'"latency_ms": 107.5', b'"latency_ms": 1e400'),
        *(
            WHOLE[:-1] + b', "more": ' + more + b"}"
            for more in (b'"\xff"', b'"\xc3\xa4"', b"01", b"tru", b"[" * 2_000, b"{}")
        ),
    ]
)


@settings(deadline=None)
@example([WHOLE[:19], WHOLE[19:]])
@example([WHOLE[:-1] + b', "more": "\xff"}', b"{"])
@given(st.lists(st.tuples(st.dictionaries(FIELDS, ODD, max_size=1), ABSENT) | RAW, max_size=8))
def test_a_chunk_is_judged_as_its_lines_are(drawn: list[Any]) -> None:
    lines = []
    for number, item in enumerate(drawn):
        if isinstance(item, bytes):
            lines.append(item)
        else:
            change, absent = item
            body = {name: value for name, value in row(number, **change).items() if name not in absent}
            lines.append(json.dumps(body).encode())
    together, counts = samples(b"".join(line + b"\n" for line in lines))
    singly = [samples(line + b"\n") for line in lines]
    assert list(together.samples) == [sample for table, _ in singly for sample in table.samples]
    assert len(together.columns) == RECORD + 1
    totals: Counter[str] = Counter()
    for _, odd in singly:
        totals.update(odd)
    assert +Counter(counts) == +totals
    blank = sum(not line.strip() for line in lines)
    assert len(together.samples) + totals.total() + blank == len(lines)


def test_a_clean_line_is_judged_as_beside_one_that_is_none() -> None:
    """Alone it is parsed and checked in one go, beside a torn one by the rules in Python."""
    for change in (
        {},
        {"quality_score": 1},
        {"latency_ms": 0.5},
        {"experiment_id": None},
        {"extra": ["\u00e4", 1e300]},
    ):
        line = json.dumps(row(3, **change), ensure_ascii=False).encode() + b"\n"
        alone, counts = samples(line)
        beside, others = samples(line + b"{\n")
        assert beside == alone
        assert +Counter(others) == Counter(counts) + Counter(garbled=1)


class Rotations(RuleBasedStateMachine):
    """Any order of writing, tearing, rotating and reading counts every record once."""

    def __init__(self) -> None:
        super().__init__()
        self.scratch = tempfile.TemporaryDirectory()
        self.folder = Path(self.scratch.name)
        self.path = self.folder / "live.jsonl"
        self.window = Window(self.folder)
        self.written = 0
        self.rest = b""
        self.serial = 0
        self.found: Counter[float] = Counter()

    def write(self, content: bytes) -> None:
        with self.path.open("ab") as stream:
            stream.write(content)

    @rule(count=st.integers(1, 40))
    def append(self, count: int) -> None:
        rows = [row(number) for number in range(self.written, self.written + count)]
        self.written += count
        self.write(self.rest + lines(*rows))
        self.rest = b""

    @rule(share=st.floats(0.01, 0.99))
    def tear(self, share: float) -> None:
        content = self.rest + lines(row(self.written))
        self.written += 1
        cut = int(len(content) * share)
        self.write(content[:cut])
        self.rest = content[cut:]

    @rule()
    def rename(self) -> None:
        if self.path.exists() and not self.rest:
            self.serial += 1
            self.path.rename(self.folder / f"old-{self.serial}.jsonl")

    @rule(name=st.sampled_from(["a", "z"]))
    def copy_and_truncate(self, name: str) -> None:
        if self.path.exists() and not self.rest:
            self.serial += 1
            shutil.copy(self.path, self.folder / f"{name}-{self.serial}.jsonl")
            os.truncate(self.path, 0)

    @rule()
    def read(self) -> None:
        for batch in self.window.tick(SPANS, NOW):
            self.found.update(sample[3] for sample in batch.samples)

    @rule()
    def restart(self) -> None:
        self.window = resumed(self.window, self.folder)

    @invariant()
    def nothing_counts_twice(self) -> None:
        assert not self.found or max(self.found.values()) == 1
        assert self.window.counts["garbled"] == self.window.counts["invalid"] == 0

    def teardown(self) -> None:
        self.write(self.rest)
        self.read()
        assert sorted(self.found) == numbers(*range(self.written))
        self.scratch.cleanup()


TestRotations = Rotations.TestCase
TestRotations.settings = settings(
    max_examples=40, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
