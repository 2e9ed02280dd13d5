"""Scenarios from what a commit adds and removes: all of it shown, some of it withheld, or somebody else's work."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flywheel.data.commits import Message, stated
from flywheel.data.definitions import mentions
from flywheel.data.kinds import KIND_BY_TYPE, kind_of
from flywheel.data.pieces import Fact, Piece, added_facts, cut, excerpt, removed_facts, render
from flywheel.data.scenario import Requirement, Scenario
from flywheel.data.sources import category, role

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from flywheel.data.diffs import FileDiff
    from flywheel.data.git import Commit

SOURCE = "git"
SETTLED = frozenset({"docs", "tests", "build"})
MAX_FACTS = 6
MAX_SETTINGS = 1
MAX_INCOMPLETE = 3
MAX_SNIPPET_LINES = 40
MIN_SHOWN_CHANGES = 3
MAX_FILES_NAMED = 6
# How hard a delivery is to judge: points for requirements, for those missing, and for shown lines.
EASY_POINTS, MEDIUM_POINTS = 2, 5
LINES_PER_POINT, CONTEXT_PER_POINT = 25, 300
ARTICLES = {"option": "the command-line option", "setting": "the setting", "section": "the section"}
MISSING_KINDS = {"test": "test", "section": "docs", "setting": "chore"}


@dataclass(frozen=True)
class Work:
    """A commit with what it says and does, as far as it is to be mined."""

    commit: Commit
    message: Message
    files: tuple[FileDiff, ...]
    pieces: tuple[Piece, ...]
    facts: tuple[Fact, ...]
    provenance: Mapping[str, Any]

    @property
    def group(self) -> str:
        """What must not straddle a split: the pull request, else the commit."""
        number = self.message.pull_request
        return f"pr:{number}" if number else f"commit:{self.commit.sha[:12]}"

    @property
    def paths(self) -> list[str]:
        """The paths of the mined files."""
        return [file.path for file in self.files]

    @property
    def category(self) -> str:
        """What kind of work it is."""
        return category(self.message.type, self.paths)

    def described(self, **facts: object) -> dict[str, Any]:
        """The provenance of one example: the commit's, and what makes the label true."""
        return {**self.provenance, "evidence": facts}


def _few(facts: list[Fact]) -> list[Fact]:
    """The facts worth asking for: blocks first, few settings."""
    blocks = [fact for fact in facts if fact.definition.what != "setting"]
    settings = [fact for fact in facts if fact.definition.what == "setting"]
    kept = [*blocks, *settings[:MAX_SETTINGS]][:MAX_FACTS]
    return [fact for fact in facts if fact in kept]


def work(commit: Commit, message: Message, files: tuple[FileDiff, ...], provenance: Mapping[str, Any]) -> Work:
    """The commit's diff cut up and searched for facts."""
    pieces = cut(files)
    facts = _few([*added_facts(pieces), *removed_facts(pieces)])
    return Work(commit, message, files, tuple(pieces), tuple(facts), provenance)


def _files_line(paths: Sequence[str]) -> str:
    more = len(paths) - MAX_FILES_NAMED
    return ", ".join(paths[:MAX_FILES_NAMED]) + (f" and {more} more" if more > 0 else "")


def _context(item: Work) -> str:
    bullets = "\n".join(f"- {bullet}" for bullet in item.message.bullets)
    parts = [item.message.body, bullets, f"Files: {_files_line(item.paths)}"]
    return "\n\n".join(part for part in parts if part)


def _stated(item: Work) -> tuple[Requirement, ...]:
    return tuple(Requirement(text, _kind(item, text)) for text in stated(item.message))


def _kind(item: Work, text: str) -> str:
    """The requirement's kind; work on documents, tests or build files alone is that, whatever its words."""
    settled = item.category if item.category in SETTLED else ""
    return KIND_BY_TYPE[settled] if settled else kind_of(text, item.message.type)


def _phrase(fact: Fact) -> str:
    what = fact.definition.what
    if fact.removed:
        return f"Remove the {what} `{fact.name}` from {fact.path}"
    article = ARTICLES.get(what) or f"{'an' if what[0] in 'aeiou' else 'a'} {what}"
    told = f": {fact.doc}" if fact.doc else ""
    return f"Add {article} `{fact.name}` to {fact.path}{told}"


def _snippet(item: Work, fact: Fact) -> str:
    piece = item.pieces[fact.piece]
    if fact.removed:
        return ""
    return textwrap.dedent("\n".join(piece.added[:MAX_SNIPPET_LINES])).strip("\n")


def _requirement(item: Work, fact: Fact, *, met: bool) -> Requirement:
    what = fact.definition.what
    kind = "test" if role(fact.path) == "tests" else MISSING_KINDS.get(what) or kind_of("", item.message.type)
    snippet = "" if met else _snippet(item, fact)
    return Requirement(_phrase(fact), kind, met=met, stated=False, where=fact.path, snippet=snippet)


