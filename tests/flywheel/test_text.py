from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.base.text import one_line, visible

# Includes lone surrogates, which st.text() leaves out by default.
ANY_TEXT = st.text(st.characters())


@given(ANY_TEXT)
def test_visible_leaves_nothing_that_hides_or_commands(text: str) -> None:
    shown = visible(text)
    assert all(c in "\n\t" or unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Co"} for c in shown)
    shown.encode()


@given(ANY_TEXT)
def test_visible_twice_is_visible_once(text: str) -> None:
    assert visible(visible(text)) == visible(text)


@given(st.text(st.characters(categories=["L", "N", "P", "S", "M", "Zs"])))
def test_visible_keeps_what_people_write(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "[31mred[0m"),
        ("\x9b31mred", "31mred"),
        ("a\r\nb\rc", "a\nbc"),
        ("safe\u202egpj.exe", "safegpj.exe"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("tab\tand\nline", "tab\tand\nline"),
        ("\ud800half", "half"),
        ("", ""),
    ],
)
def test_visible_examples(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(ANY_TEXT, st.integers(1, 80))
def test_one_line_is_one_line_within_its_limit(text: str, limit: int) -> None:
    line = one_line(text, limit)
    assert len(line) <= limit
    assert len(line.splitlines()) <= 1
    assert line == line.strip()


@given(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=40))
def test_one_line_keeps_what_fits(text: str) -> None:
    assert one_line(text, 40) == text


def test_one_line_says_that_it_cut() -> None:
    assert one_line("a" * 50, 10) == "a" * 9 + "…"
    assert one_line("first\nsecond\r\n\tthird") == "first second third"
