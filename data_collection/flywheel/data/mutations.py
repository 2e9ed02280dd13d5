"""Sure faults: small changes to working code that change what it does, each with its effect in words."""

from __future__ import annotations

import ast
import re
import textwrap
from typing import TYPE_CHECKING, NamedTuple

from flywheel.data.definitions import indent_of
from flywheel.data.sources import BRACES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HARMLESS = re.compile(
    r"\b(?:log\w*|print\w*|warn\w*|debug|trace|verbose|assert|TYPE_CHECKING|__name__|version\w*)\b", re.IGNORECASE
)
SIMPLE = r"[A-Za-z_][\w.]*(?:\([^()]*\))?(?:\[[^\[\]]*\])?"
PYTHON_IF = re.compile(rf"(\s*)(if|elif|while) (not )?({SIMPLE}):$")
BRACES_IF = re.compile(rf"(\s*(?:\}}\s*else )?)(if|while) ?\((!)?({SIMPLE})\)( \{{)$")
BRANCH = re.compile(r"\s*(?:\}?\s*else )?(?:if|elif|while)\b")
COMPARISONS = (
    (re.compile(r" is not None\b"), " is None"),
    (re.compile(r" is None\b"), " is not None"),
    (re.compile(r" not in "), " in "),
    (re.compile(r" (?<!not )in "), " not in "),
    (re.compile(r" === "), " !== "),
    (re.compile(r" !== "), " === "),
    (re.compile(r" == "), " != "),
    (re.compile(r" != "), " == "),
)
KEYWORDS = frozenset(
    {"not", "is", "in", "None", "null", "True", "False", "true", "false", "undefined", "len", "self", "this"}
)
JOINS = ((" and ", " or "), (" or ", " and "), (" && ", " || "), (" || ", " && "))
WRONG_WAY = (
    "`{new}` tests the opposite of what is meant (it should be `{old}`), so its branch runs exactly when it must not"
)
TOO_OFTEN = "`{new}` is true when only one of its conditions holds, though all must (it should be `{old}`)"
TOO_SELDOM = "`{new}` is true only when all of its conditions hold, though one is enough (it should be `{old}`)"
ONE_SHORT = "`{new}` stops one short (it should be `{old}`), so the last element is never handled"
ONE_BEYOND = "`{new}` goes one beyond the end (it should be `{old}`), so an element is read that does not exist"
NO_RETURN = "`{name}` never returns its result (`{old}` is missing at its end), so its callers get None"


class Mutation(NamedTuple):
    """Code with one fault put in: what is wrong and its effect, and the changed line (from 1)."""

    code: str
    issue: str
    line: int


class Change(NamedTuple):
    """A line that a fault rewrites."""

    new: str
    issue: str


def _condition(line: str) -> Change | None:
    """A plain condition, negated or its negation dropped."""
    for pattern, negation in ((PYTHON_IF, "not "), (BRACES_IF, "!")):
        if match := pattern.match(line):
            put = "" if match[3] else negation
            start, end = match.start(3) if match[3] else match.start(4), match.start(4)
            return Change(line[:start] + put + line[end:], WRONG_WAY)
    return None


def _comparison(line: str) -> Change | None:
    """The only comparison of a branch's condition, turned round."""
    if (
        not BRANCH.match(line)
        or any(joint in line for joint, _ in JOINS)
        or re.search(r"\bfor\b|[\"'].* in .*[\"']", line)
    ):
        return None
    found = [(pattern, put) for pattern, put in COMPARISONS if pattern.search(line)]
    if len(found) > 1 and found[0][1].strip() in {"in", "is None"}:
        found = found[:1]
    if len(found) != 1 or len(found[0][0].findall(line)) != 1:
        return None
    pattern, put = found[0]
    return Change(pattern.sub(put, line), WRONG_WAY)


def _join(line: str) -> Change | None:
    """`and` for `or` and the other way round, where a branch's condition has just one of them."""
    if not BRANCH.match(line) or sum(line.count(joint) for joint, _ in JOINS) != 1 or re.search(r"[\"'`]", line):
        return None
    joint, put = next(pair for pair in JOINS if pair[0] in line)
    left, right = (set(re.findall(r"[A-Za-z_]\w+", part)) - KEYWORDS for part in BRANCH.sub("", line).split(joint))
    if left & right or not left or not right:
        # `not x or len(x) == 0` says the same with `and`: only independent conditions are sure.
        return None
    return Change(line.replace(joint, put), TOO_OFTEN if joint.strip() in {"and", "&&"} else TOO_SELDOM)


