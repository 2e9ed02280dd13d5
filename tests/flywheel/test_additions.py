"""Adding to a dataset: what counts as new, and what must never straddle the splits, whatever comes in which order."""

from __future__ import annotations

import json
import multiprocessing
import random
import tempfile
from collections import Counter, defaultdict
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.base.errors import DamagedError
from flywheel.data import split_file, store
from flywheel.data.additions import Added, Sharing, add_examples
from flywheel.data.admission import NEAR
from flywheel.data.duplicates import input_text, label_of, near_pairs
from flywheel.data.examples import Example, Metadata
from flywheel.data.publishing import Batch, writer_lock
from flywheel.data.registry import all_signatures
from flywheel.data.split_file import read_record
from flywheel.data.tombstones import Tombstone, append_tombstone

SIGNATURE = all_signatures()["validate_completeness"]
NAME = SIGNATURE.name
BATCH = Batch("batch", "", datetime(2025, 11, 4, 12, 0, tzinfo=UTC))
WORDS = [f"{first}{second}{last}" for first in "bdfgklm" for second in "aeiou" for last in ("st", "rn", "lp", "mt")]


def example(
    topic: int, *, complete: bool = True, edits: int = 0, group: str | None = None, source: str = "git"
) -> Example:
    """Examples of one topic are near-duplicates, of two topics are not; each edit changes a word in forty."""
    words = random.Random(topic).sample(WORDS, 40)
    words[:edits] = [f"edit{n}" for n in range(edits)]
    return Example(
        inputs={"implementation": " ".join(words), "requirements": ["it"]},
        outputs={"is_complete": complete, "missing_requirements": [] if complete else ["it"], "explanation": "seen"},
        metadata=Metadata(source=source, group=group, difficulty="easy", quality_score=90.0),
    )


EXAMPLES = st.lists(
    st.builds(
        example,
        st.integers(0, 9),
        complete=st.booleans(),
        edits=st.integers(0, 2),
        group=st.none() | st.sampled_from(["commit:1", "commit:2", "commit:3"]),
        source=st.sampled_from(["git", "synthetic"]),
    ),
    max_size=14,
)


def add(root: Path, *examples: Example, onto_latest: bool = True) -> Added:
    return add_examples(root, SIGNATURE, examples, BATCH, onto_latest=onto_latest)


def stored(root: Path) -> list[Example]:
    return store.load(root, NAME)[1]


def splits(root: Path) -> dict[str | None, str | None]:
    return {e.id: e.split for e in stored(root)} if store.newest(root, NAME) else {}


def check_no_leak(examples: list[Example]) -> None:
    """No group and no two near-duplicates on two sides of a split; no repeat with the same label."""
    by_group: dict[str | None, set[str | None]] = defaultdict(set)
    for e in examples:
        by_group[e.metadata.group].add(e.split)
    assert all(len(found) == 1 for found in by_group.values())
    for pair in near_pairs([input_text(SIGNATURE, e.inputs) for e in examples], NEAR):
        one, other = examples[pair.older], examples[pair.newer]
        assert one.split == other.split
        assert label_of(SIGNATURE, one) != label_of(SIGNATURE, other)


def test_topics_are_as_alike_as_they_claim() -> None:
    texts = [input_text(SIGNATURE, example(topic).inputs) for topic in range(200)]
    assert near_pairs(texts, NEAR) == []
    edited = [input_text(SIGNATURE, example(7, edits=edits).inputs) for edits in range(3)]
    assert len(near_pairs(edited, NEAR)) == 3


@settings(max_examples=30)
@given(EXAMPLES, st.randoms())
def test_the_order_of_a_batch_does_not_count(batch: list[Example], rng: random.Random) -> None:
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        first, second = add(Path(one), *batch), add(Path(other), *rng.sample(batch, len(batch)))
        assert (first.new, first.refused) == (second.new, second.refused)
        assert first.new + first.refused.total() == first.offered == len(batch)
        if first.new:
            assert stored(Path(one)) == stored(Path(other))
            assert split_file.read_splits(Path(one), NAME) == split_file.read_splits(Path(other), NAME)


