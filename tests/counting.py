"""A service's counters under a test's clock, and a stand-in for Prometheus' HTTP API that a test can make misbehave."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

BOUNDS = (0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_SELECTOR = re.compile(r"(\w+)\{(.*)\}\[(\d+)ms\]")
_MATCHER = re.compile(r'(\w+)(!?=)"([^"]*)"')
Labels = tuple[tuple[str, str], ...]


class Counted:
    """The counters of one process, as a Prometheus client library keeps them."""

    def __init__(self, experiment: str = "exp", instance: str = "a:1") -> None:
        self._same = (("experiment_id", experiment), ("instance", instance), ("job", "service"))
        self.values: dict[Labels, float] = {}

    def call(self, variant: str, seconds: float = 0.3, outcome: str = "success", score: float | None = None) -> None:
        """Count one call."""
        self.add("dspy_calls_total", variant, 1, outcome=outcome)
        if outcome in {"success", "timeout"}:
            for bound in (*BOUNDS, float("inf")):
                le = "+Inf" if bound == float("inf") else str(bound)
                self.add("dspy_call_latency_seconds_bucket", variant, int(seconds <= bound), le=le)
            self.add("dspy_call_latency_seconds_sum", variant, seconds)
        if score is not None:
            self.add("dspy_quality_sum", variant, score)
            self.add("dspy_quality_count", variant, 1)

    def add(self, name: str, variant: str, amount: float, **labels: str) -> None:
        """Raise one counter."""
        key = tuple(sorted({"__name__": name, "variant": variant, **dict(self._same), **labels}.items()))
        self.values[key] = self.values.get(key, 0.0) + amount

    def exposition(self) -> str:
        """The text that Prometheus scrapes; it adds instance and job itself."""
        lines = []
        for key, value in self.values.items():
            labels = ",".join(f'{n}="{v}"' for n, v in key if n not in {"__name__", "instance", "job"})
            lines.append(f"{dict(key)['__name__']}{{{labels}}} {value!r}\n")
        return "".join(lines)


class LoopbackPrometheus:
    """Answers range-vector queries from what `scrape` has taken; `fault`, where set, answers instead."""

    def __init__(self) -> None:
        self.samples: dict[Labels, list[tuple[int, float]]] = {}
        self.queries: list[str] = []
        self.tokens: list[str | None] = []
        self.fault: Callable[[BaseHTTPRequestHandler], None] | None = None
        self.released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def scrape(self, at_ms: int, *processes: Counted) -> None:
        """Take a sample of every counter."""
        for process in processes:
            for key, value in process.values.items():
                self.samples.setdefault(key, []).append((at_ms, value))

    def answer(self, query: str, at_ms: int) -> dict[str, Any]:
        """As Prometheus does; only what the default queries need."""
        found = _SELECTOR.fullmatch(query)
        assert found, query
        matchers = [*_MATCHER.findall(found[2]), ("__name__", "=", found[1])]
        result = []
        for key, samples in self.samples.items():
            labels = dict(key)
            if all((labels.get(name, "") == text) == (sign == "=") for name, sign, text in matchers):
                inside = [[ms / 1000, f"{value}"] for ms, value in samples if at_ms - int(found[3]) <= ms <= at_ms]
                if inside:
                    result.append({"metric": labels, "values": inside})
        return {"status": "success", "data": {"resultType": "matrix", "result": result}}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = parse_qs(urlsplit(self.path).query)
                outer.queries.append(asked["query"][0])
                outer.tokens.append(self.headers.get("Authorization"))
                if outer.fault is not None:
                    outer.fault(self)
                else:
                    send(self, outer.answer(asked["query"][0], round(float(asked["time"][0]) * 1000)))

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def send(handler: BaseHTTPRequestHandler, body: Any, status: int = 200, **headers: str) -> None:
    """An answer; bytes as they are, anything else as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)
