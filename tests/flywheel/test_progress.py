from __future__ import annotations

import io
import os
import pty
import re
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.base import progress
from flywheel.base.progress import BarProgress, PlainProgress, duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (45.4, "45 s"),
        (90, "2 min"),
        (185, "3 min"),
        (5399, "1 h 30 min"),
        (7500, "2 h 05 min"),
        (360_000, "100 h 00 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(st.floats(0, 1e7))
def test_duration_is_never_off_by_more_than_it_shows(seconds: float) -> None:
    numbers = {unit: int(n) for n, unit in re.findall(r"(\d+) (s|min|h)", duration(seconds))}
    shown = numbers.get("s", 0) + 60 * numbers.get("min", 0) + 3600 * numbers.get("h", 0)
    assert abs(shown - seconds) <= (0.5 if "s" in numbers else 30)


def test_plain_lines_tell_phases_ends_and_remarks() -> None:
    lines: list[str] = []
    bar = PlainProgress(lines.append)
    bar.step("before any phase")
    bar.phase("mining", 3)
    bar.step()
    bar.step("last file", count=2)
    bar.line("a\nremark \x1b[31min red")
    bar.phase("open end")
    bar.step()
    bar.close()
    bar.step("after the end")
    assert [line.split("] ", 1)[1] for line in lines] == [
        "mining (0/3)",
        "mining: 3/3, 0 s left, last file",
        "a remark [31min red",
        "open end",
    ]
    assert all(re.match(r"\[\d\d:\d\d\] ", line) for line in lines)


def test_plain_lines_come_at_most_every_so_often(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    bar = PlainProgress(lines.append)
    bar.phase("work", 1000)
    for _ in range(500):
        bar.step()
    assert len(lines) == 1
    monkeypatch.setattr(progress, "LINE_EVERY_SECONDS", 0.0)
    bar.step("half done")
    assert len(lines) == 2
    assert re.search(r"work: 501/1000, \d+ s left, half done$", lines[1])


def test_a_log_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert isinstance(progress.open_progress(), PlainProgress)


def test_a_terminal_gets_a_bar_that_no_text_can_break(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    seen = bytearray()

    def read() -> None:
        while chunk := _read(ours):
            seen.extend(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "160")
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        bar = progress.open_progress()
        assert isinstance(bar, BarProgress)
        bar.step("before any phase")
        bar.phase("optimizing [bold]", 2)
        bar.step("trial 1 \x1b]0;owned\x07")
        bar.line("best so far [red]0.5[/red] \x1b]0;owned\x07")
        bar.phase("evaluating", 1)
        bar.step()
        bar.close()
        terminal.flush()
    reader.join(timeout=30)
    os.close(ours)
    text = seen.decode(errors="replace")
    assert "optimizing [bold]" in text
    assert "best so far [red]0.5[/red] ]0;owned" in text
    assert "\x1b]0;" not in text
    assert "evaluating" in text


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:  # the other end was closed
        return b""
