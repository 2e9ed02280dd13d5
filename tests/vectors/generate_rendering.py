"""Writes rendering.json: programs with inputs and the exact messages that a call of them must send."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dspy

from flywheel.base.programs import Program, ProgramScores
from flywheel.data.signatures import BUILT_IN
from flywheel.learning.program import build_program, plain_envelope, to_envelope
from flywheel.learning.rendering import render_call

HERE = Path(__file__).resolve().parent
NASTY = 'Quotes " and \\ and {braces} and [[ marks ]]\n\ttwo lines, “ünïcödé”, 日本語, 😀'
FINDINGS = {"missing_requirements": ["Log every reset"], "correctness_issues": [NASTY]}
VALUES: dict[str, Any] = {
    "user_intent": "Let clients page through the bookings",
    "context": NASTY,
    "work_item": "Paging",
    "implementation": "def page(rows, size=20):\n    return rows[:size]\n",
    "requirements": ["Return at most twenty bookings", NASTY],
    "priorities": [9, 5],
    "code_sample": "",
    "intent_satisfied": True,
    "is_complete": False,
    "is_correct": False,
    "explanation": "It stops after the first page.",
    "missing_aspects": [],
    "missing_requirements": ["Go on from a cursor"],
    "issues": ["The cursor is ignored"],
    "review_findings": FINDINGS,
    "guidance": [
        {"title": "Log every reset", "description": "Write a line", "priority": "low", "code_example": "log()",
         "estimated_effort": "1 hour"},
    ],
}  # fmt: skip


def programs() -> list[tuple[str, Program]]:
    """The plain program of every built-in signature, and one with instructions of its own and two demonstrations."""
    found = []
    for signature in BUILT_IN:
        found.append((f"{signature.name}, plain", plain_envelope(signature)))
        names = [field.name for field in (*signature.inputs, *signature.outputs)]
        tuned = build_program(signature)
        tuned.signature = tuned.signature.with_instructions("Judge with care.\nSay “no” when in doubt.")
        demo = {name: VALUES[name] for name in names}
        tuned.demos = [dspy.Example(**demo, augmented=True), dspy.Example(**demo)]
        for adapter in ("ChatAdapter", "JSONAdapter"):
            facts: dict[str, Any] = {
                "adapter": adapter, "model": "openai/some-model", "model_snapshot": None, "model_parameters": {},
                "optimizer": "mipro", "seed": 9, "dataset_version": "v20251104_110000", "dataset_hash": "0" * 64,
                "run_id": "run_20251104_120000", "created": "2025-11-04T12:00:00+00:00",
                "scores": ProgramScores(0.5, 0.6, 20.0, (1.0, 39.0), 100),
            }  # fmt: skip
            found.append((f"{signature.name}, tuned, {adapter}", to_envelope(tuned, signature, **facts)))
    return found


def text() -> str:
    """The file's content, in ASCII."""
    by_name = {signature.name: signature for signature in BUILT_IN}
    cases = []
    for name, program in programs():
        signature = by_name[program.signature]
        inputs = {field.name: VALUES[field.name] for field in signature.inputs}
        messages = render_call(program, signature, inputs)
        envelope = json.loads(program.to_json())
        cases.append({"name": name, "program": envelope, "inputs": inputs, "messages": messages})
    return json.dumps(cases, indent=1) + "\n"


if __name__ == "__main__":
    (HERE / "rendering.json").write_text(text(), encoding="ascii")
