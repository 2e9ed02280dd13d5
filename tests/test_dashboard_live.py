"""The dashboard over HTTP and in a terminal, as processes of their own that end as they are told."""

from __future__ import annotations

import http.client
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from rich.cells import cell_len
from rich.console import Console
from tests.rollouts import Desk, Service
from tests.scene import FIGURES, populate, write_state

from flywheel.base.clock import now
from flywheel.base.errors import BadInputError
from flywheel.ops.config import MonitoringConfig
from flywheel.ops.observed import Places
from flywheel.ops.reading import read_experiment
from flywheel.ops.server import MOST_CONNECTIONS
from flywheel.ops.variant_checks import figure
from flywheel.ops.view import look
from flywheel.ops.watch import screen
from monitoring import main

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = Path(__file__).resolve().parents[1] / "data_collection" / "monitoring.py"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scene")
    populate(root, now())
    write_state(root / "state.json", now())
    (root / "config.json").write_text("{}")
    return root


def environment(root: Path) -> dict[str, str]:
    places = {
        "OUTPUT_DIR": "runs", "AB_EXPERIMENTS_DIR": "experiments", "TRAINING_DATA_DIR": "data",
        "OPTIMIZED_MODULES_DIR": "programs", "TELEMETRY_DIR": "telemetry", "MONITORING_STATE": "state.json",
        "MONITORING_CONFIG": "config.json",
    }  # fmt: skip
    return {**os.environ, **{variable: str(root / name) for variable, name in places.items()}, "TERM": "xterm-256color"}


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: str


class Served:
    """A server that runs, and what it answers."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port

    def ask(self, method: str = "GET", path: str = "/", **headers: str) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.putrequest(method, path, skip_host="Host" in headers)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders()
            reply = connection.getresponse()
            return Reply(reply.status, dict(reply.getheaders()), reply.read().decode())
        finally:
            connection.close()


@contextmanager
def served(root: Path, *arguments: str) -> Iterator[Served]:
    command = [sys.executable, str(SCRIPT), "serve", "--port", "0", *arguments]
    with subprocess.Popen(
        command, env=environment(root), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            found = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
            assert found is not None, line + process.stderr.read()
            yield Served(process, int(found[1]))
        finally:
            process.kill()


def test_the_page_is_served_with_what_keeps_it_harmless(scene: Path) -> None:
    with served(scene, "--every", "7") as server:
        page = server.ask()
        assert page.status == 200
        assert "extract_reqs_v7" in page.body
        assert "<script>" not in page.body
        assert page.headers["Refresh"] == "7"
        assert page.headers["Content-Security-Policy"].startswith("default-src 'none';")
        assert page.headers["Cache-Control"] == "no-store"
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        assert "Python" not in page.headers["Server"]
        head = server.ask("HEAD")
        assert (head.status, head.body) == (200, "")
        assert int(head.headers["Content-Length"]) > 1000
        assert server.ask(path="/?x=1").status == 200
        assert server.ask(path="/etc/passwd").status == 404
        assert {server.ask(method).status for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE")} == {501}


def test_a_name_that_resolves_here_is_not_answered(scene: Path) -> None:
    with served(scene) as server:
        port = server.port
        for host in (
            f"evil.example:{port}",
            "127.0.0.1",
            "localhost",
            f"127.0.0.1:{port + 1}",
            "",
            f"localhost:{port}x",
        ):
            reply = server.ask(Host=host)
            assert (host, reply.status) == (host, 421)
            assert "extract_reqs" not in reply.body
        assert server.ask(Host=f"localhost:{port}").status == 200


def test_only_this_machine_is_listened_to(scene: Path) -> None:
    with served(scene) as server:
        # Another address of the loopback network, which a server bound to all of them would answer at.
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", server.port), timeout=10)
        with socket.socket(socket.AF_INET6) as other, pytest.raises(OSError, match=r"refused|unavailable|assign|reach"):
            other.connect(("::1", server.port))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_well_when_told(scene: Path, number: signal.Signals) -> None:
    with served(scene) as server:
        assert server.ask().status == 200
        with socket.create_connection(("127.0.0.1", server.port)):  # and no idle visitor holds it up
            server.process.send_signal(number)
            assert server.process.wait(30) == 0
        assert server.process.stderr is not None
        assert server.process.stderr.read() == ""


def test_silent_visitors_use_up_their_share_and_no_more(scene: Path) -> None:
    with served(scene) as server:
        idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(MOST_CONNECTIONS)]
        try:
            for connection in idle:
                connection.sendall(b"GET / HT")
            with socket.create_connection(("127.0.0.1", server.port)) as late:
                late.settimeout(30)
                assert late.recv(1) == b""
            threads = len(list(Path(f"/proc/{server.process.pid}/task").iterdir()))
            assert threads <= MOST_CONNECTIONS + 1
        finally:
            for connection in idle:
                connection.close()
        assert eventually(lambda: server.ask().status == 200)


def eventually(attempt: object) -> bool:
    """Within a while; a server needs a moment to see that visitors have gone."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if attempt():  # type: ignore[operator]
                return True
        except (OSError, http.client.HTTPException):
            continue
    return False


