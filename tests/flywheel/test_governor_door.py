from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flywheel.learning.governor import Caps, Governor
from flywheel.learning.governor_door import Door
from flywheel.learning.limits import BudgetExhausted, DeadlinePassed, RunEnded
from flywheel.learning.remote_governor import RemoteGovernor

if TYPE_CHECKING:
    from collections.abc import Callable

    from flywheel.learning.gate import Gate

SCRIPTS = Path(__file__).resolve().parents[2] / "data_collection"
# A process of its own that takes a place, says so, and keeps it until it is killed.
HOLDER = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
from flywheel.learning.governor_wire import Pass
from flywheel.learning.remote_governor import RemoteGovernor
facts = json.loads(sys.argv[2])
gate = RemoteGovernor(Pass(facts["host"], facts["port"], bytes.fromhex(facts["key"])))
with gate.admitted("holder"):
    print("in", flush=True)
    time.sleep(120)
"""


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)


def holder(door: Door) -> subprocess.Popen[str]:
    facts = {"host": door.entry.host, "port": door.entry.port, "key": door.entry.key.hex()}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(SCRIPTS), json.dumps(facts)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"
    return process


def test_callers_of_both_sides_share_cap_and_budget() -> None:
    governor = Governor(Caps(concurrency=3, max_calls=40))
    most, stops, lock = [0], [0], threading.Lock()
    with Door(governor) as door:
        gates: list[Gate] = [governor, RemoteGovernor(door.entry), RemoteGovernor(door.entry)]

        def call(number: int) -> None:
            try:
                with gates[number % 3].admitted("s") as admission:
                    with lock:
                        most[0] = max(most[0], governor.under_way)
                    admission.spent(1, 0.01)
            except BudgetExhausted:
                with lock:
                    stops[0] += 1

        with ThreadPoolExecutor(9) as pool:
            list(pool.map(call, range(60)))
        until(lambda: governor.under_way == 0)
    assert stops[0] == 20
    assert most[0] <= 3
    assert governor._purse.calls == 40
    assert governor._purse.cost_usd == pytest.approx(0.4)


def test_a_killed_holder_gives_its_place_back_and_counts_as_a_call() -> None:
    governor = Governor(Caps(concurrency=1))
    with Door(governor) as door:
        process = holder(door)
        assert governor.under_way == 1
        with pytest.raises(DeadlinePassed), governor.admitted(deadline=time.monotonic() + 0.1):
            pass
        os.kill(process.pid, signal.SIGKILL)
        with governor.admitted(deadline=time.monotonic() + 10):
            assert governor._purse.calls == 1
        process.communicate()


def test_a_killed_waiter_does_not_stand_in_the_way() -> None:
    governor = Governor(Caps(concurrency=1))
    with Door(governor) as door:
        gate = RemoteGovernor(door.entry)
        with governor.admitted():
            facts = {"host": door.entry.host, "port": door.entry.port, "key": door.entry.key.hex()}
            line = [sys.executable, "-c", HOLDER, str(SCRIPTS), json.dumps(facts)]
            process = subprocess.Popen(line, stdout=subprocess.DEVNULL)
            until(lambda: len(governor._queue) == 1)
            process.kill()
            process.wait()
            until(lambda: not governor._queue)
        with gate.admitted(deadline=time.monotonic() + 10):
            pass
        gate.close()


def test_stops_keep_their_kind_and_words_across_the_door() -> None:
    governor = Governor(Caps(concurrency=1, max_calls=1))
    with Door(governor) as door:
        gate = RemoteGovernor(door.entry)
        with gate.admitted():
            with pytest.raises(DeadlinePassed, match="time is over"), gate.admitted(deadline=time.monotonic() + 0.05):
                pass
            with pytest.raises(DeadlinePassed), gate.admitted(deadline=time.monotonic() - 1):
                pass
        gate.keep_back("other", 1)
        until(lambda: bool(governor._purse._kept))
        with pytest.raises(BudgetExhausted, match="0 of 1 calls are spent, and 1 are kept back"), gate.admitted():
            pass
        with gate.admitted("other", finishing=True) as admission:
            admission.spent(1, 0.5)
        with pytest.raises(BudgetExhausted, match="1 of 1 calls are spent"), gate.admitted("other", finishing=True):
            pass


def test_a_refusal_across_the_door_pauses_everybody() -> None:
    governor = Governor(Caps())
    with Door(governor) as door:
        gate = RemoteGovernor(door.entry)
        with gate.admitted() as admission:
            admission.refused(30.0)
        until(lambda: governor.under_way == 0)
        with pytest.raises(DeadlinePassed), governor.admitted(deadline=time.monotonic() + 0.05):
            pass


def test_a_failure_within_a_call_leaves_the_connection_in_order() -> None:
    governor = Governor(Caps(concurrency=1))
    with Door(governor) as door:
        gate = RemoteGovernor(door.entry)
        for _ in range(3):
            with pytest.raises(ValueError, match="x"), gate.admitted():
                raise ValueError("x")
        with gate.admitted(deadline=time.monotonic() + 10):
            assert len(door._callers) == 1


def test_who_does_not_know_the_key_or_is_silent_gets_nowhere() -> None:
    governor = Governor(Caps(concurrency=1))
    with Door(governor) as door, socket.create_connection((door.entry.host, door.entry.port)):
        with pytest.raises(RunEnded), RemoteGovernor(replace(door.entry, key=b"wrong")).admitted():
            pass
        with RemoteGovernor(door.entry).admitted(deadline=time.monotonic() + 10):
            assert governor.under_way == 1


def test_a_closed_door_ends_its_callers() -> None:
    governor = Governor(Caps(concurrency=1))
    door = Door(governor)
    gate = RemoteGovernor(door.entry)
    with gate.admitted():
        pass
    stops = []

    def wait() -> None:
        try:
            with gate.admitted():
                pass
        except RunEnded:
            stops.append(1)

    with governor.admitted():
        thread = threading.Thread(target=wait)
        thread.start()
        until(lambda: len(governor._queue) == 1)
        door.close()
        thread.join(10)
    assert stops == [1]
    until(lambda: not governor._queue)
    with pytest.raises(RunEnded, match="cannot be reached"), gate.admitted():
        pass
    assert "key" not in repr(door.entry)
