"""Small real git repositories for tests."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.com",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.com",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "HOME": os.devnull,
}
MODULE = '''"""{title} of the shop."""


def {name}_total(rows: list[dict[str, float]]) -> float:
    """Sum the amounts of all {name} rows."""
    total = 0.0
    for row in rows:
        if row["amount"] {sign} 0:
            total += row["amount"]
    return total


def {name}_label(row: dict[str, str]) -> str:
    """Name a {name} row for people."""
    return row.get("label") or "{title}"
'''
TEST = """from shop.{name} import {name}_total


def test_{name}_total_adds_up() -> None:
    assert {name}_total([{{"amount": 2.0}}, {{"amount": 3.0}}]) == 5.0
"""
NAMES = ("invoice", "refund", "voucher", "parcel", "customer", "supplier", "discount", "receipt", "warehouse", "basket")


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    return done.stdout


def commit(folder: Path, files: dict[str, str], message: str) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", message)


def build_shop(folder: Path, names: tuple[str, ...] = NAMES) -> Path:
    """A repository in which each of `names` is added with a test and, some, mended later."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    for name in names:
        title = name.capitalize()
        files = {
            f"shop/{name}.py": MODULE.format(name=name, title=title, sign=">="),
            f"tests/test_{name}.py": TEST.format(name=name),
            f"docs/{name}.md": f"# {title}\n\n## Totals of {name} rows\n\nHow amounts are added up.\n",
        }
        message = f"Add totals and labels for {name} rows\n\n- Sum the amounts of all {name} rows\n"
        commit(folder, files, message + f"- Name a {name} row for people\n- Describe {name} totals in the manual\n")
    for name in names[::2]:
        fixed = MODULE.format(name=name, title=name.capitalize(), sign="!=")
        message = f"Fix {name} totals that left out negative amounts\n\nCredit notes were skipped in {name} totals."
        commit(folder, {f"shop/{name}.py": fixed}, message)
    return folder
