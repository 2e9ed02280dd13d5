"""The house's arrows point downward only, and each outside thing has one door."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "data_collection"
PACKAGE = SCRIPTS / "flywheel"
ALLOWED = {
    "base": {"base"},
    "data": {"base", "data"},
    "serving": {"base", "serving"},
    "learning": {"base", "data", "learning", "serving"},
    "ops": {"base", "data", "serving", "ops"},
}
LEARNING_MAY_IMPORT_OF_SERVING = {"callback.py"}
ORCHESTRATOR = "optimization_orchestrator"
DOORS = {
    "anthropic": {"learning/lm.py"},
    "xllamacpp": {"learning/embedded.py"},
    "ray": {"learning/ray_executor.py"},
    "git": {"data/git.py"},
    "rapidfuzz": {"data/similarity.py"},
    "rensa": {"data/lsh.py"},
    "detect_secrets": {"base/redact.py"},
    "requests": {"base/http.py"},
    "urllib3": {"base/http.py"},
    "smtplib": {"ops/alerts.py"},
    "highspy": {"data/rebalancing.py"},
    "mmh3": {"serving/bucketing.py"},
    "msgspec": {"serving/samples.py"},
    "orjson": {"serving/records.py"},
    "optuna": {"learning/optimizers.py"},
    "matplotlib": {"ops/rollout_picture.py"},
    "mlflow": {"learning/tracking.py"},
    "pyarrow": {"data/exports.py"},
}
MODULES = sorted(PACKAGE.rglob("*.py"))
SCRIPT_FILES = sorted(SCRIPTS.glob("*.py"))


def imported(path: Path) -> set[str]:
    """Dotted names of every import in the file, wherever it stands; `from a import b` counts as a and a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def rooms(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imported(path) if name.startswith("flywheel.")}


def label(path: Path) -> str:
    return path.relative_to(SCRIPTS).as_posix()


@pytest.mark.parametrize("path", [p for p in MODULES if p.parent != PACKAGE], ids=label)
def test_rooms_import_downward_only(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0]
    allowed = ALLOWED[room]
    if room == "learning" and path.name not in LEARNING_MAY_IMPORT_OF_SERVING:
        allowed = allowed - {"serving"}
    assert rooms(path) <= allowed


@pytest.mark.parametrize("path", [*MODULES, *SCRIPT_FILES], ids=label)
def test_each_outside_thing_has_one_door(path: Path) -> None:
    here = path.relative_to(PACKAGE).as_posix() if path.is_relative_to(PACKAGE) else path.name
    tops = {name.split(".")[0] for name in imported(path)}
    for library, doors in DOORS.items():
        if library in tops:
            assert here in doors, f"{here} imports {library}; its door is {sorted(doors)}"
    if "dspy" in tops:
        assert here.startswith("learning/"), f"{here} imports dspy; its door is learning/"


@pytest.mark.parametrize("path", SCRIPT_FILES, ids=label)
def test_scripts_do_not_import_scripts(path: Path) -> None:
    siblings = {p.stem for p in SCRIPT_FILES}
    found = siblings & {name.split(".")[0] for name in imported(path)}
    assert not found or path.stem == ORCHESTRATOR


def test_data_collection_is_no_package() -> None:
    assert not (SCRIPTS / "__init__.py").exists()


@pytest.mark.parametrize("path", MODULES, ids=label)
def test_modules_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 250


@pytest.mark.parametrize("path", SCRIPT_FILES, ids=label)
def test_scripts_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 350
