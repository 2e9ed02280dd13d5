"""One real call before anything is spent, so that a wrong key or a dead server fails in seconds with a plain line."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dspy
from dspy.utils.exceptions import (
    AdapterParseError,
    LMAuthError,
    LMBillingError,
    LMError,
    LMInvalidRequestError,
    LMNotConfiguredError,
    LMRateLimitError,
    LMServerError,
    LMTimeoutError,
    LMTransportError,
    LMUnsupportedModelError,
    is_retryable_lm_error,
)

from flywheel.base.cli import say
from flywheel.base.errors import BadInputError, ModelError
from flywheel.learning.choice import EMBEDDED, KEY_VARIABLE
from flywheel.learning.ledger import FILE_NAME, Ledger, Limits, read_calls
from flywheel.learning.lm import failure_kind, open_model
from flywheel.learning.optimizers import require_libraries
from flywheel.learning.prices import price_of, taken
from flywheel.learning.stages import PREFLIGHT as STAGE
from flywheel.learning.trials import GEPA

if TYPE_CHECKING:
    from collections.abc import Callable

    from flywheel.learning.choice import ModelChoice
    from flywheel.learning.ledger import Call
    from flywheel.learning.lm import RecordedLM

QUESTION = "What is the capital of France? One word."
ANSWER_SECONDS = 60.0
RETRY_WITHIN_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 5.0
_NOT_FOUND = 404

# The first kind that fits says what to do.
_ADVICE: tuple[tuple[type[LMError], str], ...] = (
    (LMNotConfiguredError, f"no key is set for this provider; set its variable (for Anthropic {KEY_VARIABLE})"),
    (LMAuthError, "the provider refuses the key; check the key's variable and what the key is allowed to do"),
    (LMBillingError, "the provider asks for payment; check the account's credit"),
    (LMUnsupportedModelError, "the provider does not know this model; check --model"),
    (LMRateLimitError, "the provider turns calls away (rate limit or overload); try later or ask for a higher limit"),
    (LMServerError, "the server fails; try again, look at its log, or check the provider's key"),
    (LMTimeoutError, "no answer in time; is the server up, and the model loaded?"),
    (LMTransportError, "the server cannot be reached or does not answer; is it up, and --api-base right?"),
    (LMInvalidRequestError, "the provider refuses the request; check --model and its settings"),
)


@dataclass(frozen=True)
class Proven:
    """A model that answered: the calls that this took, and how many characters its tokens have, where it told."""

    calls: tuple[Call, ...]
    characters_per_token: float | None

    def also(self, other: Proven | None) -> Proven:
        """With the calls that another model took."""
        return self if other is None else Proven((*self.calls, *other.calls), self.characters_per_token)

    def note(self, path: Path) -> None:
        """Write the calls into a run's ledger that is not open yet: they are part of what it spends."""
        with Ledger(path) as ledger:
            for call in self.calls:
                ledger.record(call)


def require_price(choice: ModelChoice, max_cost_usd: float | None) -> None:
    """Refuse a limit that cannot be kept, before anything is spent.

    Raises:
        ModelError: the money is limited, and nobody knows the model's price.
    """
    if max_cost_usd is not None and price_of(choice).price is None:
        raise ModelError(_unpriced(choice.name, max_cost_usd))


def _unpriced(model: str, limit: float) -> str:
    return (
        f"{model}: its price is not known, so a limit of {limit:g} USD cannot be kept; "
        "tell the price by --prices FILE, or limit the calls by --max-calls"
    )


def check_search(
    optimizers: tuple[str, ...], choice: ModelChoice, reflection: str | None, max_cost_usd: float | None = None
) -> Proven:
    """See that everything is there that a search needs, before anything is spent: libraries and models.

    Raises:
        BadInputError: a model to reflect is named, and nothing reflects.
        ModelError: a library is missing, or a model does not answer; the line says what to do.
    """
    if reflection is not None and GEPA not in optimizers:
        msg = f"--reflection-model {reflection}: only gepa reflects; add --optimizer {GEPA}, or leave it out"
        raise BadInputError(msg)
    require_libraries(optimizers)
    beside = choice.beside(reflection)
    proven = check_model(choice, max_cost_usd)
    return proven.also(check_model(beside, max_cost_usd) if beside else None)


