"""Rules for the templates behind synthetic examples, with every snippet executed.

The labels of the generated examples are true only because of what is checked here: the check of a part
passes on its code and fails on its bug, for every value of every slot.
"""

import ast
import re
import sys
import tomllib
import warnings
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from string import Template
from typing import Any

import pytest
from rapidfuzz import fuzz

SOURCE = Path(__file__).resolve().parents[1] / "data_collection" / "synthetic_templates.toml"

TEMPLATE_KEYS = {"id", "category", "intent", "background", "aside", "slots", "part"}
PART_KEYS = {"kind", "requirement", "asked", "done", "near", "code", "bug", "issue", "check"}
SNIPPETS = ("code", "bug", "check")
SENTENCES = ("requirement", "asked", "done", "near", "issue")
KINDS = {"security", "data_loss", "bug", "feature", "performance", "usability", "test", "docs"}
CATEGORIES = {
    "api",
    "auth",
    "data",
    "infrastructure",
    "integration",
    "messaging",
    "performance",
    "reporting",
    "security",
    "ui",
}

TEMPLATE_COUNT = 24
PARTS_PER_TEMPLATE = 5
MIN_KINDS_PER_TEMPLATE = 3
MIN_CATEGORIES = 8
MAX_PER_CATEGORY = 5
MIN_VARIANTS = {"intent": 3, "background": 3, "aside": 2}
SLOTS_PER_TEMPLATE = range(2, 5)
MIN_SLOT_VALUES = 6
CODE_LINES = range(4, 17)
MAX_REQUIREMENT_LENGTH = 110

MAX_REQUIREMENT_RATIO = 75
MAX_SENTENCE_RATIO = 85
MIN_BUG_RATIO = 70

FORBIDDEN_CALLS = {"open", "print", "input", "eval", "exec", "compile", "breakpoint", "__import__"}
FORBIDDEN_MODULES = {"socket", "subprocess", "http", "ssl", "time", "multiprocessing", "asyncio", "ctypes"}
ENDLESS_ITERATORS = {"cycle", "iter"}

Spec = dict[str, Any]
Values = dict[str, str]


def load() -> list[Spec]:
    """All templates of the data file."""
    with SOURCE.open("rb") as source:
        document = tomllib.load(source)
    assert set(document) == {"template"}
    templates: list[Spec] = document["template"]
    return templates


TEMPLATES = load()
each_template = pytest.mark.parametrize("spec", TEMPLATES, ids=lambda spec: str(spec.get("id")))


def assignments(spec: Spec) -> Iterator[Values]:
    """Slot values that vary one slot at a time and cover every value of each slot."""
    slots: dict[str, list[str]] = spec["slots"]
    first = {name: values[0] for name, values in slots.items()}
    yield first
    for name, values in slots.items():
        for value in values[1:]:
            yield {**first, name: value}


def part_texts(part: Spec) -> list[str]:
    """All texts of a part in which slots may occur."""
    return [part[key] for key in (*SENTENCES, *SNIPPETS)]


def prose(spec: Spec) -> list[str]:
    """All texts of a template that are not code."""
    lists = [text for key in MIN_VARIANTS for text in spec[key]]
    return lists + [part[key] for part in spec["part"] for key in SENTENCES]


def all_texts(spec: Spec) -> list[str]:
    """All texts of a template in which slots may occur."""
    lists = [text for key in MIN_VARIANTS for text in spec[key]]
    return lists + [text for part in spec["part"] for text in part_texts(part)]


def fill(text: str, values: Values) -> str:
    """Text with its slots replaced."""
    return Template(text).substitute(values)


def variants(spec: Spec, text: str) -> set[str]:
    """What a text reads like under all tried slot values."""
    return {fill(text, values) for values in assignments(spec)}


