"""A language model on 127.0.0.1 that speaks OpenAI's chat protocol and answers as a test wants it to.

    with LoopbackModel(lambda prompt: {"answer": "Paris"}) as model:
        dspy.LM("openai/loopback", api_base=model.url, api_key="k")

The answer is a text, sent as it is, or a dict of output fields, written in the form (chat or JSON) that DSPy's adapter
asked for. `model.prompts` holds what was asked; `snapshot` is the model that it says to be. Faults: `fail`, `hang`,
`garble`, and `latency` in seconds.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_HEADER = re.compile(r"\[\[ ## (\w+) ## \]\]\n")
_OUTPUTS = re.compile(r"Your output fields are:\n(.*?)\nAll interactions", re.DOTALL)
_NAMED = re.compile(r"^\d+\. `(\w+)`", re.MULTILINE)


@dataclass(frozen=True)
class Prompt:
    """What a program asked: the request's body, and its parts as DSPy's adapters write them."""

    body: dict[str, Any]

    @property
    def system(self) -> str:
        apart = [{"content": self.body["system"]}] if "system" in self.body else []  # Anthropic's protocol
        return "\n".join(_text(m) for m in [*apart, *(m for m in self.body["messages"] if m["role"] == "system")])

    @property
    def demos(self) -> int:
        return sum(m["role"] == "assistant" for m in self.body["messages"])

    @property
    def question(self) -> str:
        return _text(self.body["messages"][-1])

    @property
    def inputs(self) -> dict[str, str]:
        """The last message's fields as text."""
        parts = _HEADER.split(self.question)
        values = dict(zip(parts[1::2], parts[2::2], strict=True))
        return {name: value.split("\n\nRespond with")[0].strip() for name, value in values.items()}

    @property
    def outputs(self) -> list[str]:
        """Names of the fields that the program wants."""
        found = _OUTPUTS.search(self.system)
        return _NAMED.findall(found.group(1)) if found else []

    @property
    def wants_json(self) -> bool:
        return "response_format" in self.body or "Outputs will be a JSON object" in self.system

    def written(self, answer: str | Mapping[str, Any]) -> str:
        """The answer in the form that the program reads."""
        if isinstance(answer, str):
            return answer
        if self.wants_json:
            return json.dumps(answer)
        lines = [f"[[ ## {name} ## ]]\n{v if isinstance(v, str) else json.dumps(v)}" for name, v in answer.items()]
        return "\n\n".join([*lines, "[[ ## completed ## ]]"])


