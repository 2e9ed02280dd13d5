"""What kind of work a commit is, and what kind of requirement a sentence is."""

from __future__ import annotations

import re

TYPES = {
    "feat": "feature", "feature": "feature", "fix": "bugfix", "bugfix": "bugfix", "hotfix": "bugfix", "bug": "bugfix",
    "perf": "performance", "performance": "performance", "docs": "docs", "doc": "docs", "test": "tests",
    "tests": "tests", "refactor": "refactor", "refac": "refactor", "style": "refactor", "build": "build",
    "ci": "build", "deps": "build", "chore": "chore", "security": "security", "sec": "security", "revert": "revert",
}  # fmt: skip
TYPE_NAMES = tuple(dict.fromkeys(TYPES.values()))
_FEATURE_VERBS = (
    "add|implement|support|allow|introduce|enable|provide|expose|create|extend|accept|forward|make|warn|validate|"
    "report|show|improve|emit|print|display|let|give"
)
_FIX_VERBS = "fix|correct|repair|resolve|prevent|avoid|handle|do not|ensure|preserve|restore|respect|honou?r|escape"
_REFACTOR_VERBS = "refactor|rename|move|extract|simplify|clean|reorgani[sz]e|split|inline|remove|drop|unify|use"
TYPE_BY_WORDS = (
    ("security", r"\b(?:security|vulnerab\w*|cve-\d+|xss|csrf|injection|sanitiz\w*|redos|path traversal)\b"),
    ("performance", r"\b(?:performance|faster|speed up|optimi[sz]e\w*|perf|slow|latency|memory usage)\b"),
    ("tests", r"^(?:test|cover)\b|^(?:add|update|fix|improve|extend)\b.*\b(?:tests|test cases?|unit test)\b"),
    ("docs", r"^document\b|\b(?:docs?|documentation|readme|docstrings?|changelog|typos?|comments?)\b"),
    ("bugfix", rf"^(?:{_FIX_VERBS})\b|\b(?:crash\w*|bug|regression)\b"),
    ("build", r"\b(?:ci|github actions?|workflow|dockerfile|pre-commit|packaging|pyproject|makefile|dependenc\w+)\b"),
    ("refactor", rf"^(?:{_REFACTOR_VERBS})\b"),
    ("feature", rf"^(?:{_FEATURE_VERBS})\b"),
)
KIND_BY_TYPE = {
    "feature": "feature", "bugfix": "bug", "performance": "performance", "docs": "docs", "tests": "test",
    "refactor": "chore", "build": "chore", "chore": "chore", "security": "security",
}  # fmt: skip
KIND_BY_WORDS = (
    ("security", TYPE_BY_WORDS[0][1]),
    ("data_loss", r"\b(?:data loss|los(?:e|es|ing|t) data|corrupt\w*|overwrit\w+ (?:files?|data))\b"),
    ("usability", r"\b(?:error messages?|help text|usability|user-friendly|clearer|readab\w+|warning messages?)\b"),
)


def type_of(declared: str, subject: str) -> str:
    """The commit's type: as declared (`feat:`), else by the subject's words."""
    if declared in TYPES:
        return TYPES[declared]
    lowered = subject.lower()
    return next((name for name, pattern in TYPE_BY_WORDS if re.search(pattern, lowered)), "chore")


def kind_of(text: str, commit_type: str) -> str:
    """The requirement's kind: by tell-tale words, else by its own verb, else by the commit's type."""
    lowered = text.lower()
    told = next((kind for kind, pattern in KIND_BY_WORDS if re.search(pattern, lowered)), None)
    own = type_of("", text) if text else "chore"
    return told or KIND_BY_TYPE.get(commit_type if own == "chore" else own, "chore")
