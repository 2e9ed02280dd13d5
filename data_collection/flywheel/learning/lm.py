"""A language model as DSPy uses it, with every call recorded and held to the run's limits."""

from __future__ import annotations

import atexit
import functools
import os
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import dspy
from dspy.utils.exceptions import LMConfigurationError, LMError

from flywheel.base.errors import BadInputError
from flywheel.base.text import one_line
from flywheel.learning.choice import EMBEDDED, ModelChoice, choose_model
from flywheel.learning.embedded import MAX_TOKENS, ROLLOUT, EmbeddedEngine, weights_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

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
RETRIES = 3
ANSWER_SECONDS = 120.0
_NO_KEY_NEEDED = "none"
_TOLD = frozenset({"temperature", "max_tokens", "max_completion_tokens"})
_DEFAULT_TEMPERATURE = 1.0

_STARTED: ContextVar[float] = ContextVar("flywheel_call_started", default=0.0)


class RecordedLM(dspy.LM):  # type: ignore[misc] # dspy is untyped
    """A DSPy model that records every call in its account; copies of it share the account.

    `price_usd` is what a call costs where DSPy's price list cannot know (0 for a model of one's own machine).
    """

    def __init__(self, model: str, account: Account, *, price_usd: float | None = None, **options: Any) -> None:
        super().__init__(model, **options)
        self.account = account
        self.price_usd = price_usd

    def __call__(self, prompt: Any = None, *, messages: Any = None, **options: Any) -> Any:
        """Answer within the run's limits; a failure is recorded and raised."""
        merged = {**self.kwargs, **options}
        if self.model.startswith("anthropic/") and merged.get("temperature") == _DEFAULT_TEMPERATURE:
            # Its newer models refuse a temperature; 1 is their own, and DSPy's rollout id keeps repeats apart.
            options["temperature"] = None
        rollout = ROLLOUT.set(merged.get("rollout_id") or 0)
        started = _STARTED.set(time.monotonic())
        try:
            with self.account.ledger.admitted():
                return self._recorded(prompt, messages, options)
        finally:
            _STARTED.reset(started)
            ROLLOUT.reset(rollout)

    def _recorded(self, prompt: Any, messages: Any, options: dict[str, Any]) -> Any:
        _STARTED.set(time.monotonic())
        try:
            return super().__call__(prompt, messages=messages, **options)
        except LMError as error:
            self._record({}, cached=False, cost=None, error=failure_kind(error))
            raise

    def update_history(self, entry: dict[str, Any]) -> None:
        """Record an answer; DSPy gives a cached one without usage, and with the cost that it had the first time."""
        super().update_history(entry)
        usage, cached = entry["usage"], _was_cached(entry)
        price = entry["cost"] if entry["cost"] is not None else self.price_usd
        cost = 0.0 if cached else price
        own = (getattr(entry["response"], "provider_data", None) or {}).get("latency_ms")
        self._record(usage, cached=cached, cost=cost, latency=own)

    def _record(
        self,
        usage: Mapping[str, Any],
        *,
        cached: bool,
        cost: float | None,
        latency: float | None = None,
        error: str | None = None,
    ) -> None:
        elapsed = (time.monotonic() - _STARTED.get()) * 1000 if latency is None else latency
        self.account.record(
            model=self.model,
            input_tokens=usage.get("prompt_tokens") or 0,
            output_tokens=usage.get("completion_tokens") or 0,
            cached=cached,
            cost_usd=cost,
            latency_ms=None if cached else round(elapsed, 1),
            error=error,
        )


def _was_cached(entry: dict[str, Any]) -> bool:
    """Whether an answer came from the cache; where a server tells no usage, every answer counts as a call."""
    response = entry["response"]
    told = getattr(getattr(response, "usage", None), "input_tokens", None) is not None
    return bool(getattr(response, "cache_hit", False)) or (told and not entry["usage"])


def failure_kind(error: LMError) -> str:
    """A failure's name and HTTP status, without the provider's words, which may repeat a key or a prompt."""
    status = getattr(error, "status", None)
    return f"{type(error).__name__} {status}" if status else type(error).__name__


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
        return RecordedLM(EMBEDDED, account, price_usd=0.0, num_retries=0, **settings)
    if max_tokens is None and not choice.name.startswith("openai/"):
        max_tokens = HOSTED_MAX_TOKENS
    try:
        return RecordedLM(
            choice.name,
            account,
            num_retries=RETRIES,
            temperature=temperature,
            max_tokens=max_tokens,
            **_connection(choice),
        )
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
    """How fields are written and read: schema-bound JSON for the embedded model, else chat (then JSON)."""
    return dspy.JSONAdapter() if model.model == EMBEDDED else dspy.ChatAdapter()


def context_of(model: RecordedLM) -> Any:
    """The settings under which DSPy uses the model, for `with`: they hold in this thread and those DSPy starts in it.

    Records reach programs as plain dicts, which is what is meant; DSPy would warn of each.
    """
    return dspy.context(lm=model, adapter=adapter_for(model), warn_on_type_mismatch=False)


def parameters_of(model: RecordedLM) -> dict[str, Any]:
    """What an envelope tells of how the model was asked; no address and no key."""
    told = {key: value for key, value in model.kwargs.items() if key in _TOLD and value is not None}
    return told if model.model != EMBEDDED else {**told, "threads": model.engine.threads}