# How a snippet with a bug may end: a failed check, or an operation that its wrong values do not allow.
WRONG = (AssertionError, ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def sorted_tokens(text: str) -> str:
    """Lower-case tokens in alphabetical order."""
    return " ".join(sorted(text.lower().split()))


def run(source: str) -> None:
    """Execute a snippet in a namespace of its own."""
    namespace: dict[str, object] = {"__name__": "snippet"}
    exec(compile(source, "<snippet>", "exec"), namespace)  # noqa: S102


def failure(source: str) -> Exception | None:
    """Exception a snippet ends with, or None if it runs through."""
    try:
        run(source)
    except WRONG as error:
        return error
    return None


def runnable(spec: Spec, part: Spec, key: str) -> set[str]:
    """Distinct programs made of one snippet and its check, over all tried slot values."""
    return variants(spec, f"{part[key]}\n\n{part['check']}")


def top_level_names(source: str) -> set[str]:
    """Names that a snippet defines at module level, imports aside."""
    names: set[str] = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def imported_modules(tree: ast.AST) -> set[str]:
    """Top-level names of the modules a snippet imports."""
    modules: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add((node.module or "").partition(".")[0])
    return modules


def called_names(tree: ast.AST) -> set[str]:
    """Plain names that a snippet calls."""
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {function.id for function in calls if isinstance(function, ast.Name)}


def assert_sentence(text: str) -> None:
    """A full sentence: capital or code first, full stop last."""
    assert re.match(r"[A-Z`]", text), text
    assert text.endswith("."), text


def assert_headline(text: str) -> None:
    """A line without a final full stop."""
    assert re.match(r"[A-Z`]", text), text
    assert text[-1] not in ".!?;,:", text


def test_number_of_templates() -> None:
    assert len(TEMPLATES) == TEMPLATE_COUNT


def test_ids_are_unique_and_kebab_case() -> None:
    ids = [spec["id"] for spec in TEMPLATES]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", name) for name in ids)


def test_categories_are_spread() -> None:
    counts = Counter(spec["category"] for spec in TEMPLATES)
    assert set(counts) <= CATEGORIES
    assert len(counts) >= MIN_CATEGORIES
    assert max(counts.values()) <= MAX_PER_CATEGORY


def test_every_kind_occurs() -> None:
    assert {part["kind"] for spec in TEMPLATES for part in spec["part"]} == KINDS


def test_no_text_occurs_twice() -> None:
    counts = Counter(text for spec in TEMPLATES for text in prose(spec))
    assert [text for text, count in counts.items() if count > 1] == []


def test_templates_are_not_copies_of_each_other() -> None:
    requirements = [
        (spec["id"], sorted_tokens(fill(part["requirement"], next(assignments(spec)))))
        for spec in TEMPLATES
        for part in spec["part"]
    ]
    alike = [
        (one, other)
        for one, other in combinations(requirements, 2)
        if fuzz.ratio(one[1], other[1]) >= MAX_REQUIREMENT_RATIO
    ]
    assert alike == []


def test_snippets_are_not_copies_of_each_other() -> None:
    codes = [part["code"] for spec in TEMPLATES for part in spec["part"]]
    alike = [pair for pair in combinations(codes, 2) if fuzz.ratio(*pair) >= MAX_SENTENCE_RATIO]
    assert alike == []


@each_template
def test_template_schema(spec: Spec) -> None:
    assert set(spec) == TEMPLATE_KEYS
    assert spec["category"] in CATEGORIES
    for key, minimum in MIN_VARIANTS.items():
        assert len(spec[key]) >= minimum
        assert len(set(spec[key])) == len(spec[key])
        assert all(isinstance(text, str) and text == text.strip() for text in spec[key])


@each_template
def test_part_schema(spec: Spec) -> None:
    assert len(spec["part"]) == PARTS_PER_TEMPLATE
    for part in spec["part"]:
        assert set(part) == PART_KEYS
        assert all(isinstance(value, str) and value.strip() for value in part.values())
        assert all(part[key] == part[key].strip() and "\n" not in part[key] for key in SENTENCES)


@each_template
def test_kinds_vary(spec: Spec) -> None:
    kinds = {part["kind"] for part in spec["part"]}
    assert kinds <= KINDS
    assert len(kinds) >= MIN_KINDS_PER_TEMPLATE


@each_template
def test_slots_have_enough_values(spec: Spec) -> None:
    assert len(spec["slots"]) in SLOTS_PER_TEMPLATE
    for name, values in spec["slots"].items():
        assert re.fullmatch(r"[a-z_]+", name)
        assert len(values) >= MIN_SLOT_VALUES
        assert len(set(values)) == len(values)
        assert all(isinstance(value, str) and value and "$" not in value for value in values)


@each_template
def test_slots_are_used_and_defined(spec: Spec) -> None:
    texts = [Template(text) for text in all_texts(spec)]
    assert all(text.is_valid() for text in texts)
    used = {name for text in texts for name in text.get_identifiers()}
    assert used == set(spec["slots"])


@each_template
def test_slots_are_written_in_braces(spec: Spec) -> None:
    for text in all_texts(spec):
        assert re.search(r"\$(?![{$])", text.replace("$$", "")) is None, text


@each_template
def test_every_substitution_works(spec: Spec) -> None:
    for text in all_texts(spec):
        assert all("${" not in variant for variant in variants(spec, text))


@each_template
def test_articles_fit_the_slot_values(spec: Spec) -> None:
    for text in prose(spec):
        assert re.search(r"\ban [`]?\$\{", text) is None, text
        for name in re.findall(r"\b[Aa] [`]?\$\{(\w+)\}", text):
            assert all(value[0] not in "aeiou" for value in spec["slots"][name]), text


@each_template
def test_wording_of_parts(spec: Spec) -> None:
    for part in spec["part"]:
        assert_headline(part["requirement"])
        assert_headline(part["issue"])
        assert_sentence(part["done"])
        assert_sentence(part["near"])


@each_template
def test_wording_of_surroundings(spec: Spec) -> None:
    for text in spec["intent"]:
        assert_headline(text)
    for text in (*spec["background"], *spec["aside"]):
        assert_sentence(text)


@each_template
def test_asked_is_a_lower_case_clause(spec: Spec) -> None:
    for part in spec["part"]:
        assert re.match(r"[a-z]", part["asked"]), part["asked"]
        assert part["asked"][-1] not in ".!?;,:"


@each_template
def test_asked_uses_other_words_than_requirement(spec: Spec) -> None:
    for part in spec["part"]:
        assert fuzz.ratio(sorted_tokens(part["asked"]), sorted_tokens(part["requirement"])) < MAX_SENTENCE_RATIO


@each_template
def test_requirements_are_short(spec: Spec) -> None:
    for part in spec["part"]:
        assert max(map(len, variants(spec, part["requirement"]))) < MAX_REQUIREMENT_LENGTH, part["requirement"]


@each_template
def test_requirements_are_distinct(spec: Spec) -> None:
    for values in assignments(spec):
        requirements = [sorted_tokens(fill(part["requirement"], values)) for part in spec["part"]]
        for one, other in combinations(requirements, 2):
            assert fuzz.ratio(one, other) < MAX_REQUIREMENT_RATIO, (one, other)


@each_template
def test_done_and_near_differ(spec: Spec) -> None:
    for part in spec["part"]:
        for values in assignments(spec):
            done, near = fill(part["done"], values), fill(part["near"], values)
            assert fuzz.ratio(done, near) < MAX_SENTENCE_RATIO, (done, near)


@each_template
def test_surroundings_do_not_give_a_part_away(spec: Spec) -> None:
    surroundings = [text.lower() for key in MIN_VARIANTS for text in spec[key]]
    for part in spec["part"]:
        for text in surroundings:
            assert part["asked"].lower() not in text
            assert part["requirement"].lower() not in text


@each_template
def test_snippets_have_the_right_length(spec: Spec) -> None:
    for part in spec["part"]:
        for key in ("code", "bug"):
            lines = part[key].strip("\n").splitlines()
            assert len(lines) in CODE_LINES, (part["requirement"], key, len(lines))
            assert sum(bool(line.strip()) for line in lines) >= CODE_LINES.start, part["requirement"]


@each_template
def test_snippets_compile_without_warnings(spec: Spec) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for part in spec["part"]:
            for key in SNIPPETS:
                for source in variants(spec, part[key]):
                    compile(source, f"<{key}>", "exec")


@each_template
def test_snippets_keep_to_plain_python(spec: Spec) -> None:
    for part in spec["part"]:
        for key in SNIPPETS:
            tree = ast.parse(fill(part[key], next(assignments(spec))))
            modules = imported_modules(tree)
            assert modules <= set(sys.stdlib_module_names), modules
            assert not modules & FORBIDDEN_MODULES
            assert not called_names(tree) & FORBIDDEN_CALLS


@each_template
def test_snippets_cannot_loop_forever(spec: Spec) -> None:
    for part in spec["part"]:
        for key in SNIPPETS:
            tree = ast.parse(fill(part[key], next(assignments(spec))))
            assert not any(isinstance(node, ast.While) for node in ast.walk(tree))
            assert not called_names(tree) & ENDLESS_ITERATORS


@each_template
def test_bug_is_a_small_unmarked_change(spec: Spec) -> None:
    for part in spec["part"]:
        assert part["bug"] != part["code"]
        assert fuzz.ratio(part["code"], part["bug"]) >= MIN_BUG_RATIO
        assert re.search(r"#|\b(bug|todo|fixme|broken|mistake)", part["bug"].lower()) is None


@each_template
def test_code_of_different_parts_fits_in_one_module(spec: Spec) -> None:
    first = next(assignments(spec))
    names = Counter(name for part in spec["part"] for name in top_level_names(fill(part["code"], first)))
    assert [name for name, count in names.items() if count > 1] == []


@each_template
def test_check_passes_on_code(spec: Spec) -> None:
    for part in spec["part"]:
        for source in runnable(spec, part, "code"):
            assert failure(source) is None, source


@each_template
def test_check_fails_on_bug(spec: Spec) -> None:
    for part in spec["part"]:
        for source in runnable(spec, part, "bug"):
            assert failure(source) is not None, source
