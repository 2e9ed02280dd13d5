"""The dashboard's page for a browser on this machine: 127.0.0.1 only, read only, nothing remembered of who looks.

A web page elsewhere could have a name of its own resolve to 127.0.0.1 and so read this page through its visitor's
browser (DNS rebinding); the browser then sends that name as Host, which is refused.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from flywheel.base.cli import say
from flywheel.base.errors import OK, BadInputError, FlywheelError
from flywheel.ops.page import POLICY, render_page

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from types import FrameType

    from flywheel.ops.view import View

ADDRESS = "127.0.0.1"
NAMES = (ADDRESS, "localhost")
HTTP_PORT = 80
MOST_CONNECTIONS = 16
CONNECTION_SECONDS = 10
FRESH_SECONDS = 2.0
HEADERS = {
    "Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Pages:
    """The page as it is now, rendered at most every two seconds however many look."""

    def __init__(self, look: Callable[[], View]) -> None:
        self._look = look
        self._lock = threading.Lock()
        self._made = float("-inf")
        self._page = b""

    def get(self) -> bytes:
        """The page; FlywheelError when it cannot be made (a configuration that has become unusable)."""
        with self._lock:
            if time.monotonic() - self._made > FRESH_SECONDS:
                self._page = render_page(self._look()).encode()
                self._made = time.monotonic()
            return self._page


class PageServer(ThreadingHTTPServer):
    """Serves one page with a bounded number of threads; connections beyond it are closed unanswered."""

    daemon_threads = True

    def __init__(self, port: int, pages: Pages, every: int) -> None:
        self._free = threading.BoundedSemaphore(MOST_CONNECTIONS)
        super().__init__((ADDRESS, port), Handler)
        self.pages, self.every = pages, every
        self.hosts = {f"{name}:{self.server_port}" for name in NAMES}
        if self.server_port == HTTP_PORT:
            self.hosts |= set(NAMES)

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{ADDRESS}:{self.server_port}/"

    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: Any) -> None:
        """Answer in a thread where one is free."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: socket.socket | tuple[bytes, socket.socket], client_address: Any) -> None:
        """Give the thread back when it is done."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: socket.socket | tuple[bytes, socket.socket], client_address: Any) -> None:
        """A browser that goes away in the middle is no news; anything else is told as ever."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """GET and HEAD of `/`; http.server answers 501 to any other method."""

    server: PageServer
    timeout = CONNECTION_SECONDS
    server_version, sys_version = "flywheel", ""

    def do_GET(self) -> None:
        """The page."""
        self._answer(body=True)

    def do_HEAD(self) -> None:
        """Its headers."""
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        status, kind, content = self._content()
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", f"text/{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        if status == HTTPStatus.OK:
            self.send_header("Refresh", str(self.server.every))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def _content(self) -> tuple[HTTPStatus, str, bytes]:
        if self.headers.get_all("Host") not in [[host] for host in self.server.hosts]:
            return HTTPStatus.MISDIRECTED_REQUEST, "plain", f"this page is at {self.server.url}\n".encode()
        if self.path.partition("?")[0] != "/":
            return HTTPStatus.NOT_FOUND, "plain", b"there is one page: /\n"
        try:
            return HTTPStatus.OK, "html", self.server.pages.get()
        except FlywheelError as error:
            return HTTPStatus.SERVICE_UNAVAILABLE, "plain", f"{error}\n".encode()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Who looks is nobody's business."""


def serve_page(look: Callable[[], View], port: int, every: int) -> int:
    """Serve the page until SIGINT or SIGTERM, which both end it well: exit code 0.

    Raises:
        BadInputError: the port is taken or not ours.
    """
    try:
        server = PageServer(port, Pages(look), every)
    except (OSError, OverflowError) as error:
        msg = f"port {port} of {ADDRESS} cannot be used ({error}); choose another by --port, 0 for a free one"
        raise BadInputError(msg) from error
    before = {number: signal.signal(number, _stopper(server)) for number in (signal.SIGINT, signal.SIGTERM)}
    say(f"page: {server.url} (refreshed every {every} s; Ctrl-C ends it)")
    try:
        server.serve_forever(poll_interval=0.1)
    finally:
        server.server_close()
        for number, handler in before.items():
            signal.signal(number, handler)
    return OK


def _stopper(server: PageServer) -> Callable[[int, FrameType | None], None]:
    def stop(_number: int, _frame: FrameType | None) -> None:
        # shutdown() waits for the loop that this handler interrupts, so another thread must ask for it.
        threading.Thread(target=server.shutdown, daemon=True).start()

    return stop
