"""report.html: one file that loads nothing, and in which no text from outside becomes markup."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.browser import SCREENS, chromium, look

from flywheel.base.evaluations import Evaluation, Shown
from flywheel.base.files import write_json
from flywheel.ops import report, report_parts
from flywheel.ops.journal import RunJournal
from flywheel.ops.runs import GATE_REPORTS, RESULTS, RunSummary

if TYPE_CHECKING:
    from pathlib import Path

MOMENT = datetime(2025, 11, 4, 12, 0, tzinfo=UTC)
HOSTILE = "<script>alert(1)</script>\x1b[2J\u202e\"'><img src=x onerror=y>{{ 7*7 }}\ud800"
SAFE = "&lt;script&gt;alert(1)&lt;/script&gt;[2J"
ALLOWED = set(
    "html head meta title style body main h1 h2 h3 p span section dl div dt dd pre table tr th td svg line text circle "
    "polyline rect details summary".split()
)
RESULT: dict[str, Any] = {
    "baseline": "deployed", "baseline_score": 0.474, "optimized_score": 0.751, "improvement_percent": 58.5,
    "improvement_ci": (12.0, 90.1), "verdict": "deploy", "deployed": True, "n_test": 40, "cost_usd": None,
    "verdict_reason": "the interval lies above 0", "seconds": 125.0, "collected_by_source": {"git": 3},
}  # fmt: skip


class Page(HTMLParser):
    """The tags and attributes that a browser would see, and the text outside of style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.shown = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.shown += data + " "


def summary(folder: Path, results: dict[str, dict[str, Any]], error: str | None = None, **config: Any) -> RunSummary:
    journal = RunJournal.begin(folder, MOMENT, {"min_improvement": 5.0, "model": "some/model", **config}, list(results))
    journal.error = error
    for name, facts in results.items():
        journal.facts[name] = facts
    return journal.summary(ended=True)


def rendered(folder: Path, results: dict[str, dict[str, Any]], error: str | None = None, **config: Any) -> str:
    return report.render(summary(folder, results, error, **config), folder)


def evaluation_with(trials: list[float], **facts: Any) -> Evaluation:
    """An evaluation of a run whose full trials scored so."""
    best = [max(trials[: n + 1]) for n in range(len(trials))]
    rows = [
        {"number": n, "score": s, "full": True, "best": b} for n, (s, b) in enumerate(zip(trials, best, strict=True))
    ]
    shown = {"instructions": "Judge it.", "demos": [], "messages": [{"role": "system", "content": "Judge it."}]}
    plain = {"test": [], "slices": {}, "shown_split": "val", "regressions": [], "gains": [], "before": shown}
    usage = {"baseline_usage": None, "optimized_usage": None}
    return Evaluation.model_validate({"trials": rows, **plain, **usage, "after": shown, **facts})


def check_safe(text: str) -> Page:
    page = Page(text)
    assert page.tags <= ALLOWED
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in {"src", "href", "action"}]
    assert "://" not in text
    assert "url(" not in text
    assert "@import" not in text
    hidden = {c for c in text if c not in "\n\t" and unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co"}}
    assert not hidden
    text.encode()
    return page


def test_the_page_may_load_nothing(tmp_path: Path) -> None:
    page = check_safe(rendered(tmp_path, {"validate_intent": RESULT}))
    assert page.attributes[2:4] == [
        ("http-equiv", "Content-Security-Policy"),
        ("content", "default-src 'none'; style-src 'unsafe-inline'"),
    ]


def test_it_tells_verdict_figures_and_settings(tmp_path: Path) -> None:
    shown = " ".join(check_safe(rendered(tmp_path, {"validate_intent": RESULT}, trials=50)).shown.split())
    for text in (
        "run_20251104_120000",
        "some/model",
        "deploy",
        "0.474",
        "0.751",
        "unknown price",
        "2 min",
        "trials 50",
    ):
        assert text in shown
    assert "completed" in shown


def test_a_run_without_results_is_told_too(tmp_path: Path) -> None:
    page = check_safe(rendered(tmp_path / "a", {}, "terminated"))
    assert "failed" in page.shown
    assert "terminated" in page.shown
    assert "svg" not in page.tags
    page = check_safe(rendered(tmp_path / "b", {"validate_intent": {}, "generate_guidance": {}}))
    assert page.shown.count("no verdict") == 2
    assert "no version" in page.shown


def test_hostile_text_is_shown_as_text_everywhere(tmp_path: Path) -> None:
    hostile = {
        **RESULT,
        "baseline": HOSTILE,
        "verdict_reason": HOSTILE,
        "shortfall": HOSTILE,
        "dataset_version": HOSTILE,
        "collected_by_source": {HOSTILE: 1},
        "rejected": {HOSTILE: 2},
        "quality_gates": {"verdict": "reject", "reasons": [HOSTILE], "strict_verdict": "reject"},
    }
    config = {"model": HOSTILE, HOSTILE: HOSTILE, "repo_path": [HOSTILE]}
    text = rendered(tmp_path, {HOSTILE: hostile}, HOSTILE, **config)
    page = check_safe(text)
    assert text.count(SAFE) >= 12
    assert page.shown.count("<script>alert(1)</script>") >= 12
    assert "49" not in page.shown


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.text(st.characters()), st.text(st.characters()))
def test_no_text_gets_out_of_its_place(tmp_path: Path, one: str, other: str) -> None:
    check_safe(
        rendered(tmp_path, {"validate_intent": {**RESULT, "verdict_reason": one}}, other, note=one).replace("://", "")
    )


