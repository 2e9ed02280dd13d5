"""What a line of source defines: functions, classes, tests, headings, keys, flags, tables."""

from __future__ import annotations

import re
from typing import NamedTuple

from flywheel.data.sources import role

MIN_NAME = 4
MAX_SENTENCE = 160
MAX_COMMENT = 12
UNCLEAR = re.compile(
    r"\b(?:TODO|FIXME|XXX|noqa|eslint|nolint|pylint|type: ignore)\b|^(?:param|return|see)\b|[:@,]$", re.IGNORECASE
)
_TOO_COMMON = (
    "main init setup name type value path test self this args data item list dict next call version description "
    "default string number object file files config options title true false null none uses with steps runs jobs "
    "push pull_request branches permissions contents env required properties items license author url source id "
    "runs-on needs presets settings depends services image command volumes ports environment enabled "
    "constructor render toString equals hashCode String Error close open read write start stop"
)
TOO_COMMON = frozenset(_TOO_COMMON.split())
IDENTIFIER = r"([A-Za-z_$][\w$]*)"
_C_LIKE_WORDS = r"(?!if\b|for\b|while\b|switch\b|return\b|else\b|catch\b|new\b|throw\b|await\b|case\b|do\b)"
_MODIFIERS = r"(?:(?:public|private|protected|internal|static|final|abstract|override|async|sealed|default|suspend)\s+)"
_RULES: dict[str, tuple[tuple[str, str], ...]] = {
    "python": (
        ("function", rf"\s*(?:async\s+)?def\s+{IDENTIFIER}\s*\("),
        ("class", rf"\s*class\s+{IDENTIFIER}\s*[:(]"),
    ),
    "javascript": (
        ("function", rf"\s*(?:export\s+)?(?:default\s+)?(?:async\s+)?function\*?\s+{IDENTIFIER}\s*[(<]"),
        ("class", rf"\s*(?:export\s+)?(?:default\s+)?(?:abstract\s+)?class\s+{IDENTIFIER}\b"),
        ("function", rf"\s*(?:export\s+)?const\s+{IDENTIFIER}\s*(?::[^=]+)?=\s*(?:async\s*)?\([^)]*\)[^=]*=>\s*\{{"),
        ("interface", rf"\s*(?:export\s+)?interface\s+{IDENTIFIER}\b.*\{{"),
        ("enum", rf"\s*(?:export\s+)?(?:const\s+)?enum\s+{IDENTIFIER}\b"),
        ("test", r"""\s*(?:it|test)(?:\.\w+)?\(\s*["'`]([^"'`]{3,60} [^"'`]{2,60})["'`]"""),
    ),
    "rust": (
        ("function", rf"\s*(?:pub(?:\([^)]*\))?\s+)?(?:const\s+)?(?:async\s+)?(?:unsafe\s+)?fn\s+{IDENTIFIER}\s*[(<]"),
        ("struct", rf"\s*(?:pub(?:\([^)]*\))?\s+)?struct\s+{IDENTIFIER}\b"),
        ("enum", rf"\s*(?:pub(?:\([^)]*\))?\s+)?enum\s+{IDENTIFIER}\b"),
        ("trait", rf"\s*(?:pub(?:\([^)]*\))?\s+)?trait\s+{IDENTIFIER}\b"),
    ),
    "go": (
        ("function", rf"func\s+(?:\([^)]*\)\s*)?{IDENTIFIER}\s*[(\[]"),
        ("struct", rf"type\s+{IDENTIFIER}\s+struct\b"),
        ("interface", rf"type\s+{IDENTIFIER}\s+interface\b"),
    ),
    "java": (
        ("class", rf"\s*{_MODIFIERS}*(?:class|record)\s+{IDENTIFIER}\b"),
        ("interface", rf"\s*{_MODIFIERS}*interface\s+{IDENTIFIER}\b"),
        ("enum", rf"\s*{_MODIFIERS}*enum\s+{IDENTIFIER}\b"),
        ("method", rf"\s*{_MODIFIERS}+(?:fun\s+)?(?:[\w<>\[\],.?]+\s+)*{IDENTIFIER}\s*\([^;]*$"),
    ),
    "c": (
        ("struct", rf"(?:typedef\s+)?struct\s+{IDENTIFIER}\s*\{{"),
        ("function", rf"{_C_LIKE_WORDS}[A-Za-z_][\w\s*:<>,]*?[\s*]{IDENTIFIER}\s*\([^;]*$"),
    ),
    "ruby": (
        ("method", r"\s*def\s+(?:self\.)?([a-z_]\w*[?!]?)"),
        ("class", rf"\s*class\s+{IDENTIFIER}\b"),
        ("module", rf"\s*module\s+{IDENTIFIER}\b"),
    ),
    "shell": (("function", r"\s*(?:function\s+)?([A-Za-z_][\w-]*)\s*\(\)\s*\{?\s*$"),),
    "sql": (("table", r"""(?i:\s*create\s+table\s+(?:if\s+not\s+exists\s+)?["`]?([\w.]+))"""),),
    "markdown": (("section", r"#{1,4}\s+(\S.{3,80}?)\s*#*$"),),
    "toml": (("section", r"""\[\[?([\w."-]+)\]?\]\s*$"""), ("setting", r"([A-Za-z][\w.-]*)\s*=\s*\S")),
    "yaml": (("setting", r"\s{0,4}([A-Za-z][\w-]*):(?:\s|$)"),),
}  # fmt: skip
_RULES["typescript"] = _RULES["javascript"]
_RULES["kotlin"] = _RULES["csharp"] = _RULES["java"]
RULES = {name: tuple((what, re.compile(pattern)) for what, pattern in rules) for name, rules in _RULES.items()}
FLAG = re.compile(r"""(?:add_argument|option|flag|Flag|StringVar|BoolVar)\w*\(.*?["'](--[a-z][a-z0-9-]{2,})["']""")
BLOCKS = frozenset(
    {"function", "method", "class", "struct", "interface", "enum", "trait", "module", "test", "table", "section"}
)


