"""Groups that a later example ties together are one, whatever name their examples were stored under."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flywheel.data.additions import add_examples
from flywheel.data.examples import Example
from flywheel.data.publishing import Batch
from flywheel.data.signatures import BUILT_IN
from flywheel.data.splits import SPLITS
from flywheel.data.store import load
from flywheel.data.whole import load_whole, whole_groups

if TYPE_CHECKING:
    from pathlib import Path

SIGNATURE = next(signature for signature in BUILT_IN if signature.name == "validate_completeness")


def example(number: int, text: str, group: str, **facts: str) -> Example:
    return Example.model_validate(
        {
            "inputs": {"implementation": text, "requirements": [f"requirement {number}"]},
            "outputs": {"is_complete": number % 2 == 0, "missing_requirements": [], "explanation": "It is all there."},
            "metadata": {"source": "git", "difficulty": "easy", "category": "x", "group": group, **facts},
        }
    )


def text(number: int) -> str:
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    return " ".join(digest[start : start + 5] for start in range(0, 60, 5))


def test_two_groups_that_a_later_example_ties_together_become_one(tmp_path: Path) -> None:
    moment = datetime(2025, 11, 4, tzinfo=UTC)
    first = [example(n, text(n), f"g{n}") for n in range(24)]
    add_examples(tmp_path, SIGNATURE, first, Batch("git", "", moment), onto_latest=False)
    by_split = {s: [e.metadata.group for e in load(tmp_path, SIGNATURE.name)[1] if e.split == s] for s in SPLITS}
    one, other = sorted(str(name) for name in by_split["test"][:2])
    # It stands for a commit that is of one group, and says that it is of the other.
    record = example(99, text(99), one, commit_sha="abc")
    linked = [example(98, text(98), other, commit_sha="abc"), record]
    add_examples(tmp_path, SIGNATURE, linked, Batch("git", "", moment), onto_latest=True)
    stored = {e.metadata.group for e in load(tmp_path, SIGNATURE.name)[1]}
    assert {one, other} <= stored, "what is stored keeps its name"
    groups = whole_groups(tmp_path, SIGNATURE.name)
    assert groups.find(one) == groups.find(other)
    alone = str(by_split["train"][0])
    assert groups.find(alone) == alone
    whole = [e.metadata.group for e in load_whole(tmp_path, SIGNATURE.name)[1]]
    assert whole.count(groups.find(one)) == 4
    assert len(set(whole)) == 23
