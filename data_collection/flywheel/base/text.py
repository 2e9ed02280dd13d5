"""Text from strangers (commits, telemetry, models) made safe to show."""

from __future__ import annotations

import re
import unicodedata

_KEPT_CONTROLS = frozenset("\n\t")
# Cc: control, Cf: format (bidi overrides, zero-width), Cs: surrogates, Co: private use.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co"})
_PLAIN = re.compile(r"[\x20-\x7e\n\t]*")


def visible(text: str) -> str:
    """`text` without control, bidi, zero-width and surrogate characters; newlines and tabs stay."""
    if _PLAIN.fullmatch(text):
        return text
    text = text.replace("\r\n", "\n")
    return "".join(c for c in text if c in _KEPT_CONTROLS or unicodedata.category(c) not in _HIDDEN)


def one_line(text: str, limit: int = 200) -> str:
    """`text` on one line of at most `limit` characters, safe for a terminal, a log or a mail subject."""
    line = " ".join(visible(text).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"
