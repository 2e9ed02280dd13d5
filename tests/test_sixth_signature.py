"""A sixth signature is one file outside the package: it goes through every stage, and nothing else knows of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import data_validator
import dataset_manager
import quality_gates
import synthetic_data_generator

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).resolve().parents[1]
NAME = "estimate_size"


def test_nothing_of_ours_names_it() -> None:
    sources = [p for p in (ROOT / "data_collection").rglob("*") if p.suffix in {".py", ".toml", ".jinja"}]
    assert len(sources) > 20
    assert not [path for path in sources if NAME in path.read_text()]


def test_it_is_generated_validated_gated_stored_and_loaded(
    sixth_signature: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = ["--signature-file", str(sixth_signature)]
    raw, valid, data = (str(tmp_path / name) for name in ("raw", "valid", "data"))

    assert synthetic_data_generator.main(["--target", "20", "--output", raw, "--signatures", NAME, *own]) == 0
    assert [path.name for path in Path(raw).iterdir()] == [f"{NAME}.json"]
    made = json.loads((Path(raw) / f"{NAME}.json").read_text())
    assert len(made) == 20
    assert {item["outputs"]["urgent"] for item in made} == {True, False}

    capsys.readouterr()
    assert data_validator.main(["--input", raw, "--output", valid, *own]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["signatures"][NAME]["accepted"] == 20

    assert quality_gates.main(["--input", valid, "--signature", NAME, "--strict", *own]) == 0
    (verdict,) = json.loads(capsys.readouterr().out)
    assert verdict["verdict"] == "accept"
    assert verdict["checks"][0]["target"] == "each at least 50.0"

    store = ["--signature", NAME, "--data-dir", data, *own]
    assert dataset_manager.main(["create", "--examples", valid, "--source", "synthetic", *store]) == 0
    version = capsys.readouterr().out.strip()
    assert dataset_manager.main(["load", *store]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["split"] for row in rows} == {"train", "val", "test"}
    metadata = json.loads((tmp_path / "data" / NAME / version / "metadata.json").read_text())
    assert sum(metadata["statistics"]["completeness"].values()) == len(rows)


def test_its_own_gate_holds_not_the_tables(
    sixth_signature: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = ["--signature-file", str(sixth_signature)]
    output = str(tmp_path / "out")
    synthetic_data_generator.main(
        ["--target", "20", "--output", output, "--signatures", f"{NAME},validate_intent", *own]
    )
    capsys.readouterr()
    assert quality_gates.main(["--input", output, *own]) == 0
    verdicts = {report["signature"]: report["verdict"] for report in json.loads(capsys.readouterr().out)}
    assert verdicts == {NAME: "accept", "validate_intent": "warn"}  # all synthetic: only its own gate allows that


def test_without_its_file_it_is_unknown(
    sixth_signature: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    own = ["--signature-file", str(sixth_signature)]
    synthetic_data_generator.main(["--target", "3", "--output", str(output), "--signatures", NAME, *own])
    assert data_validator.main(["--input", str(output), "--output", str(tmp_path / "valid")]) == 1
    out = capsys.readouterr().out
    assert json.loads(out)["rejected"] == {"unknown_signature": 3}
