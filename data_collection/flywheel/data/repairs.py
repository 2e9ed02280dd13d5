"""Scenarios about code: what a fix found and left behind, and accepted functions with a fault put in."""

from __future__ import annotations

import hashlib
import re
import textwrap
from dataclasses import replace
from typing import TYPE_CHECKING

from flywheel.base.text import one_line, visible
from flywheel.data.commits import says_nothing, sentences
from flywheel.data.definitions import definition, mentions
from flywheel.data.deliveries import SOURCE, Work
from flywheel.data.imperatives import imperative
from flywheel.data.mutations import Mutation, is_whole, mutations
from flywheel.data.scenario import Defect, Scenario
from flywheel.data.sources import BRACES, CODE, language, role

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flywheel.data.diffs import FileDiff, Hunk
    from flywheel.data.pieces import Fact

FIX_TYPES = frozenset({"bugfix", "security"})
MAX_FIX_FILES, MAX_FIX_HUNKS = 2, 3
MIN_LINES, MAX_LINES, MAX_CODE = 4, 60, 2_500
MAX_MUTATED = 2
MAX_WIDTH = 200
EASY_LINES, HARD_LINES, MANY_CHANGES = 16, 36, 12
EVERYTHING = "*"
FAULT = re.compile(
    r"\b(?:crash\w*|rais(?:e|es|ed)|fail(?:s|ed|ing|ure)?|wrong(?:ly)?|incorrect(?:ly)?|leak\w*|never|broken|breaks?|"
    r"bug|errors?|exception|instead of|ignored|lost|hang|deadlock|panic\w*|overflow|(?:do|does|did|was|were|is|could) ?"
    r"n[o']t)\b",
    re.IGNORECASE,
)
# Fixes of what no reader of the code can judge.
NOT_BEHAVIOUR = re.compile(
    r"\b(?:ruff|lint\w*|mypy|pyright|typing|types?|typo\w*|hints?|annotations?|tests?|flak\w+|docs?|docstrings?|comments?|"
    r"format(?:ting)?|style|imports?|ci|builds?|spelling|whitespace|grammar|deprecat\w+|coverage|release|compil\w+)\b",
    re.IGNORECASE,
)
STUB = re.compile(r"NotImplemented|unimplemented!|todo!|not (?:yet )?implemented", re.IGNORECASE)
MIN_CLAIM_WORDS, MIN_SHARED_WORDS = 5, 2
TELLS_THE_FIX = re.compile(
    r"^(?:this|that|it|these|now|we|with this|after this|instead|so|i)\b|\b(?:now|fix\w*|ok|fine|safe)\b", re.IGNORECASE
)


class LaterFixes:
    """Where commits seen so far (history is read newest first) mended something: code there was not right before."""

    def __init__(self) -> None:
        self._names: dict[str, set[str]] = {}

    def add_paths(self, paths: Iterable[str]) -> None:
        """A fix of which no more than its paths is known: everything in them counts as mended."""
        for path in paths:
            self._names.setdefault(path, set()).add(EVERYTHING)

    def add(self, files: Iterable[FileDiff]) -> None:
        """A fix with its diff: the functions that its hunks touch count as mended."""
        for file in files:
            for hunk in file.hunks:
                self._names.setdefault(file.path, set()).update(touched(file.path, hunk) or {EVERYTHING})

    def overlap(self, path: str, names: set[str]) -> bool:
        """Whether code of these names in the file was mended later; unknown names overlap with anything there."""
        mended = self._names.get(path, set())
        return bool(mended) and (not names or EVERYTHING in mended or bool(mended & names))


def touched(path: str, hunk: Hunk) -> set[str]:
    """The definitions that the hunk stands in or holds."""
    spoken = language(path)
    lines = [hunk.heading, *(line[1:MAX_WIDTH] for line in hunk.lines)]
    return {found.name for line in lines if (found := definition(line, spoken, path))}


