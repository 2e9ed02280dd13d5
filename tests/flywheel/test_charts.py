from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from flywheel.ops.charts import WIDTH, Interval, interval_chart, trial_chart

PERCENT = st.floats(-1000, 1000)


def numbers(svg: ET.Element, *names: str) -> list[float]:
    return [float(element.attrib[name]) for element in svg.iter() for name in names if name in element.attrib]


@given(st.lists(st.tuples(PERCENT, PERCENT, PERCENT).map(sorted), max_size=5), st.floats(0, 50))
def test_every_interval_is_drawn_within_the_picture(rows: list[list[float]], threshold: float) -> None:
    intervals = [Interval(f"s{n}", row[0], row[1], row[2], "deploy") for n, row in enumerate(rows)]
    svg = ET.fromstring(interval_chart(intervals, threshold))
    assert len(svg.findall("circle")) == len(rows)
    assert all(0 <= x <= WIDTH for x in numbers(svg, "x", "x1", "x2", "cx"))
    for circle, whisker in zip(svg.findall("circle"), svg.findall("line")[2:], strict=True):
        assert float(whisker.attrib["x1"]) <= float(circle.attrib["cx"]) <= float(whisker.attrib["x2"])


def test_zero_lies_left_of_the_threshold() -> None:
    svg = ET.fromstring(interval_chart([Interval("s", -1, 2, 5, "")], 5.0))
    axis, goal = svg.findall("line")[:2]
    assert (axis.attrib["class"], goal.attrib["class"]) == ("axis", "goal")
    assert float(axis.attrib["x1"]) < float(goal.attrib["x1"])
    assert [text.text for text in svg.findall("text")][:2] == ["0 %", "5 %"]


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffe\uffff")))
def test_a_name_is_text_whatever_it_holds(name: str) -> None:
    svg = ET.fromstring(interval_chart([Interval(name, -1, 2, 5, "deploy")], 5.0))
    assert {element.tag for element in svg.iter()} == {"svg", "line", "text", "circle"}


def test_hostile_names_are_escaped_and_made_visible() -> None:
    svg = interval_chart([Interval("<script>\x1b\u202e&\"'", 0, 1, 2, "deploy")], 5.0)
    assert "&lt;script&gt;&amp;" in svg
    assert not re.search(r"<script|\x1b|\u202e", svg)


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=1, max_size=60))
def test_every_trial_has_its_dot_within_the_picture(trials: list[tuple[float, float]]) -> None:
    scores, best = [score for score, _ in trials], [value for _, value in trials]
    svg = ET.fromstring(trial_chart(scores, best))
    left, top, width, height = map(float, svg.attrib["viewBox"].split())
    dots = svg.findall("circle")
    assert len(dots) == len(trials)
    assert all(left <= float(dot.attrib["cx"]) <= width and top <= float(dot.attrib["cy"]) <= height for dot in dots)
    heights = {score: float(dot.attrib["cy"]) for score, dot in zip(scores, dots, strict=True)}
    assert heights[max(scores)] <= heights[min(scores)]
    line = svg.find("polyline")
    assert line is not None
    assert len(line.attrib["points"].split()) == len(trials)
