"""Commands run in forks of one process that has imported everything already, so that strace follows the command alone.

A script's start and imports read some thousand files and change none; without them a strike takes a tenth of the time.
The fork runs the script's own file as `__main__`, with the arguments and environment of a process of its own.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import importlib
import json
import os
import pkgutil
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SCRIPTS = Path(__file__).resolve().parents[2] / "data_collection"
# What scripts import only when they need it; DSPy is no part of any command that is struck.
LATE = ("numpy", "rapidfuzz.process", "rapidfuzz.distance", "highspy", "runpy", "tempfile", "traceback")
NOT_NEEDED = "flywheel.learning"
_SET_PTRACER, _ANY = 0x59616D61, ctypes.c_ulong(-1)


class Image:
    """The process that is forked; one command at a time."""

    def __init__(self) -> None:
        variables = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        self._server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=variables, text=True
        )

    def traced(
        self, flags: Sequence[str], command: Sequence[str], environment: Mapping[str, str]
    ) -> tuple[int, list[str]]:
        """The command's exit code (negative: the signal that ended it) and what strace says with `flags`."""
        with tempfile.NamedTemporaryFile() as log:
            where = {"cwd": str(Path.cwd()), "environment": dict(environment)}
            pid = self._ask({"arguments": list(command), **where})
            line = ["strace", *flags, "-o", log.name, "-p", str(pid)]
            with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as strace:
                assert strace.stderr
                told = strace.stderr.readline()
                assert "attached" in told, told
                code = self._ask("go")
                strace.communicate()
            return code, log.read().decode(errors="replace").splitlines()

    def _ask(self, message: object) -> int:
        assert self._server.stdin
        assert self._server.stdout
        self._server.stdin.write(json.dumps(message) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())

    def close(self) -> None:
        """End the process; without commands to run it ends by itself."""
        self._server.communicate()


@functools.cache
def image() -> Image:
    """The one of this process."""
    made = Image()
    atexit.register(made.close)
    return made


def serve() -> None:
    """Fork for every request on stdin, tell the fork's pid, let it go when told to, and tell how it ended."""
    sys.path.insert(0, str(SCRIPTS))
    _import_everything()
    for line in sys.stdin:
        request = json.loads(line)
        starts, started = os.pipe()
        ready, becoming = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(started)
            os.close(ready)
            _run(request, becoming, starts)
        os.close(starts)
        os.close(becoming)
        os.read(ready, 1)
        os.close(ready)
        _tell(pid)
        sys.stdin.readline()
        os.write(started, b".")
        os.close(started)
        _tell(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _tell(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def _import_everything() -> None:
    import flywheel

    found = [module.name for module in pkgutil.walk_packages(flywheel.__path__, "flywheel.")]
    for name in (*LATE, *(name for name in found if not name.startswith(NOT_NEEDED))):
        importlib.import_module(name)


def _run(request: dict[str, Any], becoming: int, starts: int) -> NoReturn:
    """Become the command as soon as somebody writes to the pipe `starts`.

    Closing `becoming` says that nothing but the command will follow: what strace counts begins with it.
    """
    ctypes.CDLL(None).prctl(_SET_PTRACER, _ANY, 0, 0, 0)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["cwd"])
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(becoming)
    os.read(starts, 1)
    sys.argv = request["arguments"]
    code: Any = 0
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        code = end.code
    except BaseException as error:  # noqa: BLE001 - what Python itself does with it
        try:
            sys.excepthook(type(error), error, error.__traceback__)
        except SystemExit as end:
            code = end.code
    finally:
        sys.stdout.flush()
        os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    serve()
