"""Secrets and addresses are found; what only looks like them is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from flywheel.base.errors import DamagedError
from flywheel.base.redact import EMAIL, findings
from flywheel.data.authors import author_key, pseudonym

if TYPE_CHECKING:
    from pathlib import Path

SECRETS = {
    "AWS Access Key": "key = " + "AKIA" + "IOSFODNN7ABCDEFG",
    "GitHub Token": "token ghp_" + "aB3" * 12,
    "Private Key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "Basic Auth Credentials": "https://user:" + "s3cr3t@host.org/",
    "Secret Keyword": "password = '" + "correct-horse-9'",
}


@pytest.mark.parametrize("kind", SECRETS)
def test_secrets(kind: str) -> None:
    assert kind in findings(f"plain line\n{SECRETS[kind]}\nanother")


@pytest.mark.parametrize(
    "text",
    [
        "from foo import bar",
        "self.password = password",
        "token = get_token(request)",
        "sha = 'd6f8a6b5c3e2f1a0987654321fedcba987654321'",
        "git@github.com:owner/name.git",
        "mail someone@example.com or x@y.test",
        "see 8.8.8.8",
        "@decorator.method",
        "+@pytest.mark.slow",
        "-@click.command()",
    ],
)
def test_harmless(text: str) -> None:
    assert findings(text) == set()


def test_addresses() -> None:
    assert findings("write to Jane.Doe+x@corp.co.uk please") == {EMAIL}


def test_a_long_line_is_searched_whole() -> None:
    assert "AWS Access Key" in findings("x " * 6_000 + SECRETS["AWS Access Key"])


def test_pseudonyms_depend_on_key_and_address_alone(tmp_path: Path) -> None:
    key = author_key(tmp_path)
    assert author_key(tmp_path) == key
    assert pseudonym("A@B.org", key) == pseudonym(" a@b.org ", key)
    assert pseudonym("a@b.org", key) != pseudonym("c@b.org", key)
    assert pseudonym("a@b.org", key) != pseudonym("a@b.org", b"0" * 32)


@pytest.mark.parametrize("content", ["", "zz", "abcd"])
def test_a_damaged_key_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / ".author_key").write_text(content)
    with pytest.raises(DamagedError, match="remove it"):
        author_key(tmp_path)
