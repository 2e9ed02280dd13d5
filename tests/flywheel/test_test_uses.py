"""The test split decides four times, then it retires into train; nothing ever moves the other way."""

from __future__ import annotations

import multiprocessing
import random
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.base.errors import BadInputError, DamagedError
from flywheel.data import store
from flywheel.data.additions import Added, add_examples
from flywheel.data.examples import Example, Metadata
from flywheel.data.publishing import Batch, writer_lock
from flywheel.data.registry import all_signatures
from flywheel.data.split_file import read_splits
from flywheel.data.test_uses import FAMILY_ALPHA, MOST_USES, alpha_for, generation, record_use, reveal, settle

SIGNATURE = all_signatures()["extract_requirements"]
NAME = SIGNATURE.name
MOMENT = datetime(2025, 11, 4, 12, 0, tzinfo=UTC)
BATCH = Batch("git", "", MOMENT)


def example(number: int) -> Example:
    words = " ".join(f"w{random.Random(number * 1000 + n).randint(0, 10**6)}" for n in range(20))
    return Example(
        inputs={"user_intent": words, "context": ""},
        outputs={"requirements": ["Do it"], "priorities": [5]},
        metadata=Metadata(source="git", difficulty="easy", category="api", quality_score=90.0),
    )


def add(root: Path, *numbers: int) -> Added:
    return add_examples(root, SIGNATURE, [example(n) for n in numbers], BATCH, onto_latest=True)


def splits(root: Path) -> dict[str | None, str | None]:
    return {e.id: e.split for e in store.load(root, NAME)[1]}


def use(root: Path, run: str) -> float:
    return record_use(root, NAME, run, "v20251104_120000", MOMENT)


def test_a_generation_decides_four_times_at_a_quarter_of_the_error_rate(tmp_path: Path) -> None:
    add(tmp_path, *range(20))
    assert alpha_for(tmp_path, NAME) == FAMILY_ALPHA / 4
    assert [use(tmp_path, f"run_{n}") for n in range(4)] == [0.0125] * 4
    with pytest.raises(BadInputError, match=r"has decided 4 times .*`dataset_manager.py add` retires it"):
        use(tmp_path, "run_4")
    with pytest.raises(BadInputError, match="has decided 4 times"):
        alpha_for(tmp_path, NAME)
    assert use(tmp_path, "run_2") == 0.0125  # the same run, repeated after a crash
    assert generation(tmp_path, NAME).runs == ("run_0", "run_1", "run_2", "run_3")


def test_a_spent_generation_retires_into_train_and_fresh_groups_form_the_next(tmp_path: Path) -> None:
    add(tmp_path, *range(20))
    before = splits(tmp_path)
    for n in range(MOST_USES):
        use(tmp_path, f"run_{n}")
    assert splits(tmp_path) == before
    assert add(tmp_path).metadata is not None  # nothing new, yet a version, since splits moved
    after = splits(tmp_path)
    assert after == {key: "train" if split == "test" else split for key, split in before.items()}
    assert generation(tmp_path, NAME).number == 2
    add(tmp_path, *range(20, 40))
    grown = splits(tmp_path)
    assert after.items() <= grown.items()
    assert [split for key, split in grown.items() if key not in after].count("test") >= 15
    assert use(tmp_path, "run_5") == 0.0125
    assert store.load(tmp_path, NAME, "v20251104_120000")[1][0].split in before.values()


def test_whoever_looks_spends_it(tmp_path: Path) -> None:
    add(tmp_path, *range(12))
    reveal(tmp_path, NAME, "an operator looked", MOMENT)
    reveal(tmp_path, NAME, "again", MOMENT)
    with pytest.raises(BadInputError, match="or was revealed"):
        use(tmp_path, "run_1")
    add(tmp_path)
    assert "test" not in splits(tmp_path).values()
    assert "revealed: an operator looked" in (tmp_path / NAME / "test_uses.jsonl").read_text()
    assert generation(tmp_path, NAME).number == 2


def test_a_retirement_that_was_cut_off_is_completed_by_the_next(tmp_path: Path) -> None:
    add(tmp_path, *range(12))
    reveal(tmp_path, NAME, "x", MOMENT)
    path = tmp_path / NAME / "splits.jsonl"
    whole = path.read_bytes()
    with writer_lock(tmp_path, NAME):
        moved = settle(tmp_path, NAME, MOMENT)
    assert moved == 6
    retired = path.read_bytes()
    ledger = tmp_path / NAME / "test_uses.jsonl"
    for cut in range(len(whole), len(retired), 37):
        path.write_bytes(retired[:cut])
        ledger.write_text(ledger.read_text().splitlines(keepends=True)[0])
        with writer_lock(tmp_path, NAME):
            settle(tmp_path, NAME, MOMENT)
        assert "test" not in read_splits(tmp_path, NAME).values()
        assert generation(tmp_path, NAME).number == 2


@settings(max_examples=15)
@given(st.lists(st.tuples(st.sampled_from(["add", "use", "reveal"]), st.integers(0, 12)), max_size=14))
def test_whatever_happens_train_never_becomes_test(steps: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root, taken = Path(folder), 0
        present: dict[str | None, str | None] = {}
        add(root, 100, 101, 102, 103)
        for step, (kind, size) in enumerate(steps):
            if kind == "add":
                add(root, *range(taken, taken + size))
                taken += size
            elif kind == "reveal":
                reveal(root, NAME, "x", MOMENT)
            elif not generation(root, NAME).spent:
                use(root, f"run_{step}")
            found = splits(root)
            moved = {(present[key], found[key]) for key in present if present[key] != found[key]}
            assert moved <= {("test", "train")}
            present = found


def _use(root: Path, number: int) -> float | None:
    try:
        return use(root, f"run_{number}")
    except BadInputError:
        return None


def test_runs_at_once_never_share_a_use(tmp_path: Path) -> None:
    add(tmp_path, *range(8))
    with multiprocessing.get_context("fork").Pool(4) as pool:
        found = pool.starmap(_use, [(tmp_path, n) for n in range(12)])
    assert sorted(map(str, found)) == ["0.0125"] * 4 + ["None"] * 8
    assert len(set(generation(tmp_path, NAME).runs)) == 4


@pytest.mark.parametrize(
    "line", ["{", "5", "{}", '{"event": "use", "generation": 1}', '{"event": "x", "generation": 1}']
)
def test_a_line_of_something_else_is_damage_with_its_place(tmp_path: Path, line: str) -> None:
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "test_uses.jsonl").write_text(line + "\n")
    with pytest.raises(DamagedError, match=r"test_uses\.jsonl, line 1: expected"):
        generation(tmp_path, NAME)
