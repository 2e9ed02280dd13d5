"""An example is found in whatever spelling a file gives it, and nothing else is touched."""

from __future__ import annotations

import html
import json
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from flywheel.data.registry import all_signatures
from flywheel.data.target import ERASED, TELLING, Target

if TYPE_CHECKING:
    from collections.abc import Callable

SIGNATURE = all_signatures()["extract_requirements"]
LETTERS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cf", "Co"]), min_size=TELLING, max_size=60)
SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": lambda text: text,
    "json": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "ascii json": lambda text: json.dumps(text)[1:-1],
    "json in json": lambda text: json.dumps(json.dumps(text, ensure_ascii=False))[1:-1],
    "json in a line of json": lambda text: json.dumps(json.dumps(text))[1:-1],
    "html": html.escape,
    "jinja": lambda text: html.escape(text).replace("&#x27;", "&#39;").replace("&quot;", "&#34;"),
}


def target(text: str) -> Target:
    row = {"inputs": {"user_intent": text, "context": ""}, "outputs": {"requirements": ["x"]}, "id": "a" * 24}
    return Target.of(SIGNATURE, row)


@given(LETTERS, st.sampled_from(sorted(SPELLINGS)))
def test_a_text_goes_whole_in_every_spelling(text: str, spelling: str) -> None:
    spelled = SPELLINGS[spelling](text)
    left = target(text).redacted(f"\x00{spelled}\x01 and again \x02{spelled}\x03")
    around = '\\"' if spelling.startswith("json in") else ""
    erased = f"{around}{ERASED}{around}"
    assert left == f"\x00{erased}\x01 and again \x02{erased}\x03"


@given(LETTERS, LETTERS)
def test_other_texts_stay_as_they_are(text: str, other: str) -> None:
    if not any(other[n : n + TELLING] in spell(text) for n in range(len(other)) for spell in SPELLINGS.values()):
        assert target(text).redacted(other) == other


@given(st.text(max_size=TELLING - 1))
def test_a_short_text_is_no_text_to_search_for(text: str) -> None:
    assert target(text).redacted(text * 3) == text * 3


def test_a_text_that_was_cut_off_goes_as_far_as_it_is_there() -> None:
    text = 'the user said "never" and then some more that nobody may read'
    assert target(text).redacted(f"<b>{html.escape(text)[:45]}…</b>") == f"<b>{ERASED}…</b>"


@given(LETTERS, st.text(), st.booleans())
def test_json_stays_json(text: str, rest: str, nested: bool) -> None:  # noqa: FBT001
    said = json.dumps([text]) if nested else text
    value, count = target(text).without({"log": [f"asked: {said}", rest]})
    assert count >= 1
    assert ERASED in value["log"][0]
    assert text not in json.dumps(value, ensure_ascii=False)


@given(st.recursive(st.integers() | st.text(max_size=3), lambda inner: st.lists(inner, max_size=3), max_leaves=6))
def test_copies_go_from_any_place_and_the_rest_stays(rest: object) -> None:
    goal = target("x" * 30)
    copy = {"inputs": {"user_intent": "x" * 30, "context": ""}, "outputs": {"requirements": ["another"]}}
    demo = {"user_intent": "x" * 30, "context": "", "requirements": ["y"], "augmented": True}
    value = {"list": [copy, rest, demo], "one": copy, "rest": rest}
    assert goal.without(value) == ({"list": [rest], "one": {"erased": goal.example_id}, "rest": rest}, 3)
    assert goal.without(rest) == (rest, 0)
