"""Faults put in are real, named, and leave code that parses."""

from __future__ import annotations

import pytest

from flywheel.data.mutations import is_whole, mutations

CODE = """def {name}(items, limit):
    total = 0
    {line}
        total += 1
    total += 2
    return total
"""


def mutate(line: str) -> list[str]:
    found = mutations(CODE.format(name="count", line=line), "count", "python")
    return [m.code.splitlines()[m.line - 1].strip() for m in found if m.line == 3]


@pytest.mark.parametrize(
    ("line", "faulty"),
    [
        ("if items:", ["if not items:"]),
        ("if not items.ready():", ["if items.ready():"]),
        ("if items == limit:", ["if items != limit:"]),
        ("while items is not None:", ["while items is None:"]),
        ("if items not in limit:", ["if items in limit:"]),
        ("if items and limit:", ["if items or limit:"]),
        ("if not items or len(items) == 0:", []),
        ("if items > limit:", []),
        ("if items == 1 and limit or total:", []),
        ("for item in items:", []),
        ("if debug:", []),
        ('if items == " and ":', []),
    ],
)
def test_python_faults(line: str, faulty: list[str]) -> None:
    assert mutate(line) == faulty


def test_a_loop_that_surely_handles_each_element_stops_short() -> None:
    code = "def total(xs):\n    s = 0\n    for i in range(len(xs)):\n        s += {}\n    s += 0\n    return s + 0\n"
    found = mutations(code.format("xs[i]"), "total", "python")
    assert [m.code.splitlines()[2].strip() for m in found] == ["for i in range(len(xs) - 1):"]
    assert not mutations(code.format("sum(xs[j] for j in range(i + 1, len(xs)))"), "total", "python")


@pytest.mark.parametrize("body", ["pass", "log.info(xs)", "continue"])
def test_a_branch_without_effect_is_left_alone(body: str) -> None:
    code = f"def walk(xs):\n    for x in xs:\n        use(x)\n        if x:\n            {body}\n    return 1 + 1\n"
    assert not mutations(code, "walk", "python")


def test_a_dropped_result_is_named() -> None:
    found = mutations("def add(a, b):\n    c = a\n    c += b\n    c += 0\n    return c\n", "add", "python")
    assert [m.issue for m in found] == [
        "`add` never returns its result (`return c` is missing at its end), so its callers get None"
    ]
    assert "return" not in found[0].code
    assert not mutations(
        "def add(a):\n    c = a\n    if c is a:\n        return 1\n    c += 2\n    return c\n", "add", "python"
    )[1:]


def test_faults_in_braces() -> None:
    loop = "  for (let i = 0; i < xs.length; i++) {\n    s += xs[i];\n  }\n"
    code = f"function sum(xs) {{\n  let s = 0;\n{loop}  if (!s) {{\n    s = 1;\n  }}\n  return s;\n}}"
    lines = [m.code.splitlines()[m.line - 1].strip() for m in mutations(code, "sum", "typescript")]
    assert lines == ["for (let i = 0; i <= xs.length; i++) {", "if (s) {"]


def test_wholeness() -> None:
    assert is_whole("def f():\n    return 1", "python")
    assert not is_whole("def f(:\n    return 1", "python")
    assert is_whole('func F() { x := "}" }', "go")
    assert not is_whole("func F() {", "go")
    assert not is_whole("anything", "")