def _text(message: dict[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


class LoopbackModel:
    """The server; use it as a context manager.

    `calls` counts requests, failed ones included; `most_at_once` is how many it ever had in hand together.
    """

    def __init__(self, answer: Callable[[Prompt], str | Mapping[str, Any]], *, latency: float = 0.0) -> None:
        self.answer = answer
        self.latency = latency
        self.prompts: list[Prompt] = []
        self.usage = True
        self.snapshot: str | None = None
        self.last_key: str | None = None
        self.most_at_once = 0
        self._in_hand = 0
        self._faults: list[Callable[[_Handler], None]] = []
        self._always: Callable[[_Handler], None] | None = None
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.model = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    @property
    def calls(self) -> int:
        return len(self.prompts)

    def fail(self, status: int, message: str = "no", *, times: int | None = None, retry_after: int = 0) -> None:
        """Answer with an HTTP error, the next `times` times or always."""
        self._add(lambda h: h.send(status, {"error": {"message": message}}, {"Retry-After": str(retry_after)}), times)

    def fail_plainly(self, status: int, times: int = 1) -> None:
        """Answer with an HTTP error that says nothing of when to come back."""
        self._add(lambda h: h.send(status, {"error": {"message": "no"}}), times)

    def hang(self, times: int | None = None) -> None:
        """Take requests and answer nothing until the server closes."""
        self._add(lambda _: self._hold(), times)

    def garble(self, raw: bytes = b"<html>oops</html>", times: int | None = None) -> None:
        """Answer 200 with a body that is no completion."""
        self._add(lambda h: h.send_bytes(200, raw), times)

    def heal(self) -> None:
        """No more faults."""
        with self._lock:
            self._faults.clear()
            self._always = None

    def _add(self, fault: Callable[[_Handler], None], times: int | None) -> None:
        with self._lock:
            if times is None:
                self._always = fault
            else:
                self._faults.extend([fault] * times)

    def _hold(self) -> None:
        self._released.wait(60)

    def take(self, handler: _Handler, body: dict[str, Any]) -> None:
        """Answer one request."""
        prompt = Prompt(body)
        with self._lock:
            self.prompts.append(prompt)
            self.last_key = handler.headers.get("Authorization")
            fault = self._faults.pop(0) if self._faults else self._always
            self._in_hand += 1
            self.most_at_once = max(self.most_at_once, self._in_hand)
        try:
            self._answer(handler, prompt, fault)
        finally:
            with self._lock:
                self._in_hand -= 1

    def _answer(self, handler: _Handler, prompt: Prompt, fault: Callable[[_Handler], None] | None) -> None:
        if self.latency:
            time.sleep(self.latency)
        if fault is not None:
            fault(handler)
        else:
            handler.send(200, self._completion(prompt))

    def _completion(self, prompt: Prompt) -> dict[str, Any]:
        text = prompt.written(self.answer(prompt))
        asked = sum(len(_text(message)) for message in prompt.body["messages"])
        usage = {"prompt_tokens": asked // 4, "completion_tokens": len(text) // 4, "total_tokens": 0}
        usage["total_tokens"] = sum(usage.values())
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        body = {"id": "x", "object": "chat.completion", "created": 0, "model": self.snapshot or prompt.body["model"]}
        return {**body, "choices": [choice], **({"usage": usage} if self.usage else {})}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    model: LoopbackModel

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that give up on a slow answer are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server

    def do_POST(self) -> None:
        size = int(self.headers.get("Content-Length", 0))
        self.server.model.take(self, json.loads(self.rfile.read(size)))

    def send(self, status: int, body: dict[str, Any], headers: Mapping[str, str] | None = None) -> None:
        self.send_bytes(status, json.dumps(body).encode(), headers)

    def send_bytes(self, status: int, raw: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Tests read no access log."""


def chance(*parts: object) -> float:
    """A number in 0-1 that depends on `parts` alone."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


@dataclass(frozen=True)
class Skilled:
    """A model that answers right more often with demos and with an instruction that an optimizer can find.

    `right` and `wrong` give all output fields for a prompt; which of them is used depends on the prompt's inputs
    alone, at `base` + `per_demo` for each demo (at most `demos_count`) + `hint_bonus` where `hint` stands in the
    system prompt. A request for `proposed_instruction` is answered with `hint` at every other proposal.
    """

    right: Callable[[Prompt], Mapping[str, Any]]
    wrong: Callable[[Prompt], Mapping[str, Any]]
    base: float = 0.4
    per_demo: float = 0.1
    demos_count: int = 3
    hint: str = "Work through each requirement in turn."
    hint_bonus: float = 0.2

    def __call__(self, prompt: Prompt) -> Mapping[str, Any]:
        if "proposed_instruction" in prompt.outputs:
            useful = chance(json.dumps(prompt.body["messages"])) < 0.5
            return dict.fromkeys(prompt.outputs, self.hint if useful else "Answer the question.")
        expected = self.right(prompt)
        if set(prompt.outputs) - set(expected):
            return dict.fromkeys(prompt.outputs, "Nothing remarkable.")
        skill = self.base + self.per_demo * min(prompt.demos, self.demos_count)
        skill += self.hint_bonus if self.hint in prompt.system else 0.0
        return expected if chance(sorted(prompt.inputs.items())) < skill else self.wrong(prompt)
