from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "data_collection"
CALLER = """
import multiprocessing, os, signal, sys, time
sys.path.insert(0, {scripts!r})
from flywheel.base.orphans import end_with_parent

def work():
    end_with_parent()
    os.kill(os.getpid(), signal.SIGINT)
    print(os.getpid(), flush=True)
    while True:
        time.sleep(60)

if __name__ == "__main__":
    multiprocessing.get_context({method!r}).Process(target=work).start()
    time.sleep(600)
"""


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_a_worker_is_killed_with_its_caller_and_ignores_the_keyboard(tmp_path: Path, method: str) -> None:
    script = tmp_path / "caller.py"
    script.write_text(CALLER.format(scripts=str(SCRIPTS), method=method))
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as caller:
        assert caller.stdout is not None
        worker = int(caller.stdout.readline())
        assert Path(f"/proc/{worker}").exists()
        caller.send_signal(signal.SIGKILL)
        # The worker holds the other end of the pipe: its end is the end of file.
        assert caller.communicate(timeout=60)[0] == ""
