"""Secrets taken out of texts before they are alerted, logged or stored. Cheap: no scanner is loaded for it."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flywheel.base.text import visible

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flywheel.ops.findings import Finding

HIDDEN = "[hidden]"
SHORTEST = 6
_NAMES = re.compile(r"(?:_KEY|_TOKEN|_PASSWORD|_SECRET|PASSWD)$")
_SHAPES = re.compile(
    r"\bsk-[\w-]{12,}|\bxox[a-z]-[\w-]{10,}|\bgh[pousr]_\w{20,}|\bAKIA[0-9A-Z]{16}\b|\bAIza[\w-]{30,}"
    r"|(?<=Bearer )[\w.~+/-]{8,}=*|(?<=hooks\.slack\.com/services/)[\w/]+|(?<=://)[^\s/@:]+:[^\s/@]+(?=@)"
)


class Scrubber:
    """Knows the secrets by value (the configuration's and the environment's) and by shape (keys of known services)."""

    def __init__(self, secrets: Iterable[str]) -> None:
        environment = (value for name, value in os.environ.items() if _NAMES.search(name))
        known = {value for value in (*secrets, *environment) if len(value) >= SHORTEST}
        self._known = sorted(known, key=len, reverse=True)

    def text(self, text: str) -> str:
        """`text` with every secret replaced, and without characters that cannot be seen or written."""
        text = visible(text)
        for secret in self._known:
            text = text.replace(secret, HIDDEN)
        return _SHAPES.sub(HIDDEN, text)

    def value(self, value: Any) -> Any:
        """A JSON value with every secret replaced in its texts."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {key: self.value(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.value(item) for item in value]
        return value

    def finding(self, finding: Finding) -> Finding:
        """The finding with every secret replaced; who it is about stays, so that its fingerprint does."""
        return replace(finding, message=self.text(finding.message), facts=self.value(finding.facts))