def full(text: str) -> Evaluation:
    """An evaluation in which every text is `text`."""
    usage = {"calls": 1, "input_tokens": 100, "output_tokens": 10, "cost_usd": 0.002, "latency_ms": 90.0}
    part = {"n": 2, "n_failed": 1, "baseline": 0.25, "optimized": 0.75}
    change = {
        "id": text, "inputs": {text: text}, "labels": {"a": text}, "baseline_score": 0.0, "optimized_score": 1.0,
        "baseline_answer": {"a": text}, "optimized_answer": {"a": [text]},
    }  # fmt: skip
    before = {"instructions": text, "demos": [], "messages": [{"role": "system", "content": f"{text}\nthe same"}]}
    after = {**before, "messages": [{"role": text, "content": f"{text} anew\nthe same"}]}
    judged = {
        "model": text, "snapshot": f"{text} of today", "n": 8, "n_failed": 1, "n_suspicious": 2, "baseline": 0.5,
        "optimized": 0.6, "difference_points": 10.0, "difference_ci": (2.0, 18.0), "first_place_points": 4.0,
        "spearman": 0.42, "n_sides": 7, "same_side": 0.857, "same_side_ci": (0.487, 0.974),
    }  # fmt: skip
    tests = [
        {"run_id": run, "n": 40, "e_value": e_value, "improvement_percent": 9.0}
        for run, e_value in (("run_20251004_020000", 3.1), ("run_20251104_020000", 55.5), (text, 0.0))
    ]
    return evaluation_with(
        [40.0, 60.0],
        test=[{"id": str(n), "baseline": n % 2, "optimized": 1.0} for n in range(8)],
        slices={"source": {text: part}, "difficulty": {"easy": {**part, "n_failed": 2, "baseline": None}}},
        gains=[change],
        regressions=[{**change, "baseline_score": 1.0, "optimized_score": 0.0}],
        baseline_usage=usage,
        optimized_usage={**usage, "cost_usd": 0.003},
        before=before,
        after=after,
        judged=judged,
        tests=tests,
    )


def run_with(folder: Path, name: str, evaluation: Evaluation, **facts: Any) -> RunSummary:
    """A run's summary whose folder has the evaluation and a quality report."""
    check = {"name": HOSTILE[:-1], "value": 0.5, "target": HOSTILE[:-1], "verdict": "fail", "reason": "", "advice": ""}
    stages = {HOSTILE: {"calls": 40, "cached_calls": 2, "cost_usd": None}, "test": {"calls": 9, "cost_usd": 0.5}}
    gates = {"verdict": "warn", "reasons": ["few"], "strict_verdict": "reject"}
    given = {**RESULT, "stages": stages, "quality_gates": gates, "cost_ratio": 1.5, "latency_delta_ms": 12.0, **facts}
    made = summary(folder, {name: given})
    run = folder / made.run_id
    (run / RESULTS / name).mkdir()
    evaluation.write(run / RESULTS / name)
    write_json(run / GATE_REPORTS / f"{name}.json", {"checks": [check]})
    return made


