"""Files by their paths: which are worth mining, in which language, for what (code, tests, docs, build)."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from flywheel.base.text import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

LANGUAGE_BY_SUFFIX = {
    ".py": "python", ".pyi": "python", ".js": "javascript", ".jsx": "javascript", ".mjs": "javascript",
    ".cjs": "javascript", ".ts": "typescript", ".tsx": "typescript", ".mts": "typescript", ".rs": "rust", ".go": "go",
    ".java": "java", ".kt": "kotlin", ".cs": "csharp", ".c": "c", ".h": "c", ".cc": "c", ".cpp": "c", ".hpp": "c",
    ".rb": "ruby", ".sh": "shell", ".bash": "shell", ".md": "markdown", ".rst": "rst", ".toml": "toml",
    ".ini": "toml", ".cfg": "toml", ".yaml": "yaml", ".yml": "yaml", ".sql": "sql",
}  # fmt: skip
_CODE = "python javascript typescript rust go java kotlin csharp c ruby shell sql"
CODE = frozenset(_CODE.split())
BRACES = CODE - {"python", "ruby", "sql"}
VENDORED = re.compile(
    r"(?:^|/)(?:vendor(?:ed)?|third[_-]?party|node_modules|bower_components|dist|site-packages|external|_vendor|"
    r"generated|__generated__|__snapshots__|fixtures|testdata)/",
    re.IGNORECASE,
)
GENERATED = re.compile(
    r"(?:\.min\.(?:js|css)|\.map|\.snap|\.lock|-lock\.(?:json|ya?ml)|\.sum|_pb2(?:_grpc)?\.pyi?|\.pb\.(?:go|cc|h)|"
    r"\.generated\.\w+|_generated\.\w+|\.g\.(?:cs|dart)|\.svg|\.csv|\.po|\.pot|\.ipynb|npm-shrinkwrap\.json|"
    r"(?:^|/)(?:changelog|changes|history|news|authors|contributors|license)(?:\.\w+)?)$",
    re.IGNORECASE,
)
TESTS = re.compile(
    r"(?:^|/)(?:tests?|spec|__tests__|testing)/|(?:^|/)(?:test_[^/]*|[^/]*[_.](?:test|spec)\.\w+|conftest\.py)$"
)
DOCS = re.compile(r"(?:^|/)docs?/|\.(?:md|rst|txt|adoc)$", re.IGNORECASE)
BUILD = re.compile(
    r"(?:^|/)(?:\.github|\.circleci|\.ci|ci|build|scripts)/|(?:^|/)(?:Dockerfile|Makefile|pyproject\.toml|setup\.(?:py|cfg)|"
    r"package\.json|Cargo\.toml|go\.mod|tox\.ini|\.pre-commit-config\.yaml|\.gitlab-ci\.yml|CMakeLists\.txt)$"
)
API = re.compile(
    r"(?:^|/)(?:apis?|routes?|endpoints?|handlers?|controllers?|views|graphql|rpc)(?:/|\.\w+$)", re.IGNORECASE
)


@lru_cache(maxsize=4096)
def language(path: str) -> str:
    """The language by the path's suffix; empty when unknown."""
    return LANGUAGE_BY_SUFFIX.get(PurePosixPath(path).suffix.lower(), "")


def is_machine_made(path: str) -> bool:
    """Generated, vendored, locked, minified, data or a changelog: nobody's work to learn from."""
    return VENDORED.search(path) is not None or GENERATED.search(path) is not None


def role(path: str) -> str:
    """`tests`, `docs`, `build`, `api` or `code`."""
    for name, pattern in (("tests", TESTS), ("docs", DOCS), ("build", BUILD), ("api", API)):
        if pattern.search(path):
            return name
    return "code"


def matches(path: str, patterns: Sequence[str]) -> bool:
    """Whether a pattern such as `*.py`, `src/*` or `docs` fits the path, its file name or a folder it is in."""
    name = PurePosixPath(path).name
    return any(
        fnmatchcase(path, pattern) or fnmatchcase(name, pattern) or path.startswith(pattern.rstrip("/") + "/")
        for pattern in patterns
    )


def wanted(path: str, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Whether the path is to be mined at all; one that cannot be shown as it is (control characters) never is."""
    if (
        visible(path) != path
        or {"\n", "\t"} & set(path)
        or is_machine_made(path)
        or (exclude and matches(path, exclude))
    ):
        return False
    return not include or matches(path, include)


def category(commit_type: str, paths: Sequence[str]) -> str:
    """What kind of work this is: by its files where all are of one role, else by the commit's type."""
    roles = {role(path) for path in paths}
    for name in ("tests", "docs", "build"):
        if roles == {name}:
            return name
    if commit_type in {"feature", "chore"} and "api" in roles:
        return "api"
    return "maintenance" if commit_type == "chore" else commit_type
