"""Which model is asked, and which one judges: told in a line, refused where it makes no sense."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from flywheel.base.errors import BadInputError
from flywheel.learning.choice import EMBEDDED, ModelChoice, choose_judge, choose_model

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "name", ["openai/gpt-5-latest", "anthropic/claude:latest", "ollama/llama@latest", "a/b/latest"]
)
def test_a_name_for_whatever_is_newest_is_warned_of(name: str) -> None:
    choice = choose_model(name, {})
    assert choice.alias
    assert "warning: an alias, whose model may change under a deployed program" in choice.describe()


@pytest.mark.parametrize("name", ["openai/gpt-5", "openai/latest-and-greatest", "openai/thelatest", EMBEDDED])
def test_a_name_that_stays_is_not(name: str) -> None:
    assert "warning" not in choose_model(name, {}).describe()


@pytest.mark.parametrize("base", ["http://me:word@host/v1", "https://:word@host/v1"])
def test_an_address_with_a_password_is_refused_unrepeated(base: str) -> None:
    with pytest.raises(BadInputError, match="password") as caught:
        choose_model("some", {}, api_base=base)
    assert "word@" not in str(caught.value)


def test_no_judge_is_none_and_a_judge_is_chosen_by_its_flag_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYWHEEL_API_BASE", "http://127.0.0.1:1/v1")
    monkeypatch.setenv("FLYWHEEL_MODEL", "openai/other")
    monkeypatch.delenv("FLYWHEEL_PRICES", raising=False)
    examined = ModelChoice("openai/some", "test")
    assert choose_judge(None, None, examined, force=False) is None
    assert choose_judge("anthropic/judge", None, examined, force=False) == ModelChoice("anthropic/judge", "--judge")


def test_a_judge_has_the_price_that_the_operators_table_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "prices.json"
    table.write_text('{"openai/judge": {"input": 3.0, "output": 9.0}}')
    examined = ModelChoice("openai/some", "test")
    given = choose_judge("openai/judge", None, examined, force=False, prices=str(table))
    monkeypatch.setenv("FLYWHEEL_PRICES", str(table))
    assert given == choose_judge("openai/judge", None, examined, force=False)
    assert given is not None
    assert given.price is not None
    assert given.price.output == 9.0


def test_the_model_under_optimization_is_no_judge_unless_forced() -> None:
    examined = ModelChoice("openai/some", "test", "http://127.0.0.1:1/v1")
    with pytest.raises(BadInputError, match="--force-judge"):
        choose_judge("openai/some", None, examined, force=False)
    assert choose_judge("openai/some", None, examined, force=True) is not None


def test_a_judges_address_with_a_login_is_refused_without_repeating_it() -> None:
    examined = ModelChoice("openai/one", "--model")
    with pytest.raises(BadInputError, match="leave out user and password") as refused:
        choose_judge("two", "http://me:hunter2@127.0.0.1:1/v1", examined, force=False)
    assert "hunter2" not in str(refused.value)
