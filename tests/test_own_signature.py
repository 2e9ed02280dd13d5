"""docs/own-signature.md, run as it stands: every block, in order, against a loopback model."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.loopback import LoopbackModel, Skilled
from tests.oracle import Oracle
from tests.repositories import build_shop

from flywheel.base.programs import deployed_program, read_program

ROOT = Path(__file__).resolve().parents[1]
MANUAL = ROOT / "docs" / "own-signature.md"
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NAME = "triage_ticket"
TOPICS = {
    "billing": ("the invoice", "the credit card", "the refund", "the annual price", "the tax number"),
    "access": ("the password", "the second factor", "the invitation", "the single sign-on", "the locked account"),
    "outage": ("the export", "the search page", "the nightly import", "the mobile app", "the webhook"),
}
WORRIES = {
    "yes": ("nobody here can work since this morning", "our whole shop stands still until it is solved"),
    "no": ("it can wait until next week", "this is only a question for later"),
}
DETAILS = (
    "a colleague told me to write to you", "the number in my profile is the one to call", "we use an old browser here",
    "your release notes say nothing about it", "screenshots are attached", "another network made no difference",
    "it began today", "the branch in Lyon sees the same", "I have restarted everything twice", "my manager asks daily",
    "the trial went well", "two of nine colleagues are spared", "the status page is green", "we pay by bank transfer",
)  # fmt: skip
TROUBLES = ("is wrong", "no longer answers", "differs from what was agreed", "cannot be found")


def export(path: Path) -> None:
    """A ticket archive: every topic, trouble and worry once, each from a customer of its own."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ticket", "team", "urgent", "customer", "lines"])
        number = 0
        for team, things in TOPICS.items():
            for thing in things:
                for trouble in TROUBLES:
                    urgent = "yes" if number % 2 else "no"
                    worry = WORRIES[urgent][number // 2 % 2]
                    details = "; ".join(random.Random(number).sample(DETAILS, 4))
                    ticket = f"{thing} {trouble}, and {worry}: {details}."
                    writer.writerow([ticket, team, urgent, f"customer-{number}", 1 + number % 3])
                    number += 1


def own_uv(folder: Path) -> None:
    """`uv run ...` with the interpreter of these tests, whatever is installed."""
    folder.mkdir()
    (folder / "uv").write_text('#!/bin/sh\nshift\nexec "$@"\n')
    (folder / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    for path in folder.iterdir():
        path.chmod(0o755)


def test_the_manual_leads_from_a_signature_to_a_deployed_program(tmp_path: Path) -> None:
    files: dict[str, str] = {}
    script = ['set -eu; cd "$HERE"']
    for language, text in BLOCK.findall(MANUAL.read_text()):
        if language == "python":
            files[text.split("\n", 1)[0].removeprefix("# ")] = text
        else:
            script.append(text)
    assert list(files) == ["triage.py", "make_examples.py", "use.py"]
    assert len(script) == 4
    here = tmp_path / "here"
    here.mkdir()
    for name, text in files.items():
        (here / name).write_text(text)
        (here / name).chmod(0o600)
    export(here / "tickets.csv")
    own_uv(tmp_path / "bin")
    build_shop(tmp_path / "shop")
    script[-1] = script[-1].rstrip() + f' --repo-path "{tmp_path / "shop"}"'
    environment = {
        **{name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")},
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "HERE": str(here),
        "PROJECT": str(ROOT),
        "PYTHONPATH": str(ROOT / "data_collection"),
        "TRAINING_DATA_DIR": str(tmp_path / "data"),
        "OPTIMIZED_MODULES_DIR": str(tmp_path / "programs"),
        "OUTPUT_DIR": str(tmp_path / "runs"),
        "FLYWHEEL_MODEL": "loopback",
    }
    oracle = Oracle(tmp_path / "data")
    clever = Skilled(oracle, oracle.opposite, base=0.1, per_demo=0.45, demos_count=2, hint_bonus=0.0)
    with LoopbackModel(clever) as model:
        done = subprocess.run(
            ["bash", "-c", "\n".join([*script, 'cd "$HERE"; python use.py'])],
            env={**environment, "FLYWHEEL_API_BASE": model.url},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "['team', 'urgent']"
    (summary,) = (tmp_path / "runs").glob("run_*/orchestration_summary.json")
    result = json.loads(summary.read_text())["signatures"][NAME]
    assert (result["verdict"], result["deployed"], result["collected"]) == ("deploy", True, 0), done.stderr
    assert result["dataset_examples"] > 50
    path = deployed_program(tmp_path / "programs", NAME)
    assert path is not None
    assert [field.name for field in read_program(path, NAME).fields] == ["ticket", "team", "urgent"]


@pytest.mark.parametrize("link", re.findall(r"\]\((\.\./[^)#]+)", MANUAL.read_text()))
def test_its_links_lead_somewhere(link: str) -> None:
    assert (MANUAL.parent / link).is_file()
