"""report.html: one file that loads nothing, and in which no text from outside becomes markup."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel.base.evaluations import Evaluation
from flywheel.base.programs import FILE_NAME, Program, ProgramScores
from flywheel.ops import report
from flywheel.ops.runs import RESULTS, RunJournal, RunSummary

if TYPE_CHECKING:
    from pathlib import Path

MOMENT = datetime(2025, 11, 4, 12, 0, tzinfo=UTC)
HOSTILE = "<script>alert(1)</script>\x1b[2J\u202e\"'><img src=x onerror=y>{{ 7*7 }}\ud800"
SAFE = "&lt;script&gt;alert(1)&lt;/script&gt;[2J"
ALLOWED = set(
    "html head meta title style body main h1 h2 h3 p span section dl div dt dd pre table tr th td svg line text circle "
    "polyline".split()
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


def test_trials_and_the_candidate_are_shown_where_there_are_any(tmp_path: Path) -> None:
    folder = tmp_path / RESULTS / "validate_intent"
    folder.mkdir(parents=True)
    evaluation_with([40.0, 60.0]).write(folder)
    program = Program(
        signature="validate_intent", fields=(), instructions=HOSTILE[:-1], demos=({"a": 1},), adapter="x", model="x",
        model_snapshot=None, model_parameters={}, optimizer="x", seed=0, dataset_version="v", dataset_hash="h",
        run_id="r", created="c", scores=ProgramScores(0.1, 0.2, 100.0, (1.0, 2.0), 9), state={},
    )  # fmt: skip
    (folder / FILE_NAME).write_text(program.to_json())
    text = rendered(tmp_path, {"validate_intent": RESULT})
    page = check_safe(text)
    assert "trial 1 to 2" in page.shown
    assert "with 1 demonstration(s)" in page.shown
    assert SAFE in text


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
