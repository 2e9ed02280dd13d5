from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.data import scoring
from flywheel.data.examples import Example, Metadata
from flywheel.data.registry import all_signatures

TABLE = all_signatures()
SIGNATURE = TABLE["validate_completeness"]
KNOWN = Metadata(source="git", category="api", difficulty="easy")
DONE = "The page size is capped at twenty rows before the query runs on the server."
ASKED = ["Return at most twenty rows per page", "Sort the rows by their date"]
WHY = "The page size is capped at twenty rows, but nothing sorts the rows by date."


def example(done: str = DONE, why: str = WHY, metadata: Metadata = KNOWN) -> Example:
    return Example(
        inputs={"implementation": done, "requirements": ASKED},
        outputs={"is_complete": False, "missing_requirements": ASKED[1:], "explanation": why},
        metadata=metadata,
    )


def test_the_weights_are_whole_and_name_the_criteria() -> None:
    assert sum(scoring.WEIGHTS.values()) == pytest.approx(1)
    assert list(scoring.WEIGHTS) == [field.name for field in dataclasses.fields(scoring.Quality)]


def test_a_careful_example_scores_full_marks() -> None:
    assert scoring.score(SIGNATURE, example()).total == 100.0


@pytest.mark.parametrize(
    ("worse", "criterion"),
    [
        (example(metadata=Metadata(source="git")), "completeness"),
        (example(why="No."), "completeness"),
        (example(done="TODO write what was done on the server"), "clarity"),
        (example(done="=== +++ {} [] ;; == != 11 22 33"), "clarity"),
        (example(done="rows " * 40), "clarity"),
        (example(why="Bananas grow well under tropical skies during rainy seasons."), "relevance"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_a_reader_would_hold_against_it_costs(worse: Example, criterion: str) -> None:
    best, found = scoring.score(SIGNATURE, example()), scoring.score(SIGNATURE, worse)
    assert getattr(found, criterion) < getattr(best, criterion)
    assert found.total < best.total


@given(st.floats(0, 1), st.floats(0, 1))
def test_the_more_alike_the_less_it_adds(one: float, other: float) -> None:
    near, far = max(one, other), min(one, other)
    assert scoring.score(SIGNATURE, example(), near).diversity <= scoring.score(SIGNATURE, example(), far).diversity


@given(st.text(), st.text(), st.lists(st.text(), max_size=3), st.floats(0, 1))
def test_every_score_is_within_its_scale(done: str, why: str, missing: list[str], nearest: float) -> None:
    outputs: dict[str, Any] = {"is_complete": not missing, "missing_requirements": missing, "explanation": why}
    subject = Example(inputs={"implementation": done, "requirements": [done]}, outputs=outputs)
    quality = scoring.score(SIGNATURE, subject, nearest)
    assert all(0 <= value <= 1 for value in dataclasses.astuple(quality))
    assert 0 <= quality.total <= 100


def test_scores_that_are_there_are_kept_and_others_judged_among_all() -> None:
    given_score = example(metadata=KNOWN.model_copy(update={"quality_score": 12.5}))
    alone = example(done="Completely different words describe some other work of yours entirely.")
    scored = scoring.score_missing(SIGNATURE, [given_score, example(), alone])
    assert scored[0] == given_score
    first, second = scored[1].metadata.quality_score, scored[2].metadata.quality_score
    assert first == pytest.approx(90.0)  # a repeat loses all of its diversity
    assert second is not None
    assert second > 60


def test_scores_do_not_depend_on_the_order() -> None:
    batch = [example(), example(done=f"{DONE} Indeed."), example(done="Something else was done on that server today.")]
    forward = scoring.score_missing(SIGNATURE, batch)
    backward = scoring.score_missing(SIGNATURE, batch[::-1])
    assert forward == backward[::-1]


def test_nothing_to_score() -> None:
    assert scoring.score_missing(SIGNATURE, []) == []