def check_model(choice: ModelChoice, max_cost_usd: float | None = None) -> Proven:
    """The preflight of a model that is not opened yet, leaving nothing behind; errors as `preflight`."""
    require_price(choice, max_cost_usd)
    limits = Limits(max_cost_usd=max_cost_usd)
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / FILE_NAME, limits) as ledger:
        return preflight(open_model(choice, ledger.account(STAGE), cache_folder=Path(folder)))


def check_judge(choice: ModelChoice | None, max_cost_usd: float | None = None) -> Proven | None:
    """The same for a second model, where one is to judge."""
    if choice is None:
        return None
    say(f"judge {choice.describe()}")
    return check_model(choice, max_cost_usd)


def preflight(model: RecordedLM, *, answer_seconds: float = ANSWER_SECONDS) -> Proven:
    """See that the model answers, by one call past the cache (repeated once when it fails fast and may pass).

    Raises:
        ModelError: it does not; the line says what to do.
    """
    probe = model.copy(cache=False, retries=0)
    if model.model == EMBEDDED:
        model.engine.load()
    else:
        probe = probe.copy(timeout=answer_seconds)
    with model.account.stage(STAGE):
        _ask_twice_at_most(probe)
    limit = model.account.ledger.limits.max_cost_usd
    if limit is not None and model.account.totals(STAGE).cost_usd is None:
        raise ModelError(_unpriced(model.model, limit))
    answer = probe.history[-1]
    tokens = taken(answer, model.model).input_tokens
    asked = sum(len(str(message["content"])) for message in answer["messages"])
    return Proven(tuple(read_calls(model.account.ledger.path)), asked / tokens if tokens else None)


def _ask_twice_at_most(probe: Any) -> None:
    started = time.monotonic()
    try:
        _ask(probe)
    except LMError as error:
        if not is_retryable_lm_error(error) or time.monotonic() - started > RETRY_WITHIN_SECONDS:
            raise explained(probe.model, error) from None
        time.sleep(min(error.retry_after or 1.0, LONGEST_PAUSE_SECONDS))
        _in_plain_words(probe.model, lambda: _ask(probe))


def _in_plain_words(model: str, call: Callable[[], None]) -> None:
    try:
        call()
    except LMError as error:
        raise explained(model, error) from None


def _ask(probe: Any) -> None:
    adapter = dspy.JSONAdapter() if probe.model == EMBEDDED else dspy.ChatAdapter(use_json_adapter_fallback=False)
    fields = {"question": (str, dspy.InputField()), "answer": (str, dspy.OutputField())}
    program = dspy.Predict(dspy.make_signature(fields, "Answer the question.", "Preflight"))
    try:
        with dspy.context(lm=probe, adapter=adapter):
            answer = program(question=QUESTION).answer
    except AdapterParseError:
        msg = f"{probe.model}: it answers, but not in the form asked for; choose another model"
        raise ModelError(msg) from None
    if not str(answer or "").strip():
        msg = f"{probe.model}: its answer is empty; choose another model, or raise --max-tokens"
        raise ModelError(msg)


def explained(model: str, error: LMError) -> ModelError:
    """What to do about a failure, without the provider's words: they may repeat the key."""
    unforeseen = "what answers is no model server that DSPy understands; check --model and --api-base"
    advice = next((text for kind, text in _ADVICE if isinstance(error, kind)), unforeseen)
    if error.status == _NOT_FOUND:
        advice = "the provider does not know this model or address; check --model and --api-base"
    return ModelError(f"{model}: {advice} ({failure_kind(error)})")
