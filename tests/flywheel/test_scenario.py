from __future__ import annotations

import pytest

from flywheel.data.scenario import (
    DIFFICULTIES,
    DIFFICULTY_TARGET,
    PRIORITY_BY_KIND,
    PRIORITY_RUBRIC,
    Requirement,
    Scenario,
)

MET = Requirement("met", "feature", met=True)
UNMET = Requirement("unmet", "security", met=False)
UNKNOWN = Requirement("unknown", "docs", stated=False)


def test_views_of_the_requirements_rest_on_what_is_known() -> None:
    scenario = Scenario("git", "g", "api", "easy", "intent", requirements=(MET, UNMET, UNKNOWN))
    assert scenario.stated == (MET, UNMET)
    assert scenario.checked == (MET, UNMET)
    assert scenario.missing == (UNMET,)


def test_difficulty_targets_are_the_systems() -> None:
    assert tuple(DIFFICULTY_TARGET) == DIFFICULTIES
    assert [DIFFICULTY_TARGET[level] for level in DIFFICULTIES] == [0.3, 0.5, 0.2]


@pytest.mark.parametrize("kind", PRIORITY_BY_KIND)
def test_priorities_follow_the_rubric_that_models_are_told(kind: str) -> None:
    assert 1 <= Requirement("x", kind).priority <= 10
    assert f"{kind.replace('_', ' ')} {Requirement('x', kind).priority}" in PRIORITY_RUBRIC


def test_an_unknown_kind_is_a_bug_not_a_default() -> None:
    with pytest.raises(KeyError):
        _ = Requirement("x", "no such kind").priority