def _difficulty(requirements: Sequence[Requirement], implementation: str) -> str:
    missing = sum(r.met is False for r in requirements)
    points = len(requirements) + max(0, missing - 1) + len(implementation.splitlines()) // LINES_PER_POINT
    return "easy" if points <= EASY_POINTS else "medium" if points <= MEDIUM_POINTS else "hard"


def statement(item: Work) -> Scenario | None:
    """What the message asks for, where it is clear what the whole list is."""
    requirements = _stated(item)
    if not requirements:
        return None
    context = _context(item)
    points = len(requirements) + len(context) // CONTEXT_PER_POINT
    difficulty = "easy" if points <= 1 else "medium" if points <= EASY_POINTS else "hard"
    return Scenario(
        SOURCE, item.group, item.category, difficulty, item.message.subject, context,
        requirements=requirements, provenance=item.described(stated_in="commit message", paths=item.paths),
    )  # fmt: skip


def _delivery(
    item: Work, met: Sequence[Fact], missing: Sequence[Fact], shown: str, evidence: Mapping[str, object]
) -> Scenario:
    order = {fact.name: number for number, fact in enumerate(item.facts)}
    marked = [(fact, True) for fact in met] + [(fact, False) for fact in missing]
    marked.sort(key=lambda pair: order[pair[0].name])
    checked = [_requirement(item, fact, met=is_met) for fact, is_met in marked]
    return Scenario(
        SOURCE, item.group, item.category, _difficulty(checked, shown), item.message.subject, _context(item),
        work_item=f"{item.message.subject} (in {_files_line(item.paths)})",
        implementation=shown, requirements=(*_stated(item), *checked), provenance=item.described(**evidence),
    )  # fmt: skip


def _names(facts: Sequence[Fact]) -> list[str]:
    return [fact.name for fact in facts]


def complete(item: Work) -> Scenario | None:
    """The commit with all its facts shown."""
    chosen = excerpt(item.pieces, {fact.piece for fact in item.facts})
    text = render(chosen)
    indexes = {piece.index for piece in chosen}
    met = [fact for fact in item.facts if fact.piece in indexes and mentions(text, fact.name)]
    if not met:
        return None
    evidence = {"shown": _names(met), "paths": sorted({piece.path for piece in chosen})}
    return _delivery(item, met, [], text, evidence)


def _without(item: Work, targets: Sequence[Fact]) -> Scenario | None:
    """The commit with every piece withheld that speaks of `targets`; None where their absence cannot be shown."""
    hidden = {p.index for p in item.pieces if any(mentions(_spoken(p), fact.name) for fact in targets)}
    rest = [piece for piece in item.pieces if piece.index not in hidden]
    chosen = excerpt(rest, {fact.piece for fact in item.facts})
    text = render(chosen)
    indexes = {piece.index for piece in chosen}
    met = [fact for fact in item.facts if fact.piece in indexes and mentions(text, fact.name)]
    missing = [fact for fact in item.facts if fact.piece in hidden and not mentions(text, fact.name)]
    if not set(targets) <= set(missing) or sum(piece.changed for piece in chosen) < MIN_SHOWN_CHANGES:
        return None
    evidence = {"shown": _names(met), "withheld": _names(missing), "paths": sorted({piece.path for piece in chosen})}
    return _delivery(item, met, missing, text, evidence)


def _spoken(piece: Piece) -> str:
    return "\n".join((piece.heading, *piece.lines))


def incomplete(item: Work) -> list[Scenario]:
    """Up to MAX_INCOMPLETE ways to leave out something that the commit does."""
    facts = sorted(item.facts, key=lambda fact: (role(fact.path) == "tests", fact.removed))
    targets = [[fact] for fact in facts[: MAX_INCOMPLETE - 1]]
    if len(facts) > MAX_INCOMPLETE:
        targets.append([facts[0], facts[-1]])
    elif len(facts) == MAX_INCOMPLETE:
        targets.append([facts[-1]])
    found = [scenario for target in targets if (scenario := _without(item, target))]
    return list({scenario.implementation: scenario for scenario in found}.values())


def foreign_text(item: Work) -> str:
    """What the commit would show as the answer to somebody else's task; empty when that is too little."""
    chosen = excerpt(item.pieces, ())
    return render(chosen) if sum(piece.changed for piece in chosen) >= MIN_SHOWN_CHANGES else ""


def mismatch(item: Work, donor: Work) -> Scenario | None:
    """The commit's task answered by another commit's work that shares no file and no name with it."""
    text = foreign_text(donor)
    facts = [fact for fact in item.facts if not fact.removed]
    shared: Collection[str] = set(item.paths) & set(donor.paths)
    if not text or not facts or shared or any(mentions(text, fact.name) for fact in item.facts):
        return None
    evidence = {"withheld": _names(facts), "implementation_of": donor.commit.sha, "paths": donor.paths}
    return _delivery(item, [], facts, text, evidence)
