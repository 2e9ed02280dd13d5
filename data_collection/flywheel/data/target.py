"""One example to be found again in whatever JSON or text holds a copy of it, and to be taken out."""

from __future__ import annotations

import hashlib
import html
import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from flywheel.base.text import one_line
from flywheel.data.examples import ID_LENGTH, canonical

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from flywheel.data.signatures.types import Signature

# A text is searched for by its first so many characters: shorter ones stand in other examples too.
TELLING = 24
ERASED = "[erased]"


def inputs_digest(signature: str, inputs: Mapping[str, Any]) -> str:
    """24 hex digits of SHA-256 over the signature and its inputs: what a copy with other outputs has in common."""
    text = canonical([signature, inputs])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:ID_LENGTH]


@dataclass(frozen=True)
class Target:
    """An example by its id and its inputs' digest; `texts` are its longer texts, as long as its body is known."""

    signature: Signature
    example_id: str
    digest: str | None
    texts: tuple[str, ...] = ()

    @classmethod
    def of(cls, signature: Signature, row: Mapping[str, Any]) -> Target:
        """The target that is a dataset's row."""
        found = [text for text in _strings([row["inputs"], row["outputs"]]) if len(text) >= TELLING]
        digest = inputs_digest(signature.name, row["inputs"])
        return cls(signature, row["id"], digest, tuple(dict.fromkeys(found)))

    def is_copy(self, value: object) -> bool:
        """Whether a JSON value is the example itself, or a demonstration with its inputs."""
        if not isinstance(value, dict):
            return False
        inputs = value.get("inputs")
        if not isinstance(inputs, dict):
            names = [field.name for field in self.signature.inputs]
            if not all(name in value for name in names):
                return False
            inputs = {name: value[name] for name in names}
        named = self.example_id in (value.get("id"), value.get("example_id"))
        return named or inputs_digest(self.signature.name, inputs) == self.digest

    def without(self, value: Any) -> tuple[Any, int]:
        """The JSON value without the example; how many places were changed.

        Copies are taken out of lists, or replaced by the example's id; what is left of its texts is redacted.
        """
        if self.is_copy(value):
            return {"erased": self.example_id}, 1
        if isinstance(value, dict):
            found = {self.redacted(key): self.without(item) for key, item in value.items()}
            renamed = sum(key not in found for key in value)
            return {key: item for key, (item, _) in found.items()}, renamed + sum(count for _, count in found.values())
        if isinstance(value, list):
            kept = [self.without(item) for item in value if not self.is_copy(item)]
            return [item for item, _ in kept], len(value) - len(kept) + sum(count for _, count in kept)
        if isinstance(value, str):
            left = self.redacted(value)
            return left, int(left != value)
        return value, 0

    def redacted(self, text: str) -> str:
        """`text` with every place gone that begins like one of the example's texts, as far as it goes on like it."""
        if len(text) < TELLING:
            return text
        for head, forms in self._spellings.items():
            begin = text.find(head)
            while begin >= 0:
                # Spellings that begin alike differ from their first quote on.
                end = begin + max(_common(text, begin, form) for form in forms)
                text = text[:begin] + ERASED + text[end:]
                begin = text.find(head, begin + len(ERASED))
        return text

    @cached_property
    def _spellings(self) -> dict[str, list[str]]:
        """The texts as files of ours spell them, by their first characters.

        The most escaped come first: what is not escaped stands in the others too, but for a backslash.
        """
        found: dict[str, list[str]] = {}
        for spell in (_escaped_twice, _escaped, _html, _plain):
            for text in self.texts:
                for form in (form for line in (text, one_line(text, len(text) + 1)) for form in spell(line)):
                    if len(form) >= TELLING:
                        found.setdefault(form[:TELLING], []).append(form)
        return found


def _plain(text: str) -> list[str]:
    return [text]


def _escaped(text: str) -> list[str]:
    return [json.dumps(text, ensure_ascii=ascii_only)[1:-1] for ascii_only in (False, True)]


def _escaped_twice(text: str) -> list[str]:
    return [twice for once in _escaped(text) for twice in _escaped(once)]


def _html(text: str) -> list[str]:
    """As the standard library and as report templates escape it."""
    escaped = html.escape(text)
    return [escaped, escaped.replace("&#x27;", "&#39;").replace("&quot;", "&#34;")]


def _common(text: str, begin: int, form: str) -> int:
    length = TELLING
    while length < len(form) and text[begin + length : begin + length + 1] == form[length]:
        length += 1
    return length


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)
