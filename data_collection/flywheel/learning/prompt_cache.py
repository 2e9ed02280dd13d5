"""Prompt caching at the provider: the long beginning that many calls share is paid for once, and then read cheaply.

Anthropic caches up to a mark, which costs a quarter more to write and a tenth to read; prefixes that are too short it
leaves alone. OpenAI and others cache by themselves, and only their counts are read.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from dspy.lm15 import CacheConfig

from flywheel.learning.stages import PREFLIGHT, PROPOSAL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MARKED = "anthropic/"
# With one of these set DSPy goes another way to the provider, on which no mark can be set.
_GATEWAYS = ("ANTHROPIC_API_BASE", "ANTHROPIC_BASE_URL")


def marked(
    model: str, stage: str, options: Mapping[str, Any], messages: Sequence[Mapping[str, Any]] | None
) -> CacheConfig | None:
    """Where to mark the end of what calls of one program share: its instructions and demonstrations, not the question.

    None where there is nothing to mark, no way to, or no second call that would gain: no two proposals are alike.
    """
    if not messages or not model.startswith(_MARKED) or any(os.environ.get(name) for name in _GATEWAYS):
        return None
    if stage in {PREFLIGHT, PROPOSAL}:
        return None
    if options.get("response_format") is not None:
        # With what Anthropic's own protocol lacks, DSPy goes that other way too.
        return None
    asked = sum(message["role"] != "system" for message in messages)
    return CacheConfig(prefix_until_index=asked - 2) if asked > 1 else CacheConfig(prefix="stable")
