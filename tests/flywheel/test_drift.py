"""Drift: samples that differ are told apart, samples that do not are not, and correlated calls fool nobody."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from tests.monitored import NOW, ONE, write_dataset

from flywheel.ops.checks import check_all
from flywheel.ops.config import MonitoringConfig
from flywheel.ops.drift import FEWEST_UNITS, Input, input_of, shifts
from flywheel.ops.drift_checks import check_drift
from flywheel.ops.inputs import MOST, Change
from flywheel.ops.observed import Places
from flywheel.ops.reading import observe

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from flywheel.ops.findings import Finding

DAY = timedelta(days=1)
CONFIG = MonitoringConfig(disk_usage_warning_percent=100, disk_usage_critical_percent=100)
BOOKINGS = "clients guests rooms booking invoice cancel refund calendar price tax night season".split()
ROCKETS = "engine thrust orbit nozzle telemetry launch stage fuel cryogenic burn payload fairing".split()


def text(dice: random.Random, words: Sequence[str], length: int) -> str:
    return " ".join(dice.choice(words) for _ in range(length))


def sample(
    seed: int, n: int, words: Sequence[str] = BOOKINGS, length: int = 12, units: int | None = None
) -> list[Input]:
    dice = random.Random(seed)
    return [
        input_of(
            str(i if units is None else i % units), {"q": text(dice, words, dice.randint(length // 2, length * 2))}
        )
        for i in range(n)
    ]


def told(reference: list[Input], current: list[Input], config: MonitoringConfig = CONFIG) -> list[Finding]:
    return list(check_drift([Change(ONE, True, "v1", NOW, reference, current)], config))


def test_what_is_alike_is_no_drift() -> None:
    false = sum(bool(told(sample(seed, 60), sample(1000 + seed, 60))) for seed in range(60))
    assert false <= 2


def test_other_words_and_other_lengths_are_told_apart() -> None:
    (words,) = told(sample(1, 60), sample(2, 60, ROCKETS))
    assert "vocabulary" in words.facts["shifts"]
    (longer,) = told(sample(1, 80), sample(2, 80, length=60))
    assert "length" in longer.facts["shifts"]
    assert longer.facts["shifts"]["length"]["psi"] > 0.25
    assert longer.level == "warning"


def test_one_users_many_calls_are_one_unit() -> None:
    # 400 calls of 4 users that happen to write about one thing each say little about all users.
    reference = sample(1, 100)
    assert told(reference, sample(2, 400, ROCKETS, units=4)) == []
    assert shifts(reference, sample(2, FEWEST_UNITS - 1, ROCKETS), 0.25) == {}


def test_the_psi_is_the_textbooks() -> None:
    # Two bins, 50/50 against 80/20: (0.8 - 0.5) ln(0.8 / 0.5) + (0.2 - 0.5) ln(0.2 / 0.5) = 0.4159.
    def side(short: int, n: int) -> list[Input]:
        return [Input(str(i), 1 if i < short else 9, frozenset(), None) for i in range(n)]

    found = shifts(side(400, 800), side(640, 800), 0.1)
    assert found["length"].psi == pytest.approx(0.4159, abs=0.005)


def test_the_same_data_gives_the_same_answer() -> None:
    first, second = (shifts(sample(1, 60), sample(3, 60, length=18), 0.01) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("value", [None, 3, [], {"a": [{"b": "two words here"}]}, "\ud800 x"])
def test_any_input_is_compared(value: Any) -> None:
    input_of("u", {"q": value})


def test_a_threshold_above_the_shift_silences_it() -> None:
    quiet = CONFIG.model_copy(update={"drift_psi_threshold": 50.0})
    assert told(sample(1, 60), sample(2, 60, ROCKETS), quiet) == []


# From files


def dataset(root: Path, number: int, texts: Sequence[tuple[str, str]], category: str = "api") -> Path:
    folder = write_dataset(root / "data", NOW - (9 - number) * DAY, 80, examples=len(texts), sequence=number)
    rows = [{"id": key, "inputs": {"q": text}, "metadata": {"category": category}} for key, text in texts]
    (folder / "dataset.json").write_text(json.dumps(rows))
    return folder


def record(root: Path, texts: Sequence[str], at: datetime, **changes: Any) -> None:
    (root / "telemetry").mkdir(exist_ok=True)
    rows = [
        {
            "signature": ONE,
            "timestamp_ms": int(at.timestamp() * 1000),
            "input": {"q": text},
            "unit_id": str(n),
            **changes,
        }
        for n, text in enumerate(texts)
    ]
    with (root / "telemetry" / "calls.jsonl").open("a") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)


def places(root: Path) -> Places:
    return Places(root / "runs", root / "experiments", root / "data", root / "programs", root / "telemetry")


def found(root: Path) -> dict[str, Finding]:
    observed = observe(places(root), 7 * DAY)
    return {f.check: f for f in check_all(observed, CONFIG, NOW, NOW) if "drift" in f.check or f.check == "unreadable"}


def written(seed: int, n: int, words: Sequence[str] = BOOKINGS) -> list[tuple[str, str]]:
    dice = random.Random(seed)
    return [(f"{seed}-{i}", text(dice, words, 12)) for i in range(n)]


def test_what_a_version_adds_is_compared_with_what_was_there(tmp_path: Path) -> None:
    old = written(1, 80)
    dataset(tmp_path, 1, old)
    dataset(tmp_path, 2, [*old, *written(2, 60)])
    assert found(tmp_path) == {}
    dataset(tmp_path, 3, [*old, *written(2, 60), *written(3, 50, ROCKETS)])
    drift = found(tmp_path)["dataset_drift"]
    assert (drift.level, drift.title) == ("info", "Dataset Input Drift")
    # 50 are new: the 140 that stayed do not water them down.
    assert drift.facts["compared"] == {"reference": 140, "current": 50}


def test_a_category_that_was_not_there_is_drift(tmp_path: Path) -> None:
    old = written(1, 80)
    dataset(tmp_path, 1, old)
    folder = dataset(tmp_path, 2, [*old, *written(2, 60)])
    rows = json.loads((folder / "dataset.json").read_text())
    for row in rows[80:]:
        row["metadata"]["category"] = "billing"
    (folder / "dataset.json").write_text(json.dumps(rows))
    assert list(found(tmp_path)["dataset_drift"].facts["shifts"]) == ["category"]


def test_production_is_compared_with_the_newest_version(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    dataset(tmp_path, 1, written(1, 80))
    record(tmp_path, [t for _, t in written(5, 80)], now - DAY)
    assert found(tmp_path) == {}
    record(tmp_path, [t for _, t in written(6, MOST, ROCKETS)], now - DAY / 2)
    drift = found(tmp_path)["production_drift"]
    assert (drift.level, drift.title) == ("warning", "Production Input Drift")
    assert drift.facts["compared"]["current"] == MOST


def test_old_calls_and_calls_without_input_and_torn_lines_do_not_count(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    dataset(tmp_path, 1, written(1, 80))
    texts = [t for _, t in written(6, 80, ROCKETS)]
    record(tmp_path, texts, now - 8 * DAY)
    record(tmp_path, texts, now, input={}, sampled=False)
    record(tmp_path, texts, now, signature="another")
    with (tmp_path / "telemetry" / "calls.jsonl").open("a") as stream:
        stream.write('[1]\nnull\n{"signature": 3}\n\x00\n' + '{"signature": "' + ONE)
    assert found(tmp_path) == {}


@pytest.mark.parametrize("content", ["{", "{}", "[1]", '[{"id": 1, "inputs": {}}]', '[{"id": "x", "inputs": []}]'])
def test_a_dataset_that_cannot_be_read_is_told(tmp_path: Path, content: str) -> None:
    dataset(tmp_path, 1, written(1, 30))
    folder = dataset(tmp_path, 2, written(2, 30))
    (folder / "dataset.json").write_text(content)
    assert found(tmp_path)["unreadable"].level == "critical"


def test_an_archived_version_has_nothing_to_compare(tmp_path: Path) -> None:
    (dataset(tmp_path, 1, written(1, 30)) / "dataset.json").unlink()
    dataset(tmp_path, 2, written(2, 30, ROCKETS))
    assert found(tmp_path) == {}