def test_everything_known_of_a_signature_is_shown(tmp_path: Path) -> None:
    made = run_with(tmp_path, "validate_intent", full("some words"), floor_score=0.512)
    text = report.render(made, tmp_path / made.run_id)
    shown = " ".join(check_safe(text).shown.split())
    for expected in (
        "trial 1 to 2", "baseline 0.500", "optimized 1.000", "USD for 1,000 examples", "cost 1.50x", "+12 ms an",
        "40 calls + 2 cached, price unknown", "9 calls, $0.50", "by source some words 2 (1 failed) 0.250 0.750 +0.500",
        "easy 2 (2 failed) - 0.750 -", "Examples lost (validation split)", "0.000 to 1.000: some words",
        "optimized answer", "1.000 to 0.000: some words ", "+ some words anew", "- some words", "0.5",
        "2 lines more, 2 lines less", "Spearman's rho 0.42 over 16 answers", "86 % of 7 (49 to 97 %)",
        "+10.0 points (+2.0 to +18.0), on 8 test examples", "1 examples got no score", "2 left out", "2025-10-04",
        "40 examples: e-value 55.5, +9.0 % so far",
        "40 examples: e-value 0, +9.0 %", "labelled examples alone (the floor, 0.512)",
    ):  # fmt: skip
        assert expected in shown, expected


def test_no_text_of_a_model_or_dataset_becomes_markup(tmp_path: Path) -> None:
    made = run_with(tmp_path, "validate_intent", full(HOSTILE[:-1]))
    text = report.render(made, tmp_path / made.run_id)
    page = check_safe(text)
    assert text.count(SAFE) >= 12
    assert page.shown.count("<script>alert(1)</script>") >= 12


def test_an_evaluation_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    made = run_with(tmp_path, "validate_intent", full("words"))
    (tmp_path / made.run_id / RESULTS / "validate_intent" / "evaluation.json").write_text("{")
    shown = check_safe(report.render(made, tmp_path / made.run_id)).shown
    assert "not shown" in shown
    assert "not JSON" in shown


def test_long_texts_and_long_prompts_are_cut_and_say_so() -> None:
    before, after = ({"instructions": "", "demos": [], "messages": [{"role": "user", "content": text}]}
                     for text in ("", "\n".join(map(str, range(1000)))))  # fmt: skip
    lines = report_parts.prompt_diff(Shown.model_validate(before), Shown.model_validate(after))
    assert len(lines) == report_parts.MOST_LINES + 1
    assert lines[-1] == ("skip", "… 603 lines more; see evaluation.json")


@pytest.mark.slow
def test_a_browser_finds_nothing_wrong_with_it(tmp_path: Path) -> None:
    long = "A rather long text that goes on, with_a_very_long_word_" + "x" * 80
    made = run_with(tmp_path, "validate_intent", full(long), verdict_reason=long, shortfall=long)
    path = tmp_path / "report.html"
    path.write_text(report.render(made, tmp_path / made.run_id).replace("<details>", "<details open>"))
    with chromium() as browser:
        for width, scheme in SCREENS:
            look(browser, path.as_uri(), width, scheme).check()


def test_the_terminal_gets_a_table_with_reasons_and_no_commands(tmp_path: Path) -> None:
    results = {"validate_intent": {**RESULT, "verdict_reason": HOSTILE}, "generate_guidance": {}}
    lines = list(report.verdict_lines(summary(tmp_path, results, "first\nsecond")))
    text = "\n".join(lines)
    assert "+58.5 % (+12.0 to +90.1)" in text
    assert "deploy, deployed" in text
    assert "error: first second" in lines
    assert not set(text) & {"\x1b", "\u202e", "\ud800"}
    assert len({line.index("baseline") for line in lines if "baseline" in line and "optimized" in line}) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (report.score_text(None), "-"),
        (report.score_text(0.0), "0.000"),
        (report.percent_text(None), "-"),
        (report.percent_text(0.0), "0.0 %"),
        (report.usd_text(None), "unknown price"),
        (report.usd_text(0.0), "$0.00"),
    ],
)
def test_nothing_and_zero_read_differently(text: str, expected: str) -> None:
    assert text == expected
