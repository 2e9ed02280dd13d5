"""A language model as DSPy uses it, with every call recorded and held to the run's limits."""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import dspy
from dspy.utils.exceptions import LMConfigurationError, LMError, LMRateLimitError

from flywheel.base.errors import BadInputError
from flywheel.base.text import one_line
from flywheel.learning.adapters import adapter_of
from flywheel.learning.call_facts import failure_kind, failure_of, for_this_request, request_key, was_cached
from flywheel.learning.choice import EMBEDDED, ModelChoice, choose_model
from flywheel.learning.embedded import MAX_TOKENS, ROLLOUT, EmbeddedEngine, weights_file
from flywheel.learning.prices import NOTHING_TAKEN, Taken, cost_of, price_of, taken
from flywheel.learning.prompt_cache import marked
from flywheel.learning.retries import RETRIES, pause_before_retry

if TYPE_CHECKING:
    from pathlib import Path

    from flywheel.base.prices import Price
    from flywheel.learning.ledger import Account

__all__ = [
    "EMBEDDED",
    "ModelChoice",
    "RecordedLM",
    "adapter_for",
    "choose_model",
    "context_of",
    "failure_kind",
    "open_model",
    "parameters_of",
]

HOSTED_MAX_TOKENS = 2000
ANSWER_SECONDS = 120.0
_NO_KEY_NEEDED = "none"
_TOLD = frozenset({"temperature", "max_tokens", "max_completion_tokens"})
_DEFAULT_TEMPERATURE = 1.0


@dataclass
class _Asked:
    """A call under way: its request's key, whether nobody asked it before, and since when it is under way."""

    key: str | None
    first: bool = False
    started: float = 0.0


_ASKED: ContextVar[_Asked] = ContextVar("flywheel_call")


class RecordedLM(dspy.LM):  # type: ignore[misc] # dspy is untyped
    """A DSPy model that records every call in its account; copies of it share the account.

    `price` is what a call costs where an operator or this machine knows it, else DSPy's price list tells. What fails in
    passing is tried again up to `retries` times, each attempt admitted anew: in DSPy's own retries a call keeps its
    place among those under way while it waits, and the others do not hear of a refusal.
    """

    def __init__(
        self, model: str, account: Account, *, price: Price | None = None, retries: int = RETRIES, **options: Any
    ) -> None:
        super().__init__(model, num_retries=0, **options)
        self.account = account
        self.price = price
        self.retries = retries

    def __call__(self, prompt: Any = None, *, messages: Any = None, **options: Any) -> Any:
        """Answer within the run's limits; a failure is recorded and raised."""
        merged = {**self.kwargs, **options}
        if self.model.startswith("anthropic/") and merged.get("temperature") == _DEFAULT_TEMPERATURE:
            # Its newer models refuse a temperature; 1 is their own, and DSPy's rollout id keeps repeats apart.
            options["temperature"] = merged["temperature"] = None
        key = request_key({"model": self.model, "prompt": prompt, "messages": messages, "cache": self.cache, **merged})
        # After the key is made: where a prompt is marked makes no other request of it.
        mark = marked(self.model, self.account.present_stage, merged, messages)
        if mark is not None:
            options["prompt_cache"] = mark
        rollout, asked = ROLLOUT.set(merged.get("rollout_id") or 0), _ASKED.set(_Asked(key))
        try:
            return self._replayed(key, prompt, messages, options)
        finally:
            _ASKED.reset(asked)
            ROLLOUT.reset(rollout)

    def _replayed(self, key: str | None, prompt: Any, messages: Any, options: dict[str, Any]) -> Any:
        """As before where it was asked before: answered by the cache, failed without a call; else within the limits."""
        account, replay = self.account, self.account.ledger.replay
        if key is not None:
            failed = replay.failure(key, account.signature)
            if failed is not None:
                account.failed(failed)
                raise failure_of(failed, self.model)
            if replay.knows(key, account.signature, account.present_stage):
                return self._asked(prompt, messages, options)
        for attempt in itertools.count():
            with replay.stopping(account.signature, account.present_stage), account.admitted() as admission:
                try:
                    return self._asked(prompt, messages, options)
                except LMError as error:
                    pause = pause_before_retry(error, attempt, self.retries, admission)
                    if pause is None:
                        self._fail(error)
                    if not isinstance(error, LMRateLimitError):
                        # It has no line of its own, but it reached the model; what was turned away did not.
                        admission.spent(1, None)
            time.sleep(pause)
        raise AssertionError  # the loop has no end

    def _asked(self, prompt: Any, messages: Any, options: dict[str, Any]) -> Any:
        asked = _ASKED.get()
        account = self.account
        asked.first = asked.key is not None and account.ledger.replay.first_asked(asked.key, account.signature)
        asked.started = time.monotonic()
        return super().__call__(prompt, messages=messages, **options)

    def _fail(self, error: LMError) -> NoReturn:
        """Record the failure and raise it."""
        replay, asked = self.account.ledger.replay, _ASKED.get()
        refused = replay.unproven and not for_this_request(error)
        if refused:
            asked.key = None  # it is to be asked again, once the server answers
        self._record(cost=None, latency=(time.monotonic() - asked.started) * 1000, error=failure_kind(error))
        if refused:
            raise replay.refused(error) from None
        self.account.failed(failure_kind(error))
        raise error

    def update_history(self, entry: dict[str, Any]) -> None:
        """Record an answer; DSPy gives a cached one without usage, and with the cost that it had the first time."""
        super().update_history(entry)
        asked = _ASKED.get()
        if was_cached(entry):
            account = self.account
            if asked.first and asked.key is not None and not account.ledger.told(asked.key, account.signature):
                # Killed between answer and ledger: it was paid for, and its line is written now.
                self._record(taken(entry, self.model), cost=cost_of(entry, self.model, self.price))
            else:
                self._record(cached=True, cost=0.0)
            return
        self.account.ledger.replay.unproven = False
        own = (getattr(entry["response"], "provider_data", None) or {}).get("latency_ms")
        elapsed = (time.monotonic() - asked.started) * 1000 if own is None else own
        self._record(taken(entry, self.model), cost=cost_of(entry, self.model, self.price), latency=elapsed)

    def _record(
        self,
        tokens: Taken = NOTHING_TAKEN,
        *,
        cost: float | None,
        cached: bool = False,
        latency: float | None = None,
        error: str | None = None,
    ) -> None:
        self.account.record(
            model=self.model,
            input_tokens=tokens.input_tokens,
            output_tokens=tokens.output_tokens,
            cached=cached,
            cost_usd=cost,
            latency_ms=None if latency is None else round(latency, 1),
            error=error,
            key=None if cached else _ASKED.get().key,
            prompt_cache_read=tokens.prompt_cache_read,
            prompt_cache_write=tokens.prompt_cache_write,
        )