def test_what_changes_is_seen_and_a_broken_configuration_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with served(tmp_path) as server:
        assert "No run yet" in server.ask().body
        (tmp_path / "config.json").write_text('{"unheard_of": 1}')
        assert eventually(lambda: server.ask().status == 503)
        assert "unheard_of" in server.ask().body


def test_a_port_that_is_taken_and_a_bad_configuration_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, path in environment(tmp_path).items():
        monkeypatch.setenv(variable, path)
    (tmp_path / "config.json").write_text("{}")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with pytest.raises(BadInputError, match="choose another by --port"):
            main(["serve", "--port", port])
    with pytest.raises(BadInputError, match="choose another by --port"):
        main(["serve", "--port", "70000"])
    (tmp_path / "config.json").write_text('{"unheard_of": 1}')
    with pytest.raises(BadInputError, match="unheard_of"):
        main(["serve", "--port", "0"])


# In a terminal


class Terminal:
    """A process at a terminal of its own, 160 x 60."""

    def __init__(self, root: Path, *arguments: str) -> None:
        self._end, inside = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT), *arguments], stdin=inside, stdout=inside, stderr=inside,
            start_new_session=True, env={**environment(root), "COLUMNS": "160", "LINES": "60"},
        )  # fmt: skip
        os.close(inside)
        self.seen = ""

    def until(self, words: str) -> None:
        deadline = time.monotonic() + 60
        while words not in self.seen:
            assert time.monotonic() < deadline, self.seen
            self._read()

    def _read(self) -> bool:
        ready, _, _ = select.select([self._end], [], [], 1)
        if not ready:
            return True
        try:
            piece = os.read(self._end, 1 << 16)
        except OSError:  # the other end is closed
            return False
        self.seen += piece.decode(errors="replace")
        return bool(piece)

    def end(self) -> int:
        """Read to the end; the exit code. A process that does not end is killed."""
        deadline = time.monotonic() + 60
        while self._read():
            if time.monotonic() > deadline:
                self.process.kill()
        os.close(self._end)
        return self.process.wait(30)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_the_terminal_shows_it_live_and_is_left_as_it_was(scene: Path, number: signal.Signals, code: int) -> None:
    terminal = Terminal(scene, "dashboard", "--watch", "--every", "1")
    try:
        terminal.until("Recent alerts")
        first = len(terminal.seen)
        while len(terminal.seen) < 2 * first:  # it looked again
            terminal._read()
    finally:
        terminal.process.send_signal(number)
    assert terminal.end() == code
    assert "Traceback" not in terminal.seen
    # The alternate screen is left and the cursor is back.
    assert terminal.seen.rindex("\x1b[?1049l") > terminal.seen.rindex("\x1b[?1049h")
    assert terminal.seen.rindex("\x1b[?25h") > terminal.seen.rindex("\x1b[?25l")
    assert "extract_reqs_v7" in terminal.seen
    # What strangers wrote moves no cursor and clears no screen.
    assert "[2J unbroken" in terminal.seen
    assert "\x1b[2J unbroken" not in terminal.seen
    assert "\u202e" not in terminal.seen


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (200, 60)])
def test_every_window_shows_the_most_urgent_and_cuts_no_figure(scene: Path, width: int, height: int) -> None:
    places = Places(*(scene / name for name in ("runs", "experiments", "data", "programs", "telemetry")))
    view = look(places, scene / "state.json", MonitoringConfig())
    console = Console(width=width, height=height, color_system=None)
    with console.capture() as captured:
        console.print(screen(view, width, height))
    lines = captured.get().splitlines()
    assert max(map(cell_len, lines)) <= width
    shown = "\n".join(lines[:height])
    for words in (
        "DSPy flywheel  error",
        "0.250 on its canary",
        "412/1,236",
        "13.8/5.1 %",
        "5,210/2,410",
        "run_",
        "$0.00",
    ):
        assert words in shown
    assert ("Recent alerts" in shown) == (height >= 60)


def test_without_a_terminal_it_says_what_to_use(scene: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "dashboard", "--watch"], env=environment(scene), capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert "--watch needs a terminal" in done.stderr


def test_the_page_names_figures_that_the_framework_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    desk = Desk(tmp_path, capsys)
    desk.start()
    Service(desk).minute()
    desk.monitor()
    found = read_experiment(desk.experiments / "experiment_exp.json")
    assert found.figures.keys() >= FIGURES.keys()
    calls = (figure(found, "candidate_calls") or 0) + (figure(found, "baseline_calls") or 0)
    assert calls > 100
    assert (figure(found, "latency_ms_p95_baseline") or 0) > 0
