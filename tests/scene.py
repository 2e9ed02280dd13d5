"""A busy year as files: a dozen runs, datasets, experiments in every state, canaries, and strangers' text."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tests.monitored import envelope, experiment, rolled_back, write_dataset, write_experiment

from flywheel.base.canaries import CanaryScore
from flywheel.base.clock import iso, stamp
from flywheel.base.evaluations import Evaluation, Shown, TrialScore
from flywheel.base.programs import FILE_NAME, deploy, publish
from flywheel.data.signatures import BUILT_IN
from flywheel.ops.journal import RunJournal
from flywheel.ops.report import render
from flywheel.ops.runs import RESULTS, RunSummary, SignatureResult

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

NAMES = [signature.name for signature in BUILT_IN]
HOSTILE = "<script>alert(1)</script><img src=x onerror=y>\u202e\x1b[2J " + "unbroken" * 40
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
FIGURES: dict[str, Any] = {
    "stage": 1, "percent": 25, "elapsed_minutes": 48.0, "deadline_minutes": 360.0,
    "candidate_calls": 412, "baseline_calls": 1236,
    "candidate_drawn": 397, "baseline_drawn": 1180, "error_rate_candidate": 0.138, "error_rate_baseline": 0.051,
    "error_rate_delta": 0.087, "error_rate_delta_pooled": 0.081, "error_rate_delta_upper": 0.119,
    "latency_ms_candidate": 1893.2, "latency_ms_baseline": 1507.9, "latency_delta_ms": 385.3,
    "latency_delta_ms_pooled": 380.1, "latency_delta_ms_upper": 520.4,
    "latency_ms_p50_candidate": 1490.0, "latency_ms_p95_candidate": 5210.0, "latency_ms_p99_candidate": 9800.0,
    "latency_ms_p50_baseline": 1210.0, "latency_ms_p95_baseline": 2410.0, "latency_ms_p99_baseline": 4820.0,
    "quality_scores": 96, "quality_score": 0.812, "quality_score_baseline": 0.804, "quality_score_lower": 0.79,
    "e_bound": 900.0, "e_errors": 214.7, "e_emergency": 12.1, "e_latency": 3.4, "e_quality": 0.02,
    "e_quality_delta": 0.4, "e_sample_ratio": 0.7,
}  # fmt: skip


def populate(root: Path, now: datetime) -> None:
    """Fill `root` with runs/, data/, experiments/ and programs/."""
    dice = random.Random(7)
    for month in range(12):
        _run(root / "runs", now - (340 - 30 * month) * DAY, month, dice)
    _failed(root / "runs", now - 2 * DAY)
    for place, name in enumerate(NAMES[:4]):
        for number in range(1, 8):
            created = now - (30 * (8 - number) + place) * DAY
            quality = 74 + 6 * place - number * (1.4 if place == 1 else -0.8) + dice.uniform(-0.3, 0.3)
            write_dataset(
                root / "data", created, round(min(quality, 99), 1), examples=60 + 35 * number, signature=name,
                sequence=number,
            )  # fmt: skip
    _experiments(root / "experiments", now)
    for name in NAMES[:2]:
        _canary(root / "programs", name, now, dice)


def _run(root: Path, started: datetime, month: int, dice: random.Random) -> None:
    results = {}
    for place, name in enumerate(NAMES):
        gain = round(dice.gauss(9 - month * 0.6 + place, 4), 1)
        verdict = "deploy" if gain > 8 else "reject" if gain < 2 else "inconclusive"
        base = round(0.52 + 0.02 * month, 3)
        results[name] = SignatureResult(
            baseline="plain", baseline_score=base, optimized_score=round(base * (1 + gain / 100), 3), verdict=verdict,
            improvement_percent=gain, improvement_ci=(gain - 6, gain + 6), deployed=verdict == "deploy", n_test=80,
            lm_calls=900, cost_usd=None if place == 4 and month == 11 else round(dice.uniform(0.4, 1.9), 2),
        )  # fmt: skip
    _write(root, started, results, None)


def _failed(root: Path, started: datetime) -> None:
    _write(root, started, {NAMES[0]: SignatureResult()}, f"Quality gates failed: {HOSTILE}")


def _write(root: Path, started: datetime, results: dict[str, SignatureResult], error: str | None) -> None:
    folder = root / f"run_{stamp(started)}"
    folder.mkdir(parents=True)
    RunSummary(
        run_id=folder.name, start_time=iso(started), end_time=iso(started + 2.4 * HOUR), success=error is None,
        error=error, config={"min_improvement": 5.0, "model": "openai/gpt"}, signatures=results,
    ).write(folder)  # fmt: skip


def _history(start: datetime, *shares: int, last: str = "promoted", reason: str = "all harmless") -> list[Any]:
    lines = []
    for number, share in enumerate(shares):
        event = "started" if number == 0 else last if number == len(shares) - 1 else "promoted"
        lines.append(
            {
                "at": iso(start + number * 1.3 * HOUR), "event": event, "by": "rule", "reason": reason,
                "stage": number + 1, "candidate_traffic_percent": share, "figures": FIGURES,
            }
        )  # fmt: skip
    return lines


def _experiments(root: Path, now: datetime) -> None:
    decision = {
        "at": iso(now),
        "action": "hold",
        "reasons": [],
        "text": "48 of 60 minutes, 412 calls",
        "figures": FIGURES,
    }
    start = now - 3 * HOUR
    live = experiment(
        "extract_reqs_v7", created_at=iso(start), stage=2, candidate_traffic_percent=25, decision=decision,
        history=_history(start, 10, 25),
    )  # fmt: skip
    old = now - 9 * DAY
    arms = {
        name: {"figures": FIGURES, "text": "", "action": "hold", "reasons": []} for name in ("candidate", "candidate_2")
    }
    paused = experiment(
        "validate_intent_v3", signature=NAMES[1], status="paused", created_at=iso(old), candidate_traffic_percent=50,
        decision={**decision, "text": "two candidates", "arms": arms}, stage=3,
        history=_history(old, 10, 25, 50, 50, last="paused", reason="inconclusive: deadline"),
    )  # fmt: skip
    done = experiment(
        "completeness_v2", signature=NAMES[2], status="completed", final_status="completed", stage=5,
        created_at=iso(now - 40 * DAY), candidate_traffic_percent=100,
        history=_history(now - 40 * DAY, 10, 25, 50, 75, 100, last="completed"),
    )  # fmt: skip
    pending = experiment("guidance_v1", signature=NAMES[4], status="pending", created_at=iso(now - HOUR))
    broken = experiment(
        "correctness_v9", signature=NAMES[3], status="failed", final_status="failed", created_at=iso(now - 3 * DAY),
        history=_history(now - 3 * DAY, 10, 10, last="failed", reason=HOSTILE),
    )  # fmt: skip
    begun = now - 2 * DAY - 5 * HOUR
    back = rolled_back(now - 2 * DAY, "error_rate_delta > 0.05", created_at=iso(begun)) | {
        "history": _history(begun, 10, 25, 50, 0, last="rolled_back", reason="error_rate_delta > 0.05")
    }
    for record in (live, paused, done, pending, broken, back, rolled_back(now - 70 * DAY, HOSTILE, by="operator")):
        if record["rollback_reason"] == HOSTILE:
            record.update(id="by_hand", experiment_id="by_hand", created_at=iso(now - 71 * DAY))
        write_experiment(root, record)


def _canary(root: Path, name: str, now: datetime, dice: random.Random) -> None:
    path = publish(root, envelope(name), now - 60 * DAY)
    deploy(root, name, path.parent.name)
    fall = 0.35 if name == NAMES[0] else 0.0
    for week in range(8):
        scores: dict[str, float | None] = {
            f"e{n}": float(dice.random() < 0.85 - (fall if week > 5 else 0)) if week else float(n % 10 != 0)
            for n in range(20)
        }
        CanaryScore(
            iso(now - (7 * (8 - week) - 6) * DAY), path.parent.name, "openai/gpt",
            "gpt-2025-11-01" if fall and week > 5 else "gpt-2025-08-07", scores, {key: key for key in scores}, 21, 0.04,
        ).append(path.parent)  # fmt: skip


def write_state(path: Path, now: datetime) -> None:
    """A state in which much has been told, and one channel waits."""
    told = [
        {"level": level, "title": title, "message": message, "timestamp": iso(now - hours * HOUR)}
        for hours, level, title, message in (
            (30, "error", "Orchestration Run Failures", "Orchestration has failed 2 consecutive times"),
            (20, "info", "Resolved: Orchestration Run Failures", "No longer so, after 10 h: 2 consecutive times"),
            (8, "warning", "A/B Test Rolled Back: Auto-Rollback", HOSTILE),
            (1, "critical", "Unreadable State", "experiment_x.json cannot be read"),
        )
    ]
    waiting = {**told[-1], "details": {}, "route_level": "critical"}
    body = {
        "schema_version": 1, "watched_since": iso(now - 300 * DAY), "last_check": iso(now - HOUR / 2), "incidents": {},
        "pending": {"slack": [waiting]}, "recent_alerts": told,
    }  # fmt: skip
    path.write_text(json.dumps(body))


def report_page(root: Path, now: datetime) -> str:
    """report.html of a run of five signatures: every verdict, trials, a candidate's instructions, strangers' text."""
    config = {"min_improvement": 5.0, "model": "openai/gpt", "trials": 30, "note": HOSTILE}
    journal = RunJournal.begin(root, now, config, NAMES)
    outcomes: list[tuple[str | None, float, str]] = [
        ("deploy", 18.2, "improved by 18.2 %, 95 % interval 6.2 to 30.2, p = 0.001"),
        ("reject", -4.1, "not better than the baseline"),
        ("inconclusive", 6.3, f"the interval holds 0; about 240 test examples would decide. {HOSTILE}"),
        (None, 0.0, "too few examples to optimize (3 train)"),
        ("deploy", 9.0, "improved by 9.0 %"),
    ]
    dice = random.Random(3)
    for name, (verdict, gain, reason) in zip(NAMES, outcomes, strict=True):
        facts: dict[str, Any] = {
            "collected": 50, "collected_by_source": {"git": 30, "synthetic": 20}, "target": 50, "validated": 44,
            "rejected": {"empty_field": 4, "secret_detected": 2}, "duplicates": 3,
            "dataset_version": "v20251104_120000", "dataset_examples": 262, "new_examples": 41, "trials": 30,
            "verdict": verdict, "verdict_reason": reason,
            "quality_gates": {"verdict": "warn", "reasons": ["category diversity 2 < 3"], "strict_verdict": "reject"},
            "lm_calls": 1840, "cached_calls": 211, "seconds": 2915.0, "cost_usd": 1.84,
            "tokens": {"input_tokens": 1_804_211, "output_tokens": 240_118, "total_tokens": 2_044_329},
        }  # fmt: skip
        if verdict is not None:
            facts |= {
                "baseline": "plain", "baseline_score": 0.512, "optimized_score": round(0.512 * (1 + gain / 100), 3),
                "improvement_percent": gain, "improvement_ci": (gain - 12, gain + 12), "n_test": 105, "n_failed": 2,
                "minimum_detectable_percent": 11.4, "deployed": verdict == "deploy", "model": "openai/gpt",
            }  # fmt: skip
            _results(journal.folder / RESULTS / name, name, dice)
        journal.facts[name] = facts
    return render(journal.summary(ended=True), journal.folder)


def _results(folder: Path, name: str, dice: random.Random) -> None:
    folder.mkdir(parents=True)
    best, trials = 0.0, list[TrialScore]()
    for number in range(1, 31):
        score = round(min(99.0, 42 + number + dice.gauss(0, 7)), 1)
        best = max(best, score)
        trials.append(TrialScore(number=number, score=score, full=number % 5 == 0, best=best))
    shown = Shown(instructions="", demos=[], messages=[])
    Evaluation(
        trials=trials, test=[], slices={}, shown_split="val", regressions=[], gains=[], baseline_usage=None,
        optimized_usage=None, before=shown, after=shown,
    ).write(folder)  # fmt: skip
    instructions = "Weigh each requirement in turn, and quote the line that meets it. " * 6 + HOSTILE
    (folder / FILE_NAME).write_text(replace(envelope(name), instructions=instructions).to_json())