def _sources(item: Work) -> list[FileDiff]:
    return [f for f in item.files if role(f.path) in {"code", "api"} and language(f.path) in CODE]


def _side(files: list[FileDiff], sign: str) -> str:
    """The code before (`-`) or after (`+`) the fix, hunk by hunk, each under a comment that says where it stands."""
    parts = []
    for file in files:
        mark = "//" if language(file.path) in BRACES - {"shell"} else "#"
        for hunk in file.hunks:
            lines = [visible(line[1:]) for line in hunk.lines if line[0] in {" ", sign}]
            place = f"{file.path}: {visible(hunk.heading)}" if hunk.heading else file.path
            parts.append(f"{mark} {place}\n" + textwrap.dedent("\n".join(lines)).strip("\n"))
    return "\n\n".join(parts)


def _bare_lines(code: str) -> list[str]:
    """The code's lines without docstrings and comments."""
    return re.sub(r"(?s)\"\"\".*?\"\"\"|(?m:^\s*(?:#|//|/?\*).*$)", "", code).splitlines()


def _bare(code: str) -> str:
    """The code without comments, imports and spaces, to see whether a fix changed what the code does."""
    without = re.sub(r"(?m)(?:#|//|^\s*\*).*$|^\s*(?:import|from|use|using|#include)\b.*$", "", code)
    return re.sub(r"\s+", "", re.sub(r"(?s)\"\"\".*?\"\"\"", "", without))


def _fault_told(item: Work) -> str:
    """A sentence of the author's that describes the fault; empty when there is none."""
    for sentence in sentences(item.message.body):
        told = FAULT.search(sentence) and not TELLS_THE_FIX.search(sentence) and imperative(sentence) is None
        if told and 30 <= len(sentence) <= 220 and not sentence.endswith(":"):
            return one_line(sentence, 220)
    return ""


def _issue(item: Work) -> str:
    """The fault in the author's own words: a sentence that describes it, else the subject turned round."""
    subject = item.message.subject
    if told := _fault_told(item):
        return told
    for order, fault in (("Fix ", "There is a fault here: "), ("Do not ", "It ought not to ")):
        if subject.startswith(order):
            return fault + subject.removeprefix(order)
    return f"It does not yet {subject[0].lower()}{subject[1:]}"


def _says_enough(item: Work, before: str, after: str) -> bool:
    """Whether the claim is about behaviour and speaks of what the code shows, so that a reader can judge by it."""
    subject = item.message.subject
    if (
        NOT_BEHAVIOUR.search(subject)
        or ". " in subject
        or (len(subject.split()) < MIN_CLAIM_WORDS and not _fault_told(item))
    ):
        return False
    spoken = {word[:6] for word in re.findall(r"[a-z]{4,}", subject.lower())}
    shown = {word[:6] for word in re.findall(r"[a-z]{4,}", _apart(before + after))}
    return len(spoken & shown) >= MIN_SHARED_WORDS


