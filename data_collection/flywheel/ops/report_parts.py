"""What the report shows of one signature, read from the run's folder: charts, tables, examples, prompts."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from flywheel.base.errors import BadInputError, DamagedError
from flywheel.base.evaluations import FILE_NAME, Evaluation
from flywheel.base.files import read_json_object, to_json
from flywheel.base.text import one_line
from flywheel.data.store import read_metadata
from flywheel.ops.charts import trial_chart
from flywheel.ops.report_charts import cost_chart, evidence_chart, scores_chart, spend_chart
from flywheel.ops.runs import GATE_REPORTS, RESULTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flywheel.base.evaluations import Change, Shown
    from flywheel.data.metadata import Statistics
    from flywheel.ops.runs import RunSummary, SignatureResult

MOST_LINES, LONGEST_TEXT, LONGEST_TITLE = 400, 4000, 90
CONTEXT = 2
# As in learning/waiting.py: the e-value from which a candidate that waited is deployed.
ENOUGH_EVIDENCE = 40.0


@dataclass(frozen=True)
class Part:
    """One signature's section of the report; charts are our own SVG, or '' where there is nothing to draw."""

    trials: Markup
    scores: Markup
    cost: Markup
    evidence: Markup
    spend: Markup
    evaluation: Evaluation | None
    changed: tuple[tuple[str, Sequence[Shows]], ...]
    prompts: list[tuple[str, str]]
    checks: list[dict[str, Any]]
    dataset: Statistics | None
    problem: str | None


@dataclass(frozen=True)
class Shows:
    """An example that was won or lost, as texts."""

    title: str
    texts: tuple[tuple[str, str], ...]


def part_of(name: str, result: SignatureResult, summary: RunSummary, folder: Path) -> Part:
    """The section's content; what cannot be read is told in `problem` and left out."""
    evaluation, problem = _evaluation(folder / RESULTS / name / FILE_NAME)
    spend = Markup(spend_chart(result.stages))  # noqa: S704 - our own SVG; the names in it are escaped
    checks, dataset = _checks(folder / GATE_REPORTS / f"{name}.json"), _dataset(name, result, summary)
    if evaluation is None:
        nothing = Markup()
        return Part(nothing, nothing, nothing, nothing, spend, None, (), [], checks, dataset, problem)
    trials = evaluation.trials
    return Part(
        trials=Markup(trial_chart([t.score for t in trials], [t.best for t in trials]) if trials else ""),  # noqa: S704
        scores=Markup(scores_chart(evaluation)),  # noqa: S704 - numbers only
        cost=Markup(_cost(evaluation, result)),  # noqa: S704 - numbers only
        evidence=Markup(evidence_chart(evaluation.tests, ENOUGH_EVIDENCE)),  # noqa: S704 - its dates are escaped
        spend=spend,
        evaluation=evaluation,
        changed=tuple(
            (title, [_shows(change) for change in changes])
            for title, changes in (("lost", evaluation.regressions), ("won", evaluation.gains))
        ),
        prompts=prompt_diff(evaluation.before, evaluation.after),
        checks=checks,
        dataset=dataset,
        problem=problem,
    )


def _evaluation(path: Path) -> tuple[Evaluation | None, str | None]:
    if not path.is_file():
        return None, None
    try:
        return Evaluation.read(path), None
    except (BadInputError, DamagedError) as error:
        return None, str(error)


def _cost(evaluation: Evaluation, result: SignatureResult) -> str:
    before, after = evaluation.baseline_usage, evaluation.optimized_usage
    scores = result.baseline_score, result.optimized_score
    if before is None or after is None or scores[0] is None or scores[1] is None:
        return ""
    return cost_chart(before, after, (scores[0], scores[1]), result.floor_score)


def _checks(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    found: list[dict[str, Any]] = read_json_object(path, "a quality report")["checks"]
    return found


def _dataset(name: str, result: SignatureResult, summary: RunSummary) -> Statistics | None:
    """What the dataset version is made of, where it can still be read."""
    if result.dataset_version is None or "data_dir" not in summary.config:
        return None
    try:
        return read_metadata(Path(str(summary.config["data_dir"])) / name / result.dataset_version).statistics
    except (BadInputError, DamagedError):
        return None


def _shows(change: Change) -> Shows:
    texts = (
        (f"asked ({change.id})", change.inputs),
        ("expected", change.labels),
        ("baseline's answer", change.baseline_answer),
        ("optimized answer", change.optimized_answer),
    )
    asked = one_line(" ".join(_words(change.inputs)), LONGEST_TITLE)
    title = f"{change.baseline_score:.3f} to {change.optimized_score:.3f}: {asked}"
    return Shows(title, tuple((label, _cut(to_json(value).rstrip())) for label, value in texts))


def _words(value: Any) -> Iterator[str]:
    """The texts and numbers of a JSON value, without the names of its keys."""
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _words(part)
    else:
        yield str(value)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}\n… {len(text) - LONGEST_TEXT} characters more"


def prompt_diff(before: Shown, after: Shown) -> list[tuple[str, str]]:
    """The messages before and after, line by line: (kind, text), the kind being add, drop, same or skip."""
    lines = [
        _line(line)
        for line in difflib.unified_diff(_lines(before), _lines(after), n=CONTEXT, lineterm="")
        if not line.startswith(("---", "+++"))
    ]
    if len(lines) > MOST_LINES:
        lines = [*lines[:MOST_LINES], ("skip", f"… {len(lines) - MOST_LINES} lines more; see evaluation.json")]
    return lines


def _line(line: str) -> tuple[str, str]:
    if line.startswith("@@"):
        return "skip", "…"
    return {"+": "add", "-": "drop"}.get(line[0], "same"), line


def _lines(shown: Shown) -> list[str]:
    return [
        line
        for message in shown.messages
        for line in (f"{message['role']}:", *(f"  {text}" for text in str(message["content"]).splitlines()), "")
    ]
