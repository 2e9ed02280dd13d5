"""What tells a model call from another and an answer from a failure: from a request, DSPy's history, its errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dspy
from dspy.utils import exceptions
from dspy.utils.exceptions import LMError, LMInvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

# As for DSPy's own cache: where an answer comes from does not make another request of it.
_NOT_OF_THE_REQUEST = ["api_key", "api_base", "base_url", "cache"]
_KEY_DIGITS = 24
_NOT_FOUND = 404


def request_key(request: Mapping[str, Any]) -> str | None:
    """A short name of a request, the same in every run; None where its answer is not to be cached."""
    if not request["cache"]:
        return None
    try:
        return str(dspy.cache.cache_key(dict(request), _NOT_OF_THE_REQUEST))[:_KEY_DIGITS]
    except TypeError:
        # What is not JSON DSPy does not cache either.
        return None


def failure_of(kind: str, model: str) -> LMError:
    """The error that `failure_kind` has told of, to be raised again."""
    name, _, status = kind.partition(" ")
    found = getattr(exceptions, name, LMError)
    made = found if isinstance(found, type) and issubclass(found, LMError) else LMError
    return made("it failed before in this run", model=model, status=int(status) if status else None)


def for_this_request(error: LMError) -> bool:
    """Whether a failure says something of the request, and nothing of the server, the model or the key."""
    return isinstance(error, LMInvalidRequestError) and error.status != _NOT_FOUND


def was_cached(entry: dict[str, Any]) -> bool:
    """Whether an answer came from the cache; where a server tells no usage, every answer counts as a call."""
    response = entry["response"]
    told = getattr(getattr(response, "usage", None), "input_tokens", None) is not None
    return bool(getattr(response, "cache_hit", False)) or (told and not entry["usage"])


def failure_kind(error: LMError) -> str:
    """A failure's name and HTTP status, without the provider's words, which may repeat a key or a prompt."""
    status = getattr(error, "status", None)
    return f"{type(error).__name__} {status}" if status else type(error).__name__
