"""From files of anybody's examples to checked ones, with every rejection kept and countable."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flywheel.base.text import one_line
from flywheel.data.examples import (
    STDIN,
    Example,
    Raw,
    Rejection,
    example_files,
    find_signature,
    parse_example,
    read_items,
    read_stdin,
)
from flywheel.data.schema import problems

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from flywheel.data.signatures.types import Signature


@dataclass
class Loaded:
    """What the files held: schema-valid examples by signature, rejections, and files of other signatures.

    `origins` has, for each example in `examples`, its file and its index (from 0) there.
    """

    examples: dict[str, list[Example]] = field(default_factory=dict)
    rejected: list[Rejection] = field(default_factory=list)
    rejected_by_signature: dict[str, Counter[str]] = field(default_factory=dict)
    origins: dict[str, list[tuple[Path, int]]] = field(default_factory=dict)
    passed_over: list[Path] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)

    def reject(self, signature: str | None, rejection: Rejection) -> None:
        """Keep a rejection and count it for its signature, where that is known."""
        self.rejected.append(rejection)
        if signature is not None:
            self.rejected_by_signature.setdefault(signature, Counter())[rejection.reason] += 1


def load_examples(paths: Iterable[Path], table: Mapping[str, Signature], only: Signature | None = None) -> Loaded:
    """Read and check every example of `paths`, `-` being stdin; with `only`, files of other signatures are passed over.

    Raises:
        BadInputError: a path that does not exist, or a file that is not JSON.
    """
    loaded = Loaded(files=example_files(paths))
    for path in loaded.files:
        foreign = False
        items = read_items(path) if path != STDIN else read_stdin(only.name if only is not None else "stdin")
        for raw in items:
            signature = find_signature(raw, table)
            if only is not None and signature is not None and signature.name != only.name:
                foreign = True
                continue
            _take(loaded, raw, signature)
        if foreign:
            loaded.passed_over.append(path)
    return loaded


def _take(loaded: Loaded, raw: Raw, signature: Signature | None) -> None:
    if signature is None:
        loaded.reject(None, raw.rejected("unknown_signature", _why_unknown(raw)))
        return
    parsed = parse_example(raw)
    if isinstance(parsed, Rejection):
        loaded.reject(signature.name, parsed)
        return
    problem = next(problems(signature, parsed.inputs, parsed.outputs), None)
    if problem is not None:
        loaded.reject(signature.name, raw.rejected(*problem))
        return
    loaded.examples.setdefault(signature.name, []).append(parsed)
    loaded.origins.setdefault(signature.name, []).append((raw.file, raw.index))


def _why_unknown(raw: Raw) -> str:
    named = raw.value.get("signature") if isinstance(raw.value, dict) else None
    if named is not None:
        return f"names {one_line(str(named), 80)!r}, which is not known"
    return "names none, and its inputs match no single signature"
