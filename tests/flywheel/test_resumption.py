from __future__ import annotations

import json
import multiprocessing
from dataclasses import asdict, replace
from datetime import timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pytest
from tests.monitored import NOW, write_run

from flywheel.base import cli
from flywheel.base.clock import iso
from flywheel.base.errors import BadInputError, LockedError
from flywheel.base.given import given_flags
from flywheel.learning.calls import Call, forget_failures, read_calls
from flywheel.ops import resumption
from flywheel.ops.run_options import MOST_RESUMPTIONS, OLDEST_DAYS, Options, add_options, options_of
from flywheel.ops.run_state import RunState

if TYPE_CHECKING:
    import argparse
    from multiprocessing.connection import Connection
    from pathlib import Path


def write(
    output: Path, age: timedelta = timedelta(hours=5), error: str | None = None, *, ended: bool = False, **state: Any
) -> Path:
    folder = write_run(output, NOW - age, success=False, ended=ended, error=error)
    RunState(**state).write(folder)
    return folder


def find(output: Path, wanted: str) -> Path | None:
    return resumption.find(output, wanted, NOW)


def test_a_run_is_found_by_id_path_and_latest(tmp_path: Path) -> None:
    older, newer = write(tmp_path, timedelta(days=20)), write(tmp_path, finished=True)
    assert find(tmp_path, older.name) == older
    assert find(tmp_path / "elsewhere", str(older)) == older
    assert find(tmp_path, "latest") == newer
    for wanted in ("run_20200101_000000", str(tmp_path / "none"), "none/such"):
        with pytest.raises(BadInputError, match="no such run"):
            find(tmp_path, wanted)
    with pytest.raises(BadInputError, match="no runs there"):
        find(tmp_path / "elsewhere", "latest")


def test_by_itself_only_a_young_run_that_was_cut_short_is_resumed_and_not_for_ever(tmp_path: Path) -> None:
    assert find(tmp_path, "unfinished") is None
    moments = tuple(iso(NOW) for _ in range(MOST_RESUMPTIONS))
    write(tmp_path, timedelta(days=OLDEST_DAYS))
    write(tmp_path, timedelta(hours=1), finished=True)
    write(tmp_path, timedelta(hours=2), resumed_at=moments)
    (tmp_path / "run_20251104_083000").mkdir()
    write(tmp_path, timedelta(hours=3)).joinpath("run_state.json").write_text("{")
    assert find(tmp_path, "unfinished") is None
    write(tmp_path, timedelta(hours=4), "OSError: disk full", ended=True)
    assert find(tmp_path, "unfinished") is None
    write(tmp_path, timedelta(days=6))
    told = write(tmp_path, timedelta(days=5, hours=1), "terminated", ended=True)
    assert find(tmp_path, "unfinished") == told
    newest = write(tmp_path, timedelta(days=5), resumed_at=moments[1:])
    assert find(tmp_path, "unfinished") == newest


def _hold(folder: Path, pipe: Connection) -> None:
    with resumption.held(folder):
        pipe.send("held")
        pipe.recv()


def test_a_run_is_held_by_one_process_and_freed_by_its_death(tmp_path: Path) -> None:
    folder = write(tmp_path)
    here, there = multiprocessing.get_context("spawn").Pipe()
    holder = multiprocessing.get_context("spawn").Process(target=_hold, args=(folder, there))
    holder.start()
    assert here.recv() == "held"
    with pytest.raises(LockedError, match="is under way in another process"), resumption.held(folder):
        pass
    assert find(tmp_path, "unfinished") is None, "it is under way"
    holder.kill()
    holder.join()
    assert find(tmp_path, "unfinished") == folder
    with resumption.held(folder):
        pass


def test_what_a_kill_has_torn_is_mended(tmp_path: Path) -> None:
    folder = write(tmp_path)
    (folder / "cache").mkdir()
    for name in ("calls.jsonl", "decisions.jsonl"):
        (folder / name).write_text('{"whole": 1}\n{"torn')
    with resumption.held(folder):
        resumption.require_whole(folder)
    for name in ("calls.jsonl", "decisions.jsonl"):
        assert (folder / name).read_text() == '{"whole": 1}\n'


