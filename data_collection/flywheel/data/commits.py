"""What a commit's message says: requirements in the author's own words, or nothing at all."""

from __future__ import annotations

import re
from dataclasses import dataclass

from flywheel.base.text import visible
from flywheel.data.imperatives import imperative, points_back, split_orders
from flywheel.data.kinds import TYPES, type_of

MIN_WORDS = 3
MAX_STATED = 8
MAX_BODY = 1_200
MAX_MESSAGE = 20_000
MAX_REQUIREMENT = 200
SAME_THING = 0.6

CONVENTIONAL = re.compile(r"^(?P<type>[a-z]+)(?:\((?P<scope>[^)]*)\))?!?:\s+(?P<rest>.+)$", re.IGNORECASE)
AREA = re.compile(r"^(?:\[[^\]]{1,40}\]\s*|[\w./*{},-]{1,40}:\s+)(?=\S)")
PULL_REQUEST = re.compile(r"\(#(\d+)\)\s*$")
MERGED_PULL_REQUEST = re.compile(r"^Merge pull request #(\d+)")
_POINTER = r"(?:(?:[\w.-]+/[\w.-]+)?#\d+|gh-\d+|<?https?://[^\s)>\]]+>?)"
_KEYWORD = (
    r"(?:fix(?:es|ed)?|clos(?:e|es|ed)|resolv(?:e|es|ed)|refs?|see(?: also)?|issue|bug|for|via|part of|related to)"
)
# Pointers to issues and pages are cut out in brackets and at a line's end; elsewhere a sentence leans on them.
IN_BRACKETS = re.compile(rf"\s?[(\[](?:{_KEYWORD}[\s:]+)?{_POINTER}(?:(?:,| and)? {_POINTER})*[)\]]", re.IGNORECASE)
AT_END = re.compile(rf"[\s,;.:-]*\b(?:{_KEYWORD}[\s:]+){_POINTER}\.?$|[\s,;:-]*(?:^|\s){_POINTER}\.?$", re.IGNORECASE)
POINTER = re.compile(_POINTER, re.IGNORECASE)
MAX_POINTING_WORDS = 3
LINKED = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
TRAILER = re.compile(
    r"^(?:[a-z][\w-]*-by|cc|change-id|reviewed-on|bug|issues?|refs?|fix(?:es|ed)?|clos(?:es|ed)|resolves|see|"
    r"link|release-note|pr-url|differential revision|test plan|git-svn-id|backport|thanks to)\s?:|"
    r"^(?:\(?cherry.picked from|squashed from|patch by|reported by|suggested by|thanks to|cc @)\b",
    re.IGNORECASE,
)
BULLET = re.compile(r"^\s{0,3}(?:[-*+•]|\d{1,2}[.)])\s+(.*)$")
FENCE = re.compile(r"^\s*(?:```|~~~)")
REVERTS = re.compile(r"\bThis reverts commit ([0-9a-f]{7,40})")
SAYS_NOTHING = re.compile(
    r"^(?:wip\b.*|(?:update|updates|fix|fixes|cleanup|clean up|misc|minor|more|various|small|tweaks?|polish|stuff|"
    r"initial|first|temp|tmp|test|tests|typos?|lint\w*|format\w*|changes?|oops|done|save|checkpoint)\W*"
    r"(?:\b(?:typos?|lint\w*|format\w*|tests?|ci|build|review\w*|comments?|feedback|merge|conflicts?|things?|stuff|"
    r"changes?|fixes|improvements?|updates?|tweaks?|cleanups?|commit|import|code|style|nits?|bugs?|issues?|readme|"
    r"changelog|dependencies|deps|version|the|and|some|a|few|various|minor|small|of|in|from|imports?)\b\W*)*|"
    r"(?:address|apply|incorporate)\b.*\b(?:review|comments?|feedback|suggestions?)\b.*|.*\bautoupdate\b.*|"
    r"merge (?:branch|pull|remote|commit|tag|master|main|upstream)\b.*|"
    r"(?:re-?)?(?:run|apply)\b.*\b(?:black|prettier|lint\w*|format\w*|gofmt|isort|ruff)\b.*)$",
    re.IGNORECASE,
)
VERSION_BUMP = re.compile(
    r"^(?:(?:bump|upgrade|update)\b.*\b(?:from \S+ )?to v?\d[\w.-]*$|bump\b.*|"
    r"(?:prepare|cut|tag)\s+(?:for\s+)?release\b.*|"
    r"release(?: v?\d.*)?$|(?:version\s+)?v?\d+(?:\.\d+)+\S*$|(?:set|new|next)\s+(?:dev\w* )?version\b.*|"
    r"version v?\d.*|"
    r"back to dev\w*.*|post-release.*|.*\bbump (?:the )?version\b.*|update dependenc\w+\b.*)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Message:
    """A commit message, cleaned: `subject` as an order where it is one, `body` prose, the author's own `bullets`."""

    subject: str
    type: str
    body: str
    bullets: tuple[str, ...]
    pull_request: str | None
    is_order: bool


def _clean_line(line: str) -> str:
    """The line without pointers; empty when it said little else."""
    text = IN_BRACKETS.sub("", LINKED.sub(r"\1", line))
    while (shorter := AT_END.sub("", text)) != text:
        text = shorter
    if POINTER.search(line) and len(text.split()) <= MAX_POINTING_WORDS:
        return ""
    return re.sub(r"[ \t]+", " ", text).rstrip(" -,")


def clean(text: str) -> str:
    """Text without links, issue references and hidden characters; spaces collapse within lines."""
    return "\n".join(_clean_line(line) for line in visible(text).split("\n")).strip()


def _body_lines(body: str) -> list[str]:
    """The body without trailers, fenced code and quotes."""
    kept, fenced = [], False
    for line in body.split("\n"):
        if FENCE.match(line):
            fenced = not fenced
        elif not fenced and not TRAILER.match(line.strip()) and not line.startswith((">", "    ", "\t")):
            kept.append(line)
    return kept


def _split_bullets(lines: list[str]) -> tuple[list[str], list[str]]:
    """(prose lines, bullets with their continuation lines)."""
    prose: list[str] = []
    bullets: list[str] = []
    inside = False
    for line in lines:
        if match := BULLET.match(line):
            bullets.append(match[1])
            inside = True
        elif inside and line.startswith(" ") and line.strip():
            bullets[-1] += " " + line.strip()
        else:
            inside = False
            prose.append(line)
    return prose, bullets


def _pull_request(raw_subject: str) -> str | None:
    match = PULL_REQUEST.search(raw_subject) or MERGED_PULL_REQUEST.search(raw_subject)
    return match[1] if match else None


def read(message: str) -> Message:
    """The message taken apart; nothing is lost but references, trailers and quoted code."""
    raw_subject, _, raw_body = visible(message[:MAX_MESSAGE]).strip().partition("\n")
    declared, rest = "", raw_subject
    if match := CONVENTIONAL.match(raw_subject):
        kind = match["type"].lower()
        declared, rest = (kind, match["rest"]) if kind in TYPES else ("", raw_subject)
    if not declared:
        rest = AREA.sub("", rest)
    subject = clean(rest).rstrip(".")
    order = imperative(subject)
    prose, bullets = _split_bullets(_body_lines(raw_body))
    cleaned = [clean(bullet) for bullet in bullets]
    body = re.sub(r"\n{3,}", "\n\n", clean("\n".join(prose)))
    shown = order or (subject[:1].upper() + subject[1:])
    kept = tuple(bullet for bullet in cleaned if bullet and not says_nothing(bullet))
    return Message(shown, type_of(declared, shown), body, kept, _pull_request(raw_subject), order is not None)


def says_nothing(text: str) -> bool:
    """`wip`, `update stuff`, `address review comments`: no requirement can be read off it."""
    return SAYS_NOTHING.fullmatch(text) is not None


def is_version_bump(subject: str) -> bool:
    """A release or a dependency's new version: nothing that somebody asks for in words."""
    return VERSION_BUMP.fullmatch(subject) is not None


def reverted_sha(message: str) -> str | None:
    """The commit that this one takes back, as git's own message names it."""
    match = REVERTS.search(message)
    return match[1] if match else None


def sentences(body: str) -> list[str]:
    """The prose cut into sentences, lines joined."""
    flat = [" ".join(part.split()) for part in re.split(r"\n\s*\n", body)]
    return [s.strip() for part in flat for s in re.split(r"(?<=[.!?;])\s+(?=[A-Z`])", part) if s.strip()]


def _words(text: str) -> set[str]:
    return {word for word in re.findall(r"\w+", text.lower()) if len(word) > 2}


def _same_thing(one: str, other: str) -> bool:
    a, b = _words(one), _words(other)
    return len(a & b) >= SAME_THING * max(1, min(len(a), len(b)))


def _sound(order: str) -> bool:
    long_enough = len(order.split()) >= MIN_WORDS and len(order) <= MAX_REQUIREMENT
    return long_enough and not points_back(order) and not POINTER.search(order)


def _from_prose(message: Message) -> list[str] | None:
    """The subject's orders and those of the body's sentences; None when one of them cannot stand alone."""
    parts = [imperative(sentence) for sentence in sentences(message.subject)]
    if None in parts:
        return None
    found = [order for part in parts if part for order in split_orders(part)]
    for sentence in sentences(message.body):
        order = imperative(sentence, plain=True)
        if order is None:
            if re.search(r"\b(?:should|must|shall|need(?:s|ed)? to|we (?:now|also)|todo)\b", sentence, re.IGNORECASE):
                return None
            continue
        if any(_same_thing(order, known) for known in found):
            continue
        found.append(order)
    return found if found and all(_sound(order) for order in found) else None


def stated(message: Message) -> list[str]:
    """What the author asks for: the list in the body, else the orders in subject and body.

    Empty when the message is not clear enough to say what the whole list is; then no label may rest on it.
    """
    if len(message.body) > MAX_BODY or not message.is_order:
        return []
    if message.bullets:
        orders = [imperative(bullet.partition("\n")[0]) for bullet in message.bullets]
        sound = [order for order in orders if order is not None and _sound(order)]
        enough = 2 <= len(sound) == len(orders) <= MAX_STATED
        return list(dict.fromkeys(sound)) if enough else []
    return (_from_prose(message) or [])[:MAX_STATED]
