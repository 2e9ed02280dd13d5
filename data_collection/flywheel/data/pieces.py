"""A commit's diff cut into pieces that can be shown or withheld: whole definitions, and what lies between them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flywheel.base.text import visible
from flywheel.data.definitions import Definition, definition, first_sentence, indent_of, mentions
from flywheel.data.sources import language

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from flywheel.data.diffs import FileDiff, Hunk

MAX_EXCERPT = 1_600
MAX_LINE = 200
CONTEXT = 3
FUNCTIONS = frozenset({"function", "method", "test"})
CONTAINERS = frozenset({"class", "module", "trait", "interface"})
LEADS = ("@", "#", "//", "/*", "*", "*/")


@dataclass(frozen=True)
class Fact:
    """A thing that a piece adds or removes; `piece` is the index of the piece that shows it."""

    definition: Definition
    path: str
    piece: int
    doc: str = ""
    removed: bool = False

    @property
    def name(self) -> str:
        """The identifier that must be seen for the fact to be seen."""
        return self.definition.name


@dataclass(frozen=True)
class Piece:
    """Lines of one hunk that are shown or withheld together; signs stand before the lines."""

    index: int
    path: str
    status: str
    hunk: int
    heading: str
    lines: tuple[str, ...]

    @property
    def added(self) -> list[str]:
        """The added lines, without their sign."""
        return [line[1:] for line in self.lines if line.startswith("+")]

    @property
    def changed(self) -> int:
        """How many lines are added or removed, blank ones aside."""
        return sum(line[:1] in {"+", "-"} and bool(line[1:].strip()) for line in self.lines)


def _ends_block(line: str, block: Definition) -> bool:
    """Whether a line stands after the block (closing brackets still belong to it)."""
    body = line.strip()
    if block.what == "section":
        return body.startswith("#") and body.index(" ") <= block.indent if re.match(r"#{1,6} ", body) else False
    outside = bool(body) and indent_of(line) <= block.indent
    return outside and body[0] not in ")}]{" and body not in {"end", "fi", "done"}


def _block_end(lines: Sequence[str], start: int, block: Definition) -> tuple[int, bool]:
    """(index after the added block that starts at `start`, whether it is there to its end)."""
    index = start + 1
    while index < len(lines) and lines[index].startswith("+") and not _ends_block(lines[index][1:], block):
        index += 1
    following = [line[1:] for line in lines[index:] if not line.startswith("-") and line[1:].strip()]
    whole = not following or _ends_block(following[0], block)
    return index, whole and index - start > 1


def _is_enclosed(lines: Sequence[str], index: int, indent: int, path: str) -> bool:
    """Whether the line stands inside a function that the same lines show: then it is a detail of that one."""
    spoken = language(path)
    for line in reversed(lines[:index]):
        if line.startswith("-") or not line[1:].strip() or indent_of(line[1:]) >= indent:
            continue
        indent = indent_of(line[1:])
        found = definition(line[1:], spoken, path)
        if found and found.what in FUNCTIONS:
            return True
    return False


def _is_heading(lines: Sequence[str], index: int) -> bool:
    """A heading has blank lines around it; `# words` elsewhere is a comment in a code block."""
    around = (*lines[max(0, index - 1) : index], *lines[index + 1 : index + 2])
    return not any(line[1:].strip() for line in around)


def _defined(lines: Sequence[str], index: int, path: str) -> Definition | None:
    """What the line at `index` defines on its own account."""
    found = definition(lines[index][1:], language(path), path)
    if found is None:
        return None
    if found.what == "section":
        return found if path.endswith(".toml") or _is_heading(lines, index) else None
    return None if found.is_block and found.indent and _is_enclosed(lines, index, found.indent, path) else found


def _lead_start(lines: Sequence[str], start: int, floor: int) -> int:
    """Where the decorators and comments right above the definition begin."""
    while start > floor and lines[start - 1].startswith("+") and lines[start - 1][1:].strip().startswith(LEADS):
        start -= 1
    return start


def trimmed(lines: Sequence[str], context: int = CONTEXT) -> list[str]:
    """The hunk with at most `context` unchanged lines before its first and after its last change."""
    changes = [index for index, line in enumerate(lines) if line[:1] in {"+", "-"}]
    if not changes:
        return []
    return list(lines[max(0, changes[0] - context) : changes[-1] + context + 1])


def _spans(lines: Sequence[str], path: str) -> list[tuple[int, int]]:
    """The hunk's lines as consecutive (start, end) spans, each whole added definition one of its own."""
    spans, begin, index = [], 0, 0
    while index < len(lines):
        found = _defined(lines, index, path) if lines[index].startswith("+") else None
        if found is None or not found.is_block:
            index += 1
            continue
        end, whole = _block_end(lines, index, found)
        # A class too long to be shown in one piece is cut into its methods.
        if not whole or (found.what in CONTAINERS and sum(map(len, lines[index:end])) > MAX_EXCERPT // 2):
            index += 1
            continue
        start = _lead_start(lines, index, begin)
        spans += [(begin, start), (start, end)]
        begin = index = end
    return [(a, b) for a, b in [*spans, (begin, len(lines))] if b > a]


def _shortened(line: str) -> str:
    return line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]}…"