def test_a_run_without_its_answers_is_not_paid_again(tmp_path: Path) -> None:
    folder = write(tmp_path)
    with resumption.held(folder):
        resumption.require_whole(folder)
        (folder / "calls.jsonl").write_text('{"key": null}\n')
        resumption.require_whole(folder)
        (folder / "calls.jsonl").write_text('{"key": "a1b2"}\n')
        with pytest.raises(BadInputError, match="cleaned up since"):
            resumption.require_whole(folder)


def test_a_run_of_another_dspy_is_not_paid_again(tmp_path: Path) -> None:
    folder = write(tmp_path)
    (folder / resumption.LOCK).write_text("3.3.0\n")
    expected = f"began with DSPy 3.3.0, now it is {version('dspy')}"
    with resumption.held(folder), pytest.raises(BadInputError, match=expected):
        resumption.require_whole(folder)


def parser() -> argparse.ArgumentParser:
    made = cli.parser("")
    add_options(made)
    return made


def settings(*argv: str) -> Options:
    return options_of(parser().parse_args(argv), "openai/m")


def test_settings_come_back_from_json_as_they_were() -> None:
    options = settings("--trials", "6", "--split", "20/40/40", "--quick", "all")
    assert resumption.recorded(json.loads(json.dumps(asdict(options))), "run_1") == options
    with pytest.raises(BadInputError, match=r"another version of this system began it \(settings: seed\)"):
        resumption.recorded({k: v for k, v in asdict(options).items() if k != "seed"}, "run_1")


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], set()),
        (["--trials", "50", "--no-strict"], {"trials", "strict"}),
        (["--seed", "9", "--timeout", "2"], {"seed", "timeout"}),
        (["--signatures", "a", "b", "--signature-file", "x"], {"signatures", "signature_file"}),
    ],
)
def test_flags_that_were_given_are_told_from_defaults(argv: list[str], expected: set[str]) -> None:
    made = parser()
    assert given_flags(made, argv, made.parse_args(argv)) == expected


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--trials", "7"], "--trials: asks for 7, the run has 6"),
        (["--timeout", "3"], "--timeout: asks for 3.0, the run has 2.0"),
        (["--no-strict"], "--strict: asks for False, the run has True"),
        (["--trials", "6", "--timeout", "2"], None),
        ([], None),
    ],
)
def test_a_flag_that_contradicts_is_refused(argv: list[str], expected: str | None) -> None:
    made, run = parser(), settings("--trials", "6")
    args = made.parse_args(argv)
    given = given_flags(made, argv, args)
    if expected is None:
        resumption.refuse_contradictions(given, options_of(args, "openai/m"), run)
        return
    with pytest.raises(BadInputError, match=expected):
        resumption.refuse_contradictions(given, options_of(args, "openai/m"), run)


def test_another_model_or_other_signatures_are_refused() -> None:
    run = settings()
    with pytest.raises(BadInputError, match="--model: asks for openai/n, the run has openai/m"):
        resumption.refuse_contradictions({"model"}, replace(run, model="openai/n"), run)
    resumption.refuse_contradictions({"model"}, replace(run, model="m"), run)
    resumption.refuse_others(None, ["a", "b"])
    resumption.refuse_others(["b,a"], ["a", "b"])
    with pytest.raises(BadInputError, match="--signatures a: the run has a,b"):
        resumption.refuse_others(["a"], ["a", "b"])


def test_failures_can_be_forgotten_and_still_count(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    base: dict[str, Any] = {
        "time": "t", "stage": "optimize", "signature": "s", "model": "m", "input_tokens": 1, "output_tokens": 1,
        "cached": False, "cost_usd": None, "latency_ms": 1.0,
    }  # fmt: skip
    calls = [Call(**base, error=None, key="a"), Call(**base, error="LMAuthError 401", key="b")]
    path.write_text("".join(json.dumps(asdict(call)) + "\n" for call in calls))
    assert forget_failures(path) == 1
    assert list(read_calls(path)) == [calls[0], replace(calls[1], key=None)]
    assert forget_failures(path) == 0
