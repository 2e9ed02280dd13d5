"""Proof that the test split tells of programs that have not seen it: what would be a leak, one by one."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from flywheel.base.errors import BadInputError, DamagedError
from flywheel.base.programs import deployed_program, read_program
from flywheel.data.admission import NEAR, origins
from flywheel.data.duplicates import input_text, near_pairs
from flywheel.data.split_file import read_record
from flywheel.data.splits import Groups
from flywheel.data.store import load, newest, places

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from flywheel.data.examples import Example
    from flywheel.data.signatures.types import Signature


def leaks(root: Path, signature: Signature, programs: Path) -> Iterator[str]:
    """Every leak in the signature's datasets and between them and its deployed program; nothing where there is none.

    Versions and programs that cannot be read are left to those who check them whole.
    """
    try:
        record = read_record(root, signature.name)
    except DamagedError:
        return
    groups = Groups(record.splits, record.parts)
    latest = newest(root, signature.name)
    tests: dict[str, list[Example]] = {}
    for name in sorted(places(root, signature.name)):
        try:
            examples = load(root, signature.name, name)[1]
        except DamagedError:
            continue
        # What two groups have become one by came after the older versions, in which they may be on two sides.
        known = groups if name == latest else Groups({})
        yield from (f"{signature.name} {name}: {flaw}" for flaw in straddling(examples, known))
        if name == latest:
            yield from (f"{signature.name} {name}: {flaw}" for flaw in alike_across(signature, examples))
        tests[name] = [e for e in examples if e.split == "test"]
    yield from _shown_tests(signature, programs, tests, latest)


def straddling(examples: Sequence[Example], groups: Groups) -> Iterator[str]:
    """Groups with examples in more than one split."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for example in examples:
        if example.metadata.group is None or example.split is None:
            continue  # whoever checks the version says so
        for root in {groups.find(name) for name in origins(example)}:
            found[root].setdefault(example.split, str(example.id))
    for root, held in sorted(found.items()):
        if len(held) > 1:
            where = ", ".join(f"{split} ({key})" for split, key in sorted(held.items()))
            yield f"group {root} straddles {where}"


def alike_across(signature: Signature, examples: Sequence[Example]) -> Iterator[str]:
    """Pairs of near-duplicates in different splits."""
    texts = [input_text(signature, e.inputs) for e in examples]
    for pair in near_pairs(texts, NEAR):
        one, other = examples[pair.older], examples[pair.newer]
        if one.split != other.split:
            yield f"{one.id} ({one.split}) and {other.id} ({other.split}) are {pair.ratio:.0%} alike"


def _shown_tests(
    signature: Signature, programs: Path, tests: dict[str, list[Example]], latest: str | None
) -> Iterator[str]:
    """Test examples of the latest version, or of the one that it was made from, among the deployed program's demos."""
    path = deployed_program(programs, signature.name)
    if path is None:
        return
    try:
        program = read_program(path, signature.name)
    except (BadInputError, DamagedError):
        return
    examples = {e.id: e for e in [*tests.get(latest or "", []), *tests.get(program.dataset_version, [])]}
    tested = list(examples.values())
    names = [field.name for field in signature.inputs]
    demos = [(n, demo) for n, demo in enumerate(program.demos, 1) if all(name in demo for name in names)]
    texts = [input_text(signature, e.inputs) for e in tested] + [input_text(signature, demo) for _, demo in demos]
    for pair in near_pairs(texts, NEAR, len(tested)):
        if pair.older < len(tested):
            number = demos[pair.newer - len(tested)][0]
            yield f"{path}: demonstration {number} is {pair.ratio:.0%} like test example {tested[pair.older].id}"
