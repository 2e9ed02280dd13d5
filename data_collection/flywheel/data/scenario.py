"""The common currency of the collectors: a piece of work whose facts are known, before any signature looks at it.

A collector states only what holds by construction (a hunk was withheld, a bug was put in or later mended); each
signature projects a scenario to its own example, or to None where the scenario says nothing about its question.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

DIFFICULTIES = ("easy", "medium", "hard")
DIFFICULTY_TARGET = {"easy": 0.3, "medium": 0.5, "hard": 0.2}

PRIORITY_BY_KIND = {
    "security": 10,
    "data_loss": 9,
    "bug": 8,
    "feature": 6,
    "performance": 5,
    "usability": 4,
    "test": 3,
    "docs": 2,
    "chore": 1,
}
PRIORITY_RUBRIC = ", ".join(f"{kind.replace('_', ' ')} {value}" for kind, value in PRIORITY_BY_KIND.items())


@dataclass(frozen=True)
class Requirement:
    """One thing asked for.

    `met` tells whether the scenario's implementation satisfies it (None: unknown, so no label may rest on it);
    `stated` whether the intent or context says it; `where` and `snippet` show what does, or would, satisfy it,
    and `how` says so in words.
    """

    text: str
    kind: str
    met: bool | None = None
    stated: bool = True
    where: str = ""
    snippet: str = ""
    how: str = ""

    @property
    def priority(self) -> int:
        """1 (least) to 10 (most urgent), by the rubric that the signatures' instructions state."""
        return PRIORITY_BY_KIND[self.kind]


@dataclass(frozen=True)
class Defect:
    """A known fault of the scenario's code sample; `fix` is code without it."""

    text: str
    kind: str = "bug"
    where: str = ""
    fix: str = ""


@dataclass(frozen=True)
class Scenario:
    """A piece of work with its known facts.

    `code_judged` is True when `defects` is known to be the whole list for `code_sample`. `group` is what must never
    straddle a split; `provenance` goes to the example's metadata.
    """

    source: str
    group: str
    category: str
    difficulty: str
    intent: str
    context: str = ""
    work_item: str = ""
    implementation: str = ""
    requirements: tuple[Requirement, ...] = ()
    claim: str = ""
    code_sample: str = ""
    code_judged: bool = False
    defects: tuple[Defect, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stated(self) -> tuple[Requirement, ...]:
        """The requirements that the text itself asks for."""
        return tuple(r for r in self.requirements if r.stated)

    @property
    def checked(self) -> tuple[Requirement, ...]:
        """The requirements of which it is known whether the implementation meets them."""
        return tuple(r for r in self.requirements if r.met is not None)

    @property
    def missing(self) -> tuple[Requirement, ...]:
        """The requirements known not to be met."""
        return tuple(r for r in self.requirements if r.met is False)
