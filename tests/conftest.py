from __future__ import annotations

import signal
from pathlib import Path

import pytest
from hypothesis import settings

import flywheel.learning  # noqa: F401 - its switches must stand before any test imports DSPy

# Machines are shared: how long one example takes says nothing.
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")

# A shell without job control makes what it runs in the background deaf to Ctrl-C, and with it all that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def sixth_signature(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's own signature file, as private as it must be (a checkout under umask 002 is not)."""
    path = tmp_path_factory.mktemp("signatures") / "my_signatures.py"
    path.write_text(Path(__file__).with_name("sixth_signature.py").read_text())
    path.chmod(0o600)
    return path