def open_model(
    choice: ModelChoice,
    account: Account,
    *,
    cache_folder: Path,
    temperature: float | None = None,
    max_tokens: int | None = None,
) -> RecordedLM:
    """The model, recording in `account`; answers are cached in the run's own folder.

    DSPy's cache is one for the process and does not tell servers apart, hence a folder a run.

    Raises:
        ModelError: the embedded model is not installed.
        BadInputError: settings that this model does not take.
    """
    dspy.configure_cache(disk_cache_dir=str(cache_folder), restrict_pickle=True)
    if choice.embedded:
        weights_file()
        tokens = max_tokens or MAX_TOKENS
        settings = {"temperature": temperature or 0.0, "max_tokens": tokens, "engine": _embedded_engine()}
        return RecordedLM(EMBEDDED, account, price=price_of(choice).price, retries=0, **settings)
    if max_tokens is None and not choice.name.startswith("openai/"):
        max_tokens = HOSTED_MAX_TOKENS
    try:
        return RecordedLM(
            choice.name, account, price=choice.price, temperature=temperature, max_tokens=max_tokens,
            **_connection(choice),
        )  # fmt: skip
    except LMConfigurationError as error:
        msg = f"{choice.name}: {one_line(error.message)}"
        raise BadInputError(msg) from None


def _connection(choice: ModelChoice) -> dict[str, Any]:
    connection: dict[str, Any] = {"timeout": ANSWER_SECONDS}
    if choice.api_base is not None:
        connection["api_base"] = choice.api_base
        if choice.name.startswith("openai/") and not os.environ.get("OPENAI_API_KEY"):
            connection["api_key"] = _NO_KEY_NEEDED
    return connection


@functools.cache
def _embedded_engine() -> EmbeddedEngine:
    """The process's one engine, closed before the interpreter goes, so that its threads end quietly."""
    engine = EmbeddedEngine()
    atexit.register(engine.close)
    return engine


def adapter_for(model: RecordedLM) -> Any:
    """See `adapter_of`."""
    return adapter_of(model.model)


def context_of(model: RecordedLM) -> Any:
    """The settings under which DSPy uses the model, for `with`: they hold in this thread and those DSPy starts in it.

    Records reach programs as plain dicts, which is what is meant; DSPy would warn of each.
    """
    return dspy.context(lm=model, adapter=adapter_for(model), warn_on_type_mismatch=False)


def parameters_of(model: RecordedLM) -> dict[str, Any]:
    """What an envelope tells of how the model was asked; no address and no key."""
    told = {key: value for key, value in model.kwargs.items() if key in _TOLD and value is not None}
    return told if model.model != EMBEDDED else {**told, "threads": model.engine.threads}
