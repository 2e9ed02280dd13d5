"""splits.jsonl: what was assigned is read again, a torn line is not, a contradiction is damage."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel.base.errors import DamagedError
from flywheel.data import split_file

if TYPE_CHECKING:
    from pathlib import Path

NAME = "extract_requirements"
MOMENT = datetime(2025, 11, 4, 12, 0, tzinfo=UTC)


@given(st.dictionaries(st.text(min_size=1), st.sampled_from(["train", "val", "test"]), max_size=6))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
def test_splits_round_trip(tmp_path: Path, chosen: dict[str, str]) -> None:
    (tmp_path / NAME).mkdir(exist_ok=True)
    (tmp_path / NAME / "splits.jsonl").unlink(missing_ok=True)
    halves = dict(list(chosen.items())[:3]), dict(list(chosen.items())[3:])
    for half in halves:
        split_file.append_splits(tmp_path, NAME, half, MOMENT)
    assert split_file.read_splits(tmp_path, NAME) == chosen


@pytest.mark.parametrize(
    "torn", ['{"group": "c", "spl', '{"group": "c", "split": "test", "assigned_at": "x"}', "\ufeff"]
)
def test_a_torn_last_line_is_no_assignment_and_is_cut_off_by_the_next_append(tmp_path: Path, torn: str) -> None:
    (tmp_path / NAME).mkdir()
    split_file.append_splits(tmp_path, NAME, {"a": "train"}, MOMENT)
    path = tmp_path / NAME / "splits.jsonl"
    path.write_text(path.read_text() + torn)
    assert split_file.read_splits(tmp_path, NAME) == {"a": "train"}
    split_file.append_splits(tmp_path, NAME, {"b": "val"}, MOMENT)
    assert split_file.read_splits(tmp_path, NAME) == {"a": "train", "b": "val"}
    assert len(path.read_text().splitlines()) == 2


def test_no_file_no_splits_and_nothing_chosen_makes_none(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    assert split_file.read_splits(tmp_path, NAME) == {}
    split_file.append_splits(tmp_path, NAME, {}, MOMENT)
    assert not (tmp_path / NAME / "splits.jsonl").exists()


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "5",
        "[]",
        "null",
        '{"group": "b"}',
        '{"group": 5, "split": "val"}',
        '{"group": "b", "split": "holdout"}',
        "",
    ],
)
def test_a_line_that_is_no_assignment_is_damage_with_its_place(tmp_path: Path, line: str) -> None:
    (tmp_path / NAME).mkdir()
    path = tmp_path / NAME / "splits.jsonl"
    path.write_text(f'{{"group": "a", "split": "train"}}\n{line}\n')
    with pytest.raises(DamagedError, match=r"splits\.jsonl, line 2: expected"):
        split_file.read_splits(tmp_path, NAME)


def test_a_group_assigned_twice_is_damage_unless_both_agree(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    path = tmp_path / NAME / "splits.jsonl"
    path.write_text('{"group": "a", "split": "train"}\n' * 2)
    assert split_file.read_splits(tmp_path, NAME) == {"a": "train"}
    path.write_text(path.read_text() + '{"group": "a", "split": "test"}\n')
    with pytest.raises(DamagedError, match=r"line 3: a was assigned to train before; a split never changes"):
        split_file.read_splits(tmp_path, NAME)
