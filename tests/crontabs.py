"""A crontab(1) of the tests' own: a real program on the PATH that keeps its table in a file."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

# As Debian's: -l prints or complains on stderr with exit code 1; - takes a table whose last line must be whole.
PROGRAM = """#!{python}
import pathlib, sys
table = pathlib.Path({table!r})
if sys.argv[1:] == ["-l"]:
    if not table.exists():
        sys.exit("no crontab for somebody")
    sys.stdout.write(table.read_text())
elif sys.argv[1:] == ["-"]:
    text = sys.stdin.read()
    if not text.endswith("\\n"):
        sys.exit("new crontab file is missing newline before EOF, can't install.")
    table.write_text(text)
else:
    sys.exit("usage error: " + " ".join(sys.argv[1:]))
"""


class Crontab:
    """The program in `folder`, first on the PATH; `table` is what it keeps."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *, present: bool = True) -> None:
        self.table = folder / "table"
        programs = folder / "programs"
        programs.mkdir()
        if present:
            program = programs / "crontab"
            program.write_text(PROGRAM.format(python=sys.executable, table=str(self.table)))
            program.chmod(0o755)
            monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        else:
            monkeypatch.setenv("PATH", str(programs))

    @property
    def text(self) -> str:
        return self.table.read_text()