def _apart(code: str) -> str:
    """The code with its identifiers cut into lower-case words."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", code).lower()


def _difficulty(code: str, changed: int) -> str:
    lines = len(code.splitlines())
    if lines <= EASY_LINES and changed <= MIN_LINES:
        return "easy"
    return "hard" if lines > HARD_LINES or changed > MANY_CHANGES else "medium"


def _fits(code: str) -> bool:
    lines = [line for line in code.splitlines() if line.strip()]
    return len(lines) > MIN_LINES and len(lines) <= MAX_LINES and len(code) <= MAX_CODE


def _is_small_fix(item: Work, files: list[FileDiff]) -> bool:
    """A fix of code that an excerpt can show whole, and whose message says what it mends."""
    hunks = sum(len(file.hunks) for file in files)
    known = item.message.type in FIX_TYPES and item.message.is_order and not says_nothing(item.message.subject)
    changed_only = all(file.status == "M" for file in files)
    return known and changed_only and 1 <= len(files) <= MAX_FIX_FILES and 1 <= hunks <= MAX_FIX_HUNKS


def repairs(item: Work, later: LaterFixes) -> list[Scenario]:
    """The code a fix found (faulty), and the code it left (sound, unless mended again later)."""
    files = _sources(item)
    if not _is_small_fix(item, files):
        return []
    before, after = _side(files, "-"), _side(files, "+")
    if not (_fits(before) and _fits(after)) or _bare(before) == _bare(after) or not _says_enough(item, before, after):
        return []
    where = ", ".join(file.path for file in files)
    defect = Defect(_issue(item), "bug", where, after)
    changed = sum(line[0] in "+-" for file in files for hunk in file.hunks for line in hunk.lines)
    found = [_judged(item, before, item.message.subject, (defect,), _difficulty(before, changed))]
    if not any(later.overlap(file.path, touched(file.path, hunk)) for file in files for hunk in file.hunks):
        found.append(_judged(item, after, item.message.subject, (), _difficulty(after, changed)))
    return found


def _judged(item: Work, code: str, claim: str, defects: tuple[Defect, ...], difficulty: str) -> Scenario:
    state = "before the fix" if defects else "as accepted, not mended since"
    return Scenario(
        SOURCE, item.group, item.category, difficulty, item.message.subject, claim=claim, code_sample=code,
        code_judged=True, defects=defects, provenance=item.described(code=state, paths=item.paths),
    )  # fmt: skip


def _function(item: Work, fact: Fact) -> str:
    """The code of an added function, when the diff shows it whole and on its own; else nothing."""
    piece = item.pieces[fact.piece]
    others = [f for f in item.facts if f.piece == fact.piece and f.name != fact.name]
    if (
        fact.definition.what not in {"function", "method"}
        or fact.removed
        or others
        or len(piece.added) < len(piece.lines)
    ):
        return ""
    code = textwrap.dedent("\n".join(piece.added)).strip("\n")
    does = len([line for line in _bare_lines(code) if line.strip()]) >= MIN_LINES and not STUB.search(code)
    fits = does and role(fact.path) in {"code", "api"} and _fits(code) and is_whole(code, language(fact.path))
    return code if fits else ""


def _claim(item: Work, fact: Fact) -> str:
    """What the function is for: its own documentation, else a subject that names it."""
    named = item.message.is_order and mentions(item.message.subject, fact.name)
    told = fact.doc or (item.message.subject if named else "")
    return f"The {fact.definition.what} `{fact.name}` in {fact.path}: {told}" if told else ""


def mutated(item: Work, later: LaterFixes) -> list[Scenario]:
    """Accepted functions as they are (sound), and each, where one fits, with a fault put in."""
    found: list[Scenario] = []
    for fact in item.facts:
        code, claim = _function(item, fact), _claim(item, fact)
        if not code or not claim or later.overlap(fact.path, {fact.name}):
            continue
        choices = mutations(code, fact.name, language(fact.path))
        if len(found) >= 2 * MAX_MUTATED:
            break
        found.append(_judged(item, code, claim, (), _difficulty(code, 2)))
        if choices:
            # The choice must not change from run to run, nor favour the first line.
            seed = int(hashlib.sha256(f"{item.commit.sha}{fact.name}".encode()).hexdigest(), 16)
            found.append(_mutant(item, fact, claim, code, choices[seed % len(choices)]))
    return found


def _mutant(item: Work, fact: Fact, claim: str, code: str, fault: Mutation) -> Scenario:
    defect = Defect(fault.issue, "bug", f"{fact.path}, `{fact.name}`", code)
    wrong = _judged(item, fault.code, claim, (defect,), _difficulty(code, 2))
    evidence = {"code": "a fault was put in", "line": fault.line, "name": fact.name, "paths": [fact.path]}
    return replace(wrong, provenance=item.described(**evidence))