def _cut(file: FileDiff, hunk: Hunk, number: int, first: int) -> list[Piece]:
    lines = [_shortened(visible(line)) for line in trimmed(hunk.lines)]
    return [
        Piece(first + n, file.path, file.status, number, visible(hunk.heading), tuple(lines[a:b]))
        for n, (a, b) in enumerate(_spans(lines, file.path))
    ]


def cut(files: Iterable[FileDiff]) -> list[Piece]:
    """The pieces of a diff, in its order; pieces without any change (context alone) are kept with their neighbours."""
    pieces: list[Piece] = []
    for file in files:
        for number, hunk in enumerate(file.hunks):
            pieces += _cut(file, hunk, number, len(pieces))
    return pieces


def _header(piece: Piece) -> str:
    old = "/dev/null" if piece.status == "A" else f"a/{visible(piece.path)}"
    new = "/dev/null" if piece.status == "D" else f"b/{visible(piece.path)}"
    return f"--- {old}\n+++ {new}"


def render(pieces: Iterable[Piece]) -> str:
    """The pieces as a diff without line counts, so that nothing tells whether some were left out."""
    out: list[str] = []
    path, hunk = None, None
    for piece in pieces:
        if piece.path != path:
            out.append(_header(piece))
            path, hunk = piece.path, None
        if piece.hunk != hunk:
            out.append(f"@@ {piece.heading}".rstrip())
            hunk = piece.hunk
        out.extend(piece.lines)
    return "\n".join(out)


def excerpt(pieces: Sequence[Piece], first: Collection[int]) -> list[Piece]:
    """Pieces to show in at most MAX_EXCERPT characters, in the diff's order; those numbered in `first` go first."""
    chosen: list[Piece] = []
    for piece in sorted(pieces, key=lambda p: (p.index not in first, p.index)):
        if not piece.changed:
            continue
        candidate = sorted([*chosen, piece], key=lambda p: p.index)
        if len(render(candidate)) <= MAX_EXCERPT:
            chosen = candidate
    return chosen


def _is_open(piece: Piece, following: Piece | None, found: Definition) -> bool:
    """Whether the definition goes on in the next piece: a class so long that its methods became pieces."""
    if following is None or following.path != piece.path or following.hunk != piece.hunk:
        return False
    first = next((line[1:] for line in following.lines if line[1:].strip()), "")
    return found.is_block and indent_of(first) > found.indent


def _fact(piece: Piece, number: int, following: Piece | None) -> Fact | None:
    found = _defined(piece.lines, number, piece.path)
    if found is None or _is_open(piece, following, found):
        return None
    if found.is_block and not _block_end(piece.lines, number, found)[1]:
        return None
    lines = [line[1:] for line in piece.lines]
    return Fact(found, piece.path, piece.index, visible(first_sentence(lines, number, language(piece.path))))


def added_facts(pieces: Sequence[Piece]) -> list[Fact]:
    """What the diff adds that was not there before: each name once, and none that some line of the diff removes."""
    old = "\n".join(line[1:] for p in pieces for line in (*p.lines, f" {p.heading}") if not line.startswith("+"))
    facts: dict[str, Fact] = {}
    for piece, following in zip(pieces, [*pieces[1:], None], strict=True):
        for number, line in enumerate(piece.lines):
            fact = _fact(piece, number, following) if line.startswith("+") else None
            if fact and fact.name not in facts and not mentions(old, fact.name):
                facts[fact.name] = fact
    return list(facts.values())


def removed_facts(pieces: Sequence[Piece]) -> list[Fact]:
    """The definitions that the diff takes away for good: no remaining line of it has their names."""
    left = "\n".join(line[1:] for p in pieces for line in (*p.lines, f" {p.heading}") if not line.startswith("-"))
    facts: dict[str, Fact] = {}
    for piece in pieces:
        for line in piece.lines:
            found = definition(line[1:], language(piece.path), piece.path) if line.startswith("-") else None
            if found and found.is_block and found.name not in facts and not mentions(left, found.name):
                facts[found.name] = Fact(found, piece.path, piece.index, removed=True)
    return list(facts.values())
