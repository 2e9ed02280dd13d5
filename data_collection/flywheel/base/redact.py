"""The one door to detect-secrets: does a text hold a secret or somebody's e-mail address?

Nothing is verified over a network: only the detectors' patterns and entropy are used.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from detect_secrets.plugins.base import BasePlugin

EMAIL = "email address"
KEYWORD = "Secret " + "Keyword"
MAIL = re.compile(
    r"(?<![\w./-])[a-z0-9][\w.+-]{0,63}@((?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,18})(?![\w@])", re.IGNORECASE
)
# Reserved for examples (RFC 2606), and addresses that are no person's.
NOBODY = re.compile(
    r"(?:^|\.)(?:example(?:\.\w+)?|test|invalid|localhost|local)$|^users\.noreply\.github\.com$", re.IGNORECASE
)
NO_MAILBOX = re.compile(r"^(?:git|hg|svn|noreply|no-reply)@", re.IGNORECASE)
HASH = re.compile(r"[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64}|[0-9a-f-]{36}")
# These two need more than a pattern: addresses of public resolvers and plain words are no secrets.
PASSED_OVER = frozenset({"Public IP (ipv4)"})
MAX_LINE = 4_000
CACHED_LINES = 1 << 15


@lru_cache(maxsize=1)
def _detectors() -> tuple[BasePlugin, ...]:
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class

    kinds = get_mapping_from_secret_type_to_class()
    return tuple(kinds[name]() for name in sorted(kinds) if name not in PASSED_OVER)


def _is_noise(detector: BasePlugin, value: str, line: str) -> bool:
    """A value that no reader would take for a secret: too little entropy, a hash or id, a template, a reference."""
    from detect_secrets.filters import heuristic

    limit = getattr(detector, "entropy_limit", None)
    if limit is not None:
        entropy = detector.calculate_shannon_entropy(value)
        if entropy <= limit or HASH.fullmatch(value) or heuristic.is_sequential_string(value):
            return True
    if detector.secret_type == KEYWORD:
        return heuristic.is_indirect_reference(line) or heuristic.is_templated_secret(value) or len(set(value)) < 5
    return False


def _mail(line: str) -> bool:
    return any(not NOBODY.search(m[1]) and not NO_MAILBOX.match(m[0]) for m in MAIL.finditer(line))


@lru_cache(maxsize=CACHED_LINES)
def _kinds(line: str) -> frozenset[str]:
    found = {
        detector.secret_type
        for detector in _detectors()
        for value in detector.analyze_string(line)
        if not _is_noise(detector, str(value), line)
    }
    return frozenset(found | {EMAIL} if _mail(line) else found)


def _parts(text: str) -> Iterator[str]:
    for line in text.splitlines():
        for start in range(0, len(line), MAX_LINE):
            yield line[start : start + MAX_LINE]


def findings(text: str) -> set[str]:
    """The kinds of secrets in `text` (`AWS Access Key`, `email address` ...); empty when there are none."""
    return {kind for part in _parts(text) if part.strip() for kind in _kinds(part)}
