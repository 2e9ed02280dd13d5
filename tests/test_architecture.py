"""docs/architecture.md says what the code does: its scripts and places exist, its rooms are those that are checked."""

from __future__ import annotations

import re
from pathlib import Path

from tests.test_layers import ALLOWED, LEARNING_MAY_IMPORT_OF_SERVING, PACKAGE

from flywheel.base import paths

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
DIAGRAM = re.findall(r"^```mermaid\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[0]


def test_every_script_stands_in_the_diagram() -> None:
    scripts = {path.name for path in (ROOT / "data_collection").glob("*.py")}
    assert set(re.findall(r"\w+\.py", DIAGRAM)) == scripts


def test_the_diagrams_places_are_the_systems() -> None:
    drawn = {name.rstrip("/") for name in re.findall(r"\[\(([\w.]+/)\)\]", DIAGRAM)}
    places = (paths.DATASETS, paths.PROGRAMS, paths.EXPERIMENTS, paths.RUNS, paths.TELEMETRY)
    assert drawn == {Path(place.default).name for place in places}


def test_the_rooms_are_those_that_the_layers_allow() -> None:
    table = {
        room: set(re.findall(r"`(\w+)`", allowed))
        for room, allowed in re.findall(r"^\| `(\w+)` \|([^|]*)\|", PAGE, re.MULTILINE)
    }
    expected = {room: allowed - {room} for room, allowed in ALLOWED.items()}
    # One module of learning may use serving's recorder, once it is there.
    if not any((PACKAGE / "learning" / name).exists() for name in LEARNING_MAY_IMPORT_OF_SERVING):
        expected["learning"] -= {"serving"}
    assert table == expected


def test_it_is_one_page() -> None:
    assert len(PAGE.splitlines()) <= 80
