"""The boundary of every script, in fresh interpreters: exit codes, streams, and what a terminal gets to see."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.base import cli, paths
from flywheel.base.errors import BadInputError

ROOM = Path(__file__).resolve().parents[2] / "data_collection"


def script(body: str, **environment: str) -> subprocess.Popen[bytes]:
    """A script whose main has this body, on its way."""
    code = "import sys, os, signal\nfrom flywheel.base import cli, errors\ndef main():\n"
    code += "".join(f"    {line}\n" for line in body.splitlines()) + "raise SystemExit(cli.run(main))\n"
    return subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOM), **environment},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def outcome(body: str, **environment: str) -> tuple[int, bytes, str]:
    with script(body, **environment) as process:
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err.decode()


@pytest.mark.parametrize("code", [0, 1, 2])
def test_mains_own_code_is_the_scripts(code: int) -> None:
    assert outcome(f"return {code}") == (code, b"", "")


def test_the_users_error_is_one_line_and_2() -> None:
    code, out, err = outcome(r"raise errors.DamagedError('a file\nis \x1b[31mbroken ' + 'x' * 2000)")
    assert (code, out) == (2, b"")
    assert err.startswith("error: a file is [31mbroken xxx")
    assert err.endswith("x…\n")
    assert err.count("\n") == 1
    assert len(err) < 700


def test_a_bug_is_3_with_its_traceback_and_a_word_on_whose_it_is() -> None:
    code, out, err = outcome("return {}['no such key']")
    assert (code, out) == (3, b"")
    assert err.startswith("Traceback (most recent call last):")
    assert "KeyError: 'no such key'\n" in err
    assert "bug in the tool" in err.splitlines()[-1]


def test_a_bug_before_main_is_3_too() -> None:
    code, _, err = outcome("import flywheel.no_such_room\nreturn 0")
    assert code == 3
    assert "ModuleNotFoundError" in err


def test_ctrl_c_is_130() -> None:
    # Where the tests run in the background of a shell, their children would ignore it.
    heed = "signal.signal(signal.SIGINT, signal.default_int_handler)"
    code, _, err = outcome(f"{heed}\nos.kill(os.getpid(), signal.SIGINT)\nsignal.pause()")
    assert (code, err) == (130, "interrupted\n")


def test_a_reader_that_went_away_ends_it_quietly() -> None:
    with script("for _ in range(100_000):\n    cli.emit('x' * 100)\nreturn 0") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"x" * 100 + b"\n"
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(timeout=60) == 128 + signal.SIGPIPE
    assert err == b""


def test_a_full_disk_behind_stdout_is_the_machines_fault_not_a_bug() -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOM)!r}); from flywheel.base import cli\n"
    code += "raise SystemExit(cli.run(lambda: cli.emit('x') or 0))"
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, check=False)
    lines = done.stderr.decode().splitlines()
    assert done.returncode in {2, 120}
    assert lines[0] == "error: output: No space left on device"
    assert "Traceback" not in done.stderr.decode()


def test_what_the_machine_refuses_names_the_file_and_is_2() -> None:
    code, _, err = outcome("open('/proc/none/such', 'w')")
    assert (code, err) == (2, "error: /proc/none/such: No such file or directory\n")


def test_an_os_error_without_a_file_stays_a_bug() -> None:
    code, _, err = outcome("raise ConnectionRefusedError(111, 'refused')")
    assert code == 3
    assert "ConnectionRefusedError" in err


def test_results_are_utf8_in_any_locale_and_stdout_holds_nothing_else() -> None:
    body = "cli.say('about “it”')\ncli.emit('“ä”')\nreturn 0"
    assert outcome(body, PYTHONIOENCODING="ascii", LC_ALL="C") == (0, "“ä”\n".encode(), "about \\u201cit\\u201d\n")


def test_what_is_said_cannot_command_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    cli.say("two\n\tlines \x1b]0;title\x07 \x9b2J \u202e.")
    assert capsys.readouterr() == ("", "two\n\tlines ]0;title 2J .\n")


@given(st.integers())
def test_integer_types_keep_zero_apart_from_nothing(value: int) -> None:
    for kind, least in ((cli.whole_number, 0), (cli.positive_int, 1)):
        if value >= least:
            assert kind(str(value)) == value
        else:
            with pytest.raises(argparse.ArgumentTypeError, match="must"):
                kind(str(value))


@pytest.mark.parametrize("text", ["", "x", "1.5", "1e3", "nan", "inf"])
def test_integer_types_refuse_what_is_no_integer(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="not a whole number"):
        cli.whole_number(text)


@given(st.floats())
def test_number_is_finite_and_not_negative(value: float) -> None:
    if 0 <= value < float("inf"):
        assert cli.number(repr(value)) == value
    else:
        with pytest.raises(argparse.ArgumentTypeError, match="finite number of at least 0"):
            cli.number(repr(value))


def test_number_refuses_words() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="'five': not a number"):
        cli.number("five")


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (["a", "b"], ["a", "b"]),
        (["a,b"], ["a", "b"]),
        (["a, b", "a"], ["a", "b"]),
        ([",", ""], []),
        (None, []),
    ],
)
def test_names(values: list[str] | None, names: list[str]) -> None:
    assert cli.names(values) == names


def test_help_tells_places_by_flag_variable_and_default(capsys: pytest.CaptureFixture[str]) -> None:
    parser = cli.parser("What it does.\n\nIn two paragraphs.", prog="tool")
    cli.add_place(parser, "--data-dir", paths.DATASETS)
    cli.add_signatures(parser)
    parser.add_argument("--count", type=cli.whole_number, default=0, help="how many")
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(["--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert "What it does.\n\nIn two paragraphs." in out
    flat = " ".join(out.split())
    assert "TRAINING_DATA_DIR; default: training_data" in flat
    assert "how many (default: 0)" in flat


def test_abbreviations_are_off() -> None:
    parser = cli.parser("x")
    parser.add_argument("--target")
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(["--tar", "5"])
    assert caught.value.code == 2


def test_existing_paths_names_the_missing_one(tmp_path: Path) -> None:
    assert cli.existing_paths([str(tmp_path)]) == [tmp_path]
    with pytest.raises(BadInputError, match="none: no such file or folder"):
        cli.existing_paths([str(tmp_path), str(tmp_path / "none")])


def test_emit_is_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    cli.emit(json.dumps({"a": 1}))
    assert json.loads(capsys.readouterr().out) == {"a": 1}


@pytest.mark.parametrize(("told", "width"), [("132", 132), ("0", 80), ("", 80), ("wide", 80), ("-5", 80)])
def test_help_is_as_wide_as_the_terminal_and_80_where_there_is_none(told: str, width: int) -> None:
    code, out, _ = outcome("print(cli.columns()); return 0", COLUMNS=told)
    assert (code, int(out)) == (0, width)


def test_help_costs_no_module_for_its_width() -> None:
    body = "cli.parser('x').format_help(); print('shutil' in sys.modules, 'lzma' in sys.modules); return 0"
    assert outcome(body)[1] == b"False False\n"
