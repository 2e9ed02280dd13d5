"""A real SMTP server and a real HTTP server on 127.0.0.1, with the faults that alerting must survive."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


@dataclass
class Letters:
    """What was taken and what was offered; `answers` are what DATA is answered with first, before 250."""

    port: int = 0
    ca_file: str = ""
    texts: list[str] = field(default_factory=list)
    offered: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    secured: list[bool] = field(default_factory=list)
    attempts: int = 0

    async def handle_DATA(self, _server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        self.attempts += 1
        self.offered.append(envelope.content.decode())
        if self.answers:
            return self.answers.pop(0)
        self.secured.append(session.ssl is not None)
        self.texts.append(envelope.content.decode())
        return "250 taken"


def _check(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> Any:
    return AuthResult(success=data.password == b"right password", handled=False)


@contextlib.contextmanager
def smtp_server(folder: Path, *, tls: bool = True, auth: bool = False, from_start: bool = False) -> Iterator[Letters]:
    """An SMTP server with STARTTLS (or TLS `from_start`) by a certificate of its own authority, with AUTH if asked."""
    authority = trustme.CA()
    ca_file = folder / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    letters = Letters(ca_file=str(ca_file))
    options: dict[str, Any] = {"tls_context": context, "require_starttls": True} if tls else {}
    if from_start:
        options = {"ssl_context": context}
    if auth:
        options.update(authenticator=_check, auth_required=True)
    # A port of our own choosing, since the controller cannot report one that the kernel chose.
    controller = Controller(letters, hostname="127.0.0.1", port=free_port(), server_hostname="localhost", **options)
    controller.start()
    letters.port = controller.port
    try:
        yield letters
    finally:
        controller.stop()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def silent_server() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; status 0: none before the server closes."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)


class Hook:
    """What was posted, and the answers to come (then 200)."""

    def __init__(self, answers: Sequence[Answer]) -> None:
        self.answers = list(answers)
        self.bodies: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.url = ""
        self.arrived = threading.Event()
        self.released = threading.Event()


@contextlib.contextmanager
def http_server(*answers: Answer) -> Iterator[Hook]:
    """An HTTP server for webhooks."""
    hook = Hook(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            hook.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            hook.headers.append(dict(self.headers))
            hook.arrived.set()
            answer = hook.answers.pop(0) if hook.answers else Answer(200)
            if not answer.status:
                hook.released.wait(30)
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hook.url = f"http://127.0.0.1:{server.server_address[1]}/services/T0/B0/slack-secret"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hook
    finally:
        hook.released.set()
        server.shutdown()
        server.server_close()
        thread.join(5)
