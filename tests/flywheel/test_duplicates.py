from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from flywheel.data.duplicates import Near, input_text, label_of, near_pairs, repeats, text_of
from flywheel.data.examples import Example
from flywheel.data.registry import all_signatures

TABLE = all_signatures()
COMPLETENESS, EXTRACT = TABLE["validate_completeness"], TABLE["extract_requirements"]


def example(done: str, *, complete: bool) -> Example:
    return Example(inputs={"implementation": done, "requirements": ["it"]}, outputs={"is_complete": complete})


def test_text_of_any_value_has_all_its_words_in_order() -> None:
    value: Any = {"a": "one", "b": ["two", {"c": 3}], "d": None, "e": True}
    assert text_of(value) == "one two 3 None True"


def test_input_text_follows_the_signature_not_the_file() -> None:
    inputs = {"requirements": ["B a"], "implementation": "C!"}
    assert input_text(COMPLETENESS, inputs) == "a b c"
    assert input_text(COMPLETENESS, dict(reversed(inputs.items()))) == "a b c"


def test_pairs_come_newer_by_newer() -> None:
    pairs = near_pairs(["same", "other thing", "same", "same"], 0.9)
    assert [(p.older, p.newer, p.ratio) for p in pairs] == [(0, 2, 1.0), (0, 3, 1.0), (2, 3, 1.0)]


def test_the_label_tells_a_contrast_from_a_repeat() -> None:
    examples = [example("x", complete=True), example("x", complete=False), example("x", complete=True)]
    pairs = near_pairs([input_text(COMPLETENESS, e.inputs) for e in examples], 0.85)
    assert repeats(COMPLETENESS, examples, pairs) == {2: Near(0, 2, 1.0)}
    assert label_of(COMPLETENESS, examples[1]) is False
    assert label_of(EXTRACT, examples[1]) is None


def test_what_resembles_only_a_repeat_stays() -> None:
    examples = [example(str(n), complete=True) for n in range(3)]
    chain = [Near(0, 1, 0.9), Near(1, 2, 0.9)]
    assert repeats(COMPLETENESS, examples, chain) == {1: chain[0]}


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=8), st.integers(0, 8))
def test_every_label_of_every_text_is_kept_once(kinds: list[tuple[int, bool]], start: int) -> None:
    examples = [example("abcd"[text] * 20, complete=label) for text, label in kinds]
    pairs = near_pairs([input_text(COMPLETENESS, e.inputs) for e in examples], 0.85, start)
    dropped = repeats(COMPLETENESS, examples, pairs, start)
    assert all(position >= start for position in dropped)
    kept_new = [kinds[n] for n in range(start, len(kinds)) if n not in dropped]
    assert len(kept_new) == len(set(kept_new))
    assert set(kinds[:start]) | set(kept_new) == set(kinds)
    assert not set(kinds[:start]) & set(kept_new)