@settings(max_examples=30)
@given(st.lists(EXAMPLES, min_size=1, max_size=4))
def test_no_sequence_of_batches_leaks_or_moves_anything(batches: list[list[Example]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for batch in batches:
            before, recorded = splits(root), split_file.read_splits(root, NAME)
            added = add(root, *batch)
            after = splits(root)
            assert len(after) - len(before) == added.new
            assert before.items() <= after.items()
            assert recorded.items() <= split_file.read_splits(root, NAME).items()
            if after:
                check_no_leak(stored(root))
                assert {(e.metadata.group, e.split) for e in stored(root)} <= split_file.read_splits(root, NAME).items()
            assert add(root, *batch).new == 0


def test_versions_made_by_create_keep_the_splits_of_groups(tmp_path: Path) -> None:
    batch = [example(topic, group=f"commit:{topic}") for topic in range(30)]
    add(tmp_path, *batch, onto_latest=False)
    before = splits(tmp_path)
    others = [example(topic, group=f"commit:{topic}") for topic in range(30, 60)]
    add(tmp_path, *others, *batch[:10], onto_latest=False)
    after = splits(tmp_path)
    assert len(after) == 40
    both = before.keys() & after.keys()
    assert len(both) == 10
    assert all(before[key] == after[key] for key in both)
    assert store.load(tmp_path, NAME)[0].parent_version is None


def test_nothing_new_makes_no_version(tmp_path: Path) -> None:
    first = add(tmp_path, example(1), example(2))
    again = add(tmp_path, example(2), example(1), example(1, edits=1))
    assert (again.new, again.offered, again.refused) == (0, 3, Counter(duplicate=3))
    assert again.metadata == first.metadata
    assert len(store.versions(tmp_path, NAME)) == 1


def test_nothing_at_all_is_no_version(tmp_path: Path) -> None:
    assert add(tmp_path) == Added(None, 0, 0)
    assert store.newest(tmp_path, NAME) is None


def test_a_contrast_pair_stays_and_stays_together(tmp_path: Path) -> None:
    added = add(tmp_path, *(example(n, edits=int(side), complete=side) for n in range(12) for side in (True, False)))
    assert added.new == 24
    assert not added.refused
    check_no_leak(stored(tmp_path))
    assert set(splits(tmp_path).values()) == {"train", "val", "test"}


def test_a_contrast_that_comes_later_goes_where_its_pair_is(tmp_path: Path) -> None:
    add(tmp_path, *(example(n) for n in range(12)))
    recorded = split_file.read_splits(tmp_path, NAME)
    added = add(tmp_path, *(example(n, edits=1, complete=False) for n in range(12)))
    assert added.new == 12
    check_no_leak(stored(tmp_path))
    assert recorded.items() <= split_file.read_splits(tmp_path, NAME).items()


def test_what_would_tie_two_splits_together_is_refused(tmp_path: Path) -> None:
    add(tmp_path, *(example(n, group=f"commit:{n}") for n in range(12)))
    recorded = split_file.read_splits(tmp_path, NAME)
    train, test = (next(g for g, split in recorded.items() if split == name) for name in ("train", "test"))
    # Alike to an example of the test split (with another label), yet of a commit that is in train.
    bridge = example(int(test.removeprefix("commit:")), edits=1, complete=False, group=train)
    added = add(tmp_path, bridge, example(50))
    assert (added.new, added.refused) == (1, Counter(bridges_splits=1))
    check_no_leak(stored(tmp_path))


def test_examples_get_id_source_group_score_and_split(tmp_path: Path) -> None:
    bare = example(1).model_copy(update={"metadata": Metadata(), "signature": NAME, "split": "test"})
    metadata = add(tmp_path, bare).metadata
    (found,) = stored(tmp_path)
    assert found.metadata.source == "batch"
    assert found.metadata.group == f"example:{found.id}"
    assert found.metadata.quality_score is not None
    assert found.signature is None
    assert found.split is not None
    assert metadata is not None
    assert metadata.statistics.sources == {"batch": 1}


def test_of_equal_examples_with_different_facts_the_same_one_stays(tmp_path: Path) -> None:
    twins = [example(1, group="commit:b"), example(1, group="commit:a")]
    add(tmp_path / "one", *twins)
    add(tmp_path / "other", *twins[::-1])
    assert stored(tmp_path / "one") == stored(tmp_path / "other")


def test_shares_follow_the_size_of_the_dataset(tmp_path: Path) -> None:
    added = add(tmp_path, *(example(n) for n in range(100)))
    assert added.metadata is not None
    assert added.metadata.statistics.splits == {"test": 50, "train": 25, "val": 25}
    grown = add(tmp_path, *(example(n) for n in range(100, 200)))
    assert grown.metadata is not None
    counts = grown.metadata.statistics.splits
    assert counts["test"] in range(78, 83)
    assert counts["train"] in range(38, 43)


def test_shares_can_be_asked_for(tmp_path: Path) -> None:
    added = add_examples(
        tmp_path,
        SIGNATURE,
        [example(n) for n in range(60)],
        BATCH,
        onto_latest=True,
        sharing=Sharing((0.5, 0.25, 0.25)),
    )
    assert added.metadata is not None
    assert added.metadata.statistics.splits == {"test": 15, "train": 30, "val": 15}


@pytest.mark.parametrize("link", ["missing", "dangling"])
def test_adding_where_latest_is_gone_builds_on_the_newest_version_not_on_nothing(tmp_path: Path, link: str) -> None:
    first = add(tmp_path, example(1)).metadata
    assert first is not None
    latest = tmp_path / NAME / "latest"
    latest.unlink()
    if link == "dangling":
        latest.symlink_to("v20200101_000000")
    added = add(tmp_path, example(2))
    assert added.metadata is not None
    assert (added.metadata.parent_version, added.metadata.example_count) == (first.version, 2)


def test_a_damaged_dataset_takes_nothing_in(tmp_path: Path) -> None:
    add(tmp_path, example(1))
    (tmp_path / NAME / "latest" / "dataset.json").unlink()
    with pytest.raises(DamagedError, match=r"dataset\.json: missing"):
        add(tmp_path, example(2))


def test_splits_recorded_by_a_writer_that_died_are_kept(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    split_file.append_splits(tmp_path, NAME, {"commit:1": "val"}, BATCH.moment)
    add(tmp_path, example(1, group="commit:1"))
    assert [e.split for e in stored(tmp_path)] == ["val"]


def _add(root: Path, start: int) -> tuple[int, str]:
    added = add(root, *(example(topic) for topic in range(start, start + 8)))
    assert added.metadata is not None
    return added.new, added.metadata.version


def test_writers_at_once_all_succeed_and_nothing_is_lost(tmp_path: Path) -> None:
    """They overlap by half: each finds what the others stored before it."""
    with multiprocessing.get_context("fork").Pool(4) as pool:
        found = pool.starmap(_add, [(tmp_path, start) for start in (0, 4, 8, 12)])
    made = [version for new, version in found if new]
    assert len(set(made)) == len(made) == len(store.versions(tmp_path, NAME))
    assert sum(new for new, _ in found) == len(stored(tmp_path)) == 20
    check_no_leak(stored(tmp_path))
    lines = (tmp_path / NAME / "splits.jsonl").read_text().splitlines()
    groups = [json.loads(line)["group"] for line in lines]
    assert len(groups) == len(set(groups)) == 20


def facts(base: Example, **extra: object) -> Example:
    return base.with_metadata().model_copy(
        update={"metadata": Metadata.model_validate({**base.metadata.model_dump(), **extra})}
    )


def refusals(root: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (root / NAME / "refused.jsonl").read_text().splitlines()]


def test_newcomers_are_compared_with_every_version_not_only_the_latest(tmp_path: Path) -> None:
    add(tmp_path, *(example(n) for n in range(12)), onto_latest=False)
    first = splits(tmp_path)
    add(tmp_path, *(example(n) for n in range(20, 32)), onto_latest=False)
    added = add(tmp_path, *(example(n, edits=1) for n in range(12)))
    assert (added.new, added.refused) == (12, Counter())
    by_text = {tuple(e.inputs["implementation"].split()[2:]): e.split for e in stored(tmp_path)}
    old = store.load(tmp_path, NAME, "v20251104_120000")[1]
    assert [by_text[tuple(e.inputs["implementation"].split()[2:])] for e in old] == [first[e.id] for e in old]


def test_a_stored_member_beats_a_better_newcomer_and_the_better_of_two_newcomers_stays(tmp_path: Path) -> None:
    add(tmp_path, facts(example(1), quality_score=70.0))
    (old,) = stored(tmp_path)
    better, worse = (facts(example(2, edits=n), quality_score=score) for n, score in ((0, 95.0), (1, 80.0)))
    added = add(tmp_path, facts(example(1, edits=1), quality_score=99.0), worse, better)
    assert (added.new, added.refused) == (1, Counter(duplicate=2))
    assert old in stored(tmp_path)
    assert {e.metadata.quality_score for e in stored(tmp_path)} == {70.0, 95.0}
    kept = {e.id for e in stored(tmp_path)}
    assert {row["of"] for row in refusals(tmp_path)} == kept
    assert all(row["reason"] == "duplicate" and 0.85 <= float(str(row["ratio"])) < 1 for row in refusals(tmp_path))
    add(tmp_path, worse)
    assert len(refusals(tmp_path)) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"commit_sha": "a" * 40}, {"group": f"commit:{'a' * 12}"}),
        ({"group": "pr:7"}, {"pull_request": 7, "group": "commit:b"}),
        ({"user_id": "u1"}, {"unit_id": "u1"}),
    ],
)
def test_one_commit_pull_request_or_user_is_one_group(
    tmp_path: Path, one: dict[str, object], other: dict[str, object]
) -> None:
    def rest(start: int) -> list[Example]:
        return [example(n) for n in range(start, start + 12)]

    add(tmp_path, *(facts(example(n), **one) for n in range(2)), *rest(10))
    add(tmp_path, *(facts(example(n), **other) for n in range(2, 4)), *rest(30))
    found = [e for e in stored(tmp_path) if example_topic(e) < 4]
    assert len(found) == 4
    assert len({e.split for e in found}) == len({e.metadata.group for e in found}) == 1
    assert "u1" not in (tmp_path / NAME / "splits.jsonl").read_text()