class Definition(NamedTuple):
    """A thing that a line defines: `what` it is, its `name`, and the indentation of the line."""

    what: str
    name: str
    indent: int

    @property
    def is_block(self) -> bool:
        """It goes on over further lines, as a function does; a key or a heading does not."""
        return self.what in BLOCKS


def indent_of(line: str) -> int:
    """Columns before the first visible character; a tab counts as four."""
    body = line.expandtabs(4)
    return len(body) - len(body.lstrip())


def _refined(what: str, name: str, path: str, line: str) -> str:
    """A function whose name and file say it is a test is one; a Python one that takes `self` is a method."""
    if what in {"function", "method"} and role(path) == "tests" and re.match(r"test|Test", name):
        return "test"
    bound = line[:1].isspace() and re.search(r"\((?:self|cls)\b|\($", line)
    return "method" if what == "function" and bound and path.endswith((".py", ".pyi")) else what


def definition(line: str, language: str, path: str) -> Definition | None:
    """What `line` (of a file in `language` at `path`) defines; None for nothing, or a name too common to be told."""
    if "--" in line and (flag := FLAG.search(line)):
        return Definition("option", flag[1], indent_of(line))
    for what, pattern in RULES.get(language, ()):
        match = pattern.match(line)
        if match is None:
            continue
        name = match[1].strip()
        if len(name) < MIN_NAME or name in TOO_COMMON or name.startswith("__"):
            return None
        # A section's place is the depth of its heading.
        indent = line.index(" ") if what == "section" and language == "markdown" else indent_of(line)
        return Definition(_refined(what, name, path, line), name, indent)
    return None


def mentions(text: str, name: str) -> bool:
    """Whether `name` stands in `text` as a word of its own, in any case."""
    if name.lower() not in text.lower():
        return False
    return re.search(rf"(?<![A-Za-z0-9_]){re.escape(name)}(?![A-Za-z0-9_])", text, re.IGNORECASE) is not None


def first_sentence(lines: list[str], start: int, language: str) -> str:
    """What the docstring below, or the comment above, the definition at `start` says first; empty when unclear."""
    text = _docstring(lines, start) if language == "python" else _comment_above(lines, start)
    sentence = re.split(r"(?<=[\w`)\"'])\.(?:\s|$)", " ".join(text.split()), maxsplit=1)[0].strip()
    plain = 15 <= len(sentence) <= MAX_SENTENCE and sentence[0].isupper() and " " in sentence
    return sentence.rstrip(".") if plain and not UNCLEAR.search(sentence) else ""


def _docstring(lines: list[str], start: int) -> str:
    """The first paragraph of the docstring after the signature that begins at `start`."""
    signature_end = start
    while signature_end < len(lines) and not lines[signature_end].split("  #")[0].rstrip().endswith(":"):
        signature_end += 1
    body = "\n".join(lines[signature_end + 1 :])
    match = re.match(r"""\s*[rR]?(\"\"\"|\'\'\')(.*?)(?:\1|\n\s*\n)""", body, re.DOTALL)
    return match[2] if match else ""


def _comment_above(lines: list[str], start: int) -> str:
    """The comment lines right above `start`, without their marks."""
    found: list[str] = []
    for line in reversed(lines[max(0, start - MAX_COMMENT) : start]):
        text = line.strip()
        if not text.startswith(("//", "/*", "*", "# ")):
            break
        found.insert(0, text.lstrip("/*#! ").removesuffix("*/").strip())
    return "\n".join(found)
