"""Patches are taken apart without loss, whatever stands in them."""

from __future__ import annotations

import difflib

from hypothesis import given
from hypothesis import strategies as st

from flywheel.data.diffs import parse_patch, records, unquote

LINE = st.text(alphabet=st.characters(blacklist_categories=["Cs"], blacklist_characters="\n\r"), max_size=12)
TRICKY = st.sampled_from(
    ["--- a/x", "+++ b/x", "@@ -1 +1 @@", "diff --git a/x b/x", "\\ No newline", "", " ", "+", "-"]
)
LINES = st.lists(st.one_of(TRICKY, LINE), max_size=12)


def patch_of(old: list[str], new: list[str]) -> bytes:
    """A patch as git would print it."""
    body = list(difflib.unified_diff(old, new, lineterm="", n=2))[2:]
    header = ["diff --git a/f.txt b/f.txt", "index 1..2 100644", "--- a/f.txt", "+++ b/f.txt"]
    return "\n".join([*header, *body, ""]).encode()


@given(LINES, LINES)
def test_every_changed_line_is_found_and_no_other(old: list[str], new: list[str]) -> None:
    expected = [line for line in list(difflib.unified_diff(old, new, lineterm="", n=2))[2:] if line[:2] != "@@"]
    (file,) = parse_patch(patch_of(old, new) * 1)
    got = [line for hunk in file.hunks for line in hunk.lines]
    assert [x for x in got if x[0] != " "] == [x for x in expected if x[0] in "+-" and not x.startswith("\\")]
    assert file.path == "f.txt"


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=6), st.integers(1, 20), st.integers(0, 40))
def test_records_do_not_depend_on_how_the_stream_is_chunked(parts: list[bytes], size: int, limit: int) -> None:
    separator = b"<NONCE>"
    parts = [part.replace(b"<", b"") for part in parts]
    stream = b"noise" + b"".join(separator + part for part in parts)
    chunks = [stream[start : start + size] for start in range(0, len(stream), size)]
    assert list(records(chunks, separator)) == parts
    assert list(records(chunks, separator, limit)) == [part if len(part) <= limit else None for part in parts]


@given(st.binary())
def test_garbage_is_no_error(patch: bytes) -> None:
    parse_patch(patch)
    parse_patch(b"diff --git a/x b/x\n@@ -1,9 +1,9 @@\n" + patch)


def test_names_in_quotes() -> None:
    assert unquote(rb'"a/\303\274\t\"x\\.py"') == 'a/ü\t"x\\.py'.encode()
    assert unquote(b"plain") == b"plain"
