"""Messages are read as their authors meant them, or not at all."""

from __future__ import annotations

import pytest

from flywheel.data.commits import is_version_bump, read, reverted_sha, says_nothing, stated
from flywheel.data.imperatives import imperative, split_orders
from flywheel.data.kinds import kind_of


@pytest.mark.parametrize(
    ("phrase", "order"),
    [
        ("Fixed crash on exit", "Fix crash on exit"),
        ("Fixes the parser.", "Fix the parser"),
        ("adding a cache", "Add a cache"),
        ("Stopped polling twice", "Stop polling twice"),
        ("applies the patch", "Apply the patch"),
        ("Don't leak handles", "Do not leak handles"),
        ("This commit adds a cache", "Add a cache"),
        ("Properly handled empty lists", "Properly handle empty lists"),
        ("rewrote the loader", "Rewrite the loader"),
        ("Fix for proxies", None),
        ("Changes to the API", None),
        ("Copy of the old code", None),
        ("The parser is slow", None),
        ("Fix", None),
        ("New logo", None),
    ],
)
def test_orders(phrase: str, order: str | None) -> None:
    assert imperative(phrase) == order


def test_prose_in_the_past_tense_is_no_order() -> None:
    assert imperative("Added in version 2", plain=True) is None
    assert imperative("Add a cache", plain=True) == "Add a cache"


def test_orders_are_split_only_where_both_stand_alone() -> None:
    assert split_orders("Add a cache to the loader and remove the old store") == [
        "Add a cache to the loader",
        "Remove the old store",
    ]
    assert split_orders("Add a cache and use it everywhere") == ["Add a cache and use it everywhere"]
    assert split_orders("Support black and white images") == ["Support black and white images"]


def test_a_message_is_taken_apart() -> None:
    message = read(
        "fix(core)!: fixed the leak of handles (#77)\n\nHandles were never closed.\n\n"
        "* Close handles on exit\n  and on errors\n* wip\n\nSee https://example.org/1\n"
        "Co-authored-by: B <b@c.de>\nSigned-off-by: A <a@b.cd>"
    )
    assert (message.subject, message.type, message.pull_request) == ("Fix the leak of handles", "bugfix", "77")
    assert message.body == "Handles were never closed."
    assert message.bullets == ("Close handles on exit and on errors",)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Add a cache to the loader", ["Add a cache to the loader"]),
        ("Add a cache\n\n- Add tests for it\n- Add a cache to the loader", []),
        ("Refactor\n\n- Split the loader in two\n- The parser", []),
        (
            "Speed up the loader\n\nIt was slow. Cache the folder's listing.",
            ["Speed up the loader", "Cache the folder's listing"],
        ),
        ("Speed up the loader\n\nThe cache must be private.", []),
        ("Loader improvements for all", []),
        ("Fix the crash on exit (fixes #12)", ["Fix the crash on exit"]),
    ],
)
def test_what_is_stated_is_certain_or_nothing(message: str, expected: list[str]) -> None:
    assert stated(read(message)) == expected


@pytest.mark.parametrize(
    "subject", ["wip", "WIP: parser", "Fix typo", "update stuff", "Address review comments", "fix lint and tests"]
)
def test_some_messages_say_nothing(subject: str) -> None:
    assert says_nothing(subject)


@pytest.mark.parametrize(
    "subject", ["Merge duplicate headers", "Fix tests of the parser on Windows", "Update the parser for URLs"]
)
def test_some_only_look_as_if(subject: str) -> None:
    assert not says_nothing(subject)


@pytest.mark.parametrize(
    "subject", ["v1.2.3", "Bump x from 1 to 2", "Release 2.0", "Prepare for release", "Update dependency x to v3"]
)
def test_version_bumps(subject: str) -> None:
    assert is_version_bump(subject)
    assert not is_version_bump("Release the lock on failure")


def test_reverts_name_their_commit() -> None:
    assert reverted_sha('Revert "x"\n\nThis reverts commit 0123456789abcdef0123456789abcdef01234567.') == (
        "0123456789abcdef0123456789abcdef01234567"
    )


@pytest.mark.parametrize(
    ("text", "commit_type", "kind"),
    [
        ("Sanitize file names", "feature", "security"),
        ("Prevent data loss on shutdown", "bugfix", "data_loss"),
        ("Fix the exit code", "feature", "bug"),
        ("Add a flag", "chore", "feature"),
        ("Widen the column", "performance", "performance"),
        ("Document the flag", "feature", "docs"),
    ],
)
def test_kinds(text: str, commit_type: str, kind: str) -> None:
    assert kind_of(text, commit_type) == kind


def test_a_huge_message_is_read_quickly() -> None:
    read("Fix it all\n\n" + "[" * 200_000 + "- " * 100_000)
    assert not says_nothing("fix " * 5_000 + "parser")
