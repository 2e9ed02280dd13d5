"""Examples: one record type from the collectors to the dataset, its id, its file formats, its schema check."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flywheel.base.errors import BadInputError
from flywheel.base.files import parse_json, read_text, to_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from flywheel.data.signatures.types import Signature

REJECTED_FILE = "rejected.jsonl"
ID_LENGTH = 24
# An example longer than this (characters of JSON) is no example but a dump; comparing such texts takes minutes.
MAX_LENGTH = 100_000
EXPECTED = "a JSON array of examples {inputs, outputs, metadata}"
# A path of this name is standard input, as for other tools.
STDIN = Path("-")


class Metadata(BaseModel):
    """What is known about an example besides its fields; further keys (commit_sha, template ...) are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")

    source: str | None = Field(default=None, min_length=1)
    difficulty: Literal["easy", "medium", "hard"] | None = None
    category: str | None = Field(default=None, min_length=1)
    quality_score: float | None = Field(default=None, ge=0, le=100)
    group: str | None = Field(default=None, min_length=1)
    notes: str | None = None
    evidence: Any = None


class Example(BaseModel):
    """One labelled example; `signature`, `id` and `split` stand in it where its file has them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    inputs: dict[str, Any]
    outputs: dict[str, Any]
    metadata: Metadata = Metadata()
    signature: str | None = None
    id: str | None = None
    split: Literal["train", "val", "test"] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The example as its files hold it: keys that are not set are left out."""
        return self.model_dump(mode="json", exclude_none=True)

    def with_metadata(self, **changes: object) -> Self:
        """A copy with metadata keys set."""
        return self.model_copy(update={"metadata": self.metadata.model_copy(update=changes)})

    def extra(self, key: str) -> Any:
        """A source's own metadata key (commit_sha, template ...); None when it has none."""
        return (self.metadata.model_extra or {}).get(key)


def canonical(value: object) -> str:
    """JSON text that is the same for equal values: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def example_id(signature: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> str:
    """24 hex digits of SHA-256 over signature, inputs and outputs: equal examples have equal ids, wherever made."""
    text = canonical([signature, inputs, outputs])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:ID_LENGTH]


@dataclass(frozen=True)
class Rejection:
    """An example that was turned away: a countable reason, what exactly, and the example itself."""

    reason: str
    detail: str
    file: str
    index: int
    example: Any

    def to_json_line(self) -> str:
        """One line of rejected.jsonl."""
        body = {"reason": self.reason, "detail": self.detail, "file": self.file, "index": self.index}
        return to_json({**body, "example": self.example}, indent=None)


@dataclass(frozen=True)
class Raw:
    """An undigested item of a file: where it stood (index from 0) and what it was."""

    file: Path
    index: int
    value: Any

    def rejected(self, reason: str, detail: str) -> Rejection:
        """This item, turned away."""
        return Rejection(reason, detail, str(self.file), self.index, self.value)


def example_files(paths: Iterable[Path]) -> list[Path]:
    """The example files among `paths`: files and `-` as they are, folders by their *.json and *.jsonl without rejects.

    Raises:
        BadInputError: a path that does not exist.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = [p for p in path.iterdir() if p.suffix in {".json", ".jsonl"} and p.name != REJECTED_FILE]
            found.extend(sorted(p for p in inside if p.is_file() and not p.name.startswith(".")))
        elif path.is_file() or path == STDIN:
            found.append(path)
        else:
            msg = f"{path}: no such file or folder"
            raise BadInputError(msg)
    return found


def read_items(path: Path) -> Iterator[Raw]:
    """The items of an example file (.jsonl: one a line; else one array), unchecked.

    Raises:
        BadInputError: unreadable or garbled; the message names file, line and what was expected.
    """
    return _items(read_text(path), path, str(path), lines=path.suffix == ".jsonl")


def read_stdin(name: str) -> Iterator[Raw]:
    """The items on standard input, an array or one a line, as if they stood in a file of that name.

    Raises:
        BadInputError: garbled.
    """
    try:
        text = sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        msg = f"stdin: not UTF-8 text (byte {error.start})"
        raise BadInputError(msg) from error
    return _items(text, Path(name), "stdin", lines=not text.lstrip().startswith("["))


def _items(text: str, path: Path, source: str, *, lines: bool) -> Iterator[Raw]:
    if lines:
        numbered = ((n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip())
        for index, (number, line) in enumerate(numbered):
            expected = "one example {inputs, outputs, metadata} a line"
            yield Raw(path, index, parse_json(line, source, expected, number))
        return
    value = parse_json(text, source, EXPECTED)
    if not isinstance(value, list):
        msg = f"{source}, line 1: expected {EXPECTED}, found {type(value).__name__}"
        raise BadInputError(msg)
    for index, item in enumerate(value):
        yield Raw(path, index, item)


def parse_example(raw: Raw) -> Example | Rejection:
    """The item as an example, or why it is none (`not_an_example`, `too_long`, `not_unicode`)."""
    length = len(canonical(raw.value))
    if length > MAX_LENGTH:
        return raw.rejected("too_long", f"{length} characters; at most {MAX_LENGTH}")
    try:
        canonical(raw.value).encode()
        return Example.model_validate(raw.value)
    except UnicodeEncodeError as error:
        return raw.rejected("not_unicode", f"half a character (a lone surrogate, {error.object[error.start]!a})")
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the item"
        return raw.rejected("not_an_example", f"{where}: {first['msg']}")


def write_examples(path: Path, examples: Sequence[Example]) -> None:
    """Write a file of examples, atomically."""
    from flywheel.base.files import write_json

    write_json(path, [example.to_dict() for example in examples])


def find_signature(raw: Raw, table: Mapping[str, Signature]) -> Signature | None:
    """The item's signature: its own `signature`, else its file's stem, else the only one whose inputs match."""
    named = raw.value.get("signature") if isinstance(raw.value, dict) else None
    if named is not None:
        return table.get(named) if isinstance(named, str) else None
    if raw.file.stem in table:
        return table[raw.file.stem]
    inputs = raw.value.get("inputs") if isinstance(raw.value, dict) else None
    if not isinstance(inputs, dict):
        return None
    matching = [s for s in table.values() if {f.name for f in s.inputs} == inputs.keys()]
    return matching[0] if len(matching) == 1 else None
