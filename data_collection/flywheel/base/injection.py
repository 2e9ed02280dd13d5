"""Does a text try to give orders to a language model that is only meant to read it?

Patterns, not understanding: they find the known phrases, the marks by which chat formats and DSPy's own prompts tell
who is speaking, and characters that nobody sees. A text without findings is not thereby harmless.
"""

from __future__ import annotations

import re

ORDER, ROLE, FIELD_MARK, HIDDEN = "order to the model", "speaker's mark", "field mark", "hidden characters"

_ABOVE = r"(?:all |any |the |your |these |of |other )*(?:previous|prior|above|earlier|preceding|foregoing|existing)"
_KINDS = (
    (
        ORDER,
        re.compile(
            rf"\b(?:ignore|disregard|forget|override|bypass)\s+{_ABOVE}\s+(?:\w+\s+)?"
            r"(?:instruction|prompt|rule|direction|message|context|guideline|text|order)s?\b"
            r"|\byou\s+are\s+now\s+(?:an?|the|in)\b"
            r"|\b(?:reveal|print|repeat|show|output)\s+(?:me\s+)?(?:your|the)\s+(?:system|hidden|initial)\s+prompt\b"
            r"|\b(?:new|updated|real)\s+(?:system\s+)?instructions?\s*:"
            r"|\b(?:give|assign|award|return|output)\s+(?:it\s+|this\s+|me\s+)?(?:a\s+|the\s+)?"
            r"(?:score|rating|grade|mark)\s+of\s+\d"
            r"|\b(?:give|award)\s+(?:it\s+|this\s+)?(?:the\s+)?(?:highest|top|maximum|full|perfect)\s+"
            r"(?:score|rating|grade|marks?)\b",
            re.IGNORECASE,
        ),
    ),
    (
        ROLE,
        re.compile(
            r"<\|(?:im_start|im_end|system|user|assistant|endoftext|eot_id|start_header_id)\|?>|\[/?INST\]|<</?SYS>>"
            r"|</?(?:system|assistant)>|^\s*#{2,}\s*(?:system|assistant)\s*:|^(?:system|assistant)\s*:\s",
            re.IGNORECASE | re.MULTILINE,
        ),
    ),
    (FIELD_MARK, re.compile(r"\[\[\s*##\s*\w+\s*##\s*\]\]")),
    # Zero-width, bidi and tag characters.
    (HIDDEN, re.compile("[\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\U000e0000-\U000e007f]")),
)


def suspicions(text: str) -> set[str]:
    """The kinds of orders and disguises found in `text`; empty when there are none."""
    return {kind for kind, pattern in _KINDS if pattern.search(text)}