def example_topic(e: Example) -> int:
    texts = {example(n).inputs["implementation"]: n for n in range(60)}
    return texts.get(e.inputs["implementation"], -1)


def test_what_joins_two_groups_of_a_split_makes_one_of_them_for_ever(tmp_path: Path) -> None:
    add(tmp_path, *(example(n, group=f"commit:{n}") for n in range(12)))
    recorded = read_record(tmp_path, NAME).splits
    one, other = sorted(g for g, split in recorded.items() if split == "test")[:2]
    bridge = example(int(one.removeprefix("commit:")), edits=1, complete=False, group=other)
    assert add(tmp_path, bridge).new == 1
    assert read_record(tmp_path, NAME).parts == {other: one}
    add(tmp_path, example(50, group=other))
    assert {e.metadata.group for e in stored(tmp_path) if e.split == "test"} >= {one}
    assert [e.metadata.group for e in stored(tmp_path) if example_topic(e) == 50] == [one]


@settings(max_examples=25)
@given(st.lists(st.integers(1, 14), min_size=1, max_size=8), st.randoms())
def test_no_group_has_more_than_its_share_and_the_best_of_it_stay(sizes: list[int], rng: random.Random) -> None:
    batch = [
        facts(example(100 * group + n, group=f"commit:{group}"), quality_score=float(rng.randint(50, 100)))
        for group, size in enumerate(sizes)
        for n in range(size)
    ]
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        added, again = add(Path(one), *batch), add(Path(other), *rng.sample(batch, len(batch)))
        kept = stored(Path(one))
        assert kept == stored(Path(other))
        assert added.refused == again.refused == Counter(group_over_share=len(batch) - len(kept)) + Counter()
        most = max(4, len(kept) // 10)
        for group, held in Counter(e.metadata.group for e in kept).items():
            assert held <= most
            scores = sorted(e.metadata.quality_score or 0 for e in kept if e.metadata.group == group)
            left = [e for e in batch if e.metadata.group == group and e.inputs not in [k.inputs for k in kept]]
            assert all((e.metadata.quality_score or 0) <= scores[0] for e in left)


def test_what_a_thousand_users_ask_alike_costs_no_million_comparisons(tmp_path: Path) -> None:
    base = example(1)
    batch = [base.model_copy(update={"outputs": {**base.outputs, "explanation": f"seen {n}"}}) for n in range(1000)]
    added = add(tmp_path, *batch)
    assert (added.new, added.refused) == (1, Counter(duplicate=999))
    assert len(refusals(tmp_path)) == 999


def test_the_newest_go_to_test_when_asked(tmp_path: Path) -> None:
    dated = [facts(example(n), authored_at=f"2025-{1 + n // 28:02}-{1 + n % 28:02}T10:00:00+02:00") for n in range(40)]
    undated = [facts(example(n), source="synthetic", timestamp="2099-01-01T00:00:00Z") for n in range(40, 60)]
    added = add_examples(
        tmp_path, SIGNATURE, [*undated, *dated], BATCH, onto_latest=True, sharing=Sharing(temporal=True)
    )
    assert added.metadata is not None
    by_time = sorted(
        (e for e in stored(tmp_path) if e.metadata.source == "git"), key=lambda e: str(e.extra("authored_at"))
    )
    assert {e.split for e in by_time[-20:]} == {"test"}
    assert {e.split for e in by_time[:20]} <= {"train", "val", "test"}
    before = splits(tmp_path)
    later = [facts(example(n), authored_at=f"2025-09-{n - 59:02}T10:00:00") for n in range(60, 80)]
    add_examples(tmp_path, SIGNATURE, later, BATCH, onto_latest=True, sharing=Sharing(temporal=True))
    assert before.items() <= splits(tmp_path).items()


def test_a_purged_example_never_comes_back(tmp_path: Path) -> None:
    add(tmp_path, example(1), example(2))
    gone = stored(tmp_path)[0]
    with writer_lock(tmp_path, NAME):
        append_tombstone(tmp_path, NAME, Tombstone(str(gone.id), "wrong", "2025-11-04T12:00:00+00:00"))
    added = add(tmp_path, gone, example(3), onto_latest=False)
    assert (added.new, added.refused) == (1, Counter(purged=1))
