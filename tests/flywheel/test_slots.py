from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from flywheel.learning.slots import Slots

SCRIPTS = Path(__file__).resolve().parents[2] / "data_collection"
HOLD = """
import sys
from pathlib import Path
from flywheel.learning.slots import Slots
with Slots(Path(sys.argv[1]), 2).one():
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    line = [sys.executable, "-c", HOLD, str(folder)]
    process = subprocess.Popen(
        line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": str(SCRIPTS)}
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_third_waits_until_one_of_two_is_given_back(tmp_path: Path) -> None:
    slots = Slots(tmp_path / "slots", 2)
    both = threading.Barrier(2)
    seen: list[int] = []
    held = 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal held
        with slots.one():
            with lock:
                held += 1
                seen.append(held)
            both.wait(30)
            with lock:
                held -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(seen) == 6
    assert max(seen) == 2


def test_a_killed_process_gives_its_slots_back(tmp_path: Path) -> None:
    folder = tmp_path / "slots"
    first, second = holder(folder), holder(folder)
    try:
        both = threading.Barrier(3)

        def take() -> None:
            with Slots(folder, 2).one():
                both.wait(30)

        threads = [threading.Thread(target=take) for _ in range(2)]
        for thread in threads:
            thread.start()
        assert not both.n_waiting
    finally:
        for process in (first, second):
            process.kill()
            process.communicate()
    both.wait(30)
    for thread in threads:
        thread.join(30)
