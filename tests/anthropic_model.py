"""A language model on 127.0.0.1 that speaks Anthropic's Messages protocol and keeps a prompt cache as Anthropic does.

A prefix that a request marks with cache_control is written on its first use and read from then on, if it is long
enough; tokens are characters / 4. `usages` holds what was told of every answer.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.loopback import LoopbackModel

if TYPE_CHECKING:
    from tests.loopback import Prompt

CACHEABLE_TOKENS = 20


class LoopbackAnthropic(LoopbackModel):
    """The server; see LoopbackModel."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.usages: list[dict[str, int]] = []
        self._cache: set[str] = set()

    def _completion(self, prompt: Prompt) -> dict[str, Any]:
        text = prompt.written(self.answer(prompt))
        blocks = _blocks(prompt.body)
        marks = [number for number, block in enumerate(blocks) if "cache_control" in block]
        prefixes = {n: json.dumps([block["text"] for block in blocks[: n + 1]]) for n in marks}
        sizes = {n: sum(len(block["text"]) for block in blocks[: n + 1]) // 4 for n in marks}
        known = [n for n in marks if prefixes[n] in self._cache]
        read = sizes[known[-1]] if known else 0
        stored = [n for n in marks if sizes[n] >= CACHEABLE_TOKENS]
        written = sizes[stored[-1]] - read if stored else 0
        self._cache.update(prefixes[n] for n in stored)
        whole = sum(len(block["text"]) for block in blocks) // 4
        usage = {
            "input_tokens": whole - read - written,
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": written,
            "output_tokens": len(text) // 4,
        }
        self.usages.append(usage)
        body = {"id": "m", "type": "message", "role": "assistant", "model": prompt.body["model"], "usage": usage}
        return {**body, "stop_reason": "end_turn", "content": [{"type": "text", "text": text}]}


def _blocks(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The request's text blocks in the order in which a prefix of them is cached."""
    contents = [body.get("system", ""), *(message["content"] for message in body["messages"])]
    return [
        block
        for content in contents
        for block in ([{"type": "text", "text": content}] if isinstance(content, str) else content)
    ]