def _bound(line: str) -> Change | None:
    """A loop over all elements that stops one short, or runs one beyond."""
    if match := re.match(r"(\s*for \w+ in range\(len\([\w.]+\))(\):)$", line):
        return Change(f"{match[1]} - 1{match[2]}", ONE_SHORT)
    if match := re.match(r"(\s*for \(.*\w) < ([\w.]+\.length; .*\) \{)$", line):
        return Change(f"{match[1]} <= {match[2]}", ONE_BEYOND)
    return None


REWRITES: tuple[Callable[[str], Change | None], ...] = (_bound, _join, _comparison, _condition)


def _reads_element(lines: list[str], number: int) -> bool:
    """Whether the loop at `number` surely handles each element by its index, one that does not exist included."""
    loop = re.search(
        r"for (?:\w+ )?\(?(?:let |var )?(\w+)(?: in range\(len\(([\w.]+)\)\)|.*< ([\w.]+)\.length)", lines[number]
    )
    if loop is None:
        return True
    rest = "\n".join(lines[number + 1 :])
    element = rf"\b{re.escape(loop[2] or loop[3])}\[{loop[1]}\]"
    guarded = re.search(rf"{element}(?:\?|\s*(?:&&|\|\||\?\?|[=!]==?))|if \(?!?{element}|\b{loop[1]}\s*\+ ", rest)
    return re.search(element, rest) is not None and guarded is None


def _matters(lines: list[str], number: int) -> bool:
    """Whether the branch at `number` does something: no `pass`, no log line, no `continue` at a loop's end."""
    body = [line for line in lines[number + 1 :] if line.strip()]
    if not body or HARMLESS.search(lines[number]) or HARMLESS.search(body[0]):
        return False
    first = body[0].strip(" \t;")
    if first in {"pass", "..."}:
        return False
    after = [line for line in body[1:] if line.strip(" \t};")]
    return first != "continue" or (bool(after) and indent_of(after[0]) >= indent_of(lines[number]))


def _in_lines(code: str) -> Iterator[Mutation]:
    lines = code.split("\n")
    for number, line in enumerate(lines):
        if not _matters(lines, number) or not _reads_element(lines, number):
            continue
        if line.lstrip().startswith(("#", "//", "*", "/*")):
            continue
        for rewrite in REWRITES:
            if change := rewrite(line):
                issue = change.issue.format(new=change.new.strip(" \t{:"), old=line.strip(" \t{:"))
                yield Mutation("\n".join([*lines[:number], change.new, *lines[number + 1 :]]), issue, number + 1)
                break


def _dropped_return(code: str, name: str) -> Iterator[Mutation]:
    """The function without the `return` at its end, where that is its only one and gives a value."""
    lines = code.rstrip("\n").split("\n")
    last = lines[-1]
    match = re.match(r"\s+return ([A-Za-z_]\w*)$", last)
    others = re.search(r"\b(?:return|yield)\b", "\n".join(lines[:-1]))
    if match is None or others or match[1] in {"None", "NotImplemented"} or len(lines) < 5:
        return
    if len(last) - len(last.lstrip()) != min(len(x) - len(x.lstrip()) for x in lines[1:] if x.strip()):
        return
    yield Mutation("\n".join(lines[:-1]).rstrip(), NO_RETURN.format(name=name, old=last.strip()), len(lines))


def is_whole(code: str, language: str) -> bool:
    """Whether the code stands alone: Python that parses, or brackets that match."""
    if language == "python":
        try:
            ast.parse(textwrap.dedent(code))
        except (SyntaxError, ValueError):
            return False
        return True
    bare = re.sub(r"\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|//[^\n]*", "", code)
    return language in BRACES and all(bare.count(a) == bare.count(b) for a, b in ("{}", "()", "[]"))


def mutations(code: str, name: str, language: str) -> list[Mutation]:
    """Every sure fault that fits the function `name`; the result still parses."""
    found = [*_in_lines(code), *(_dropped_return(code, name) if language == "python" else ())]
    return [mutation for mutation in found if is_whole(mutation.code, language)]
