from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel.base import files
from flywheel.base.errors import BadInputError, DamagedError, LockedError

ROOM = Path(__file__).resolve().parents[2] / "data_collection"
JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter that can import flywheel."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOM)}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@in_one_folder
@given(st.binary() | st.text())
def test_write_atomic_writes_just_that(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "state"
    files.write_atomic(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert names(tmp_path) == ["state"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o600), (0o077, 0o660), (0o000, 0o600)])
def test_write_atomic_has_its_mode_under_any_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        files.write_atomic(tmp_path / "state", "x", mode)
    finally:
        os.umask(before)
    assert (tmp_path / "state").stat().st_mode & 0o7777 == mode


def test_write_atomic_replaces_a_link_and_leaves_its_target(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("untouched")
    (tmp_path / "state").symlink_to("target")
    files.write_atomic(tmp_path / "state", "new")
    assert (tmp_path / "target").read_text() == "untouched"
    assert not (tmp_path / "state").is_symlink()


def test_what_cannot_be_encoded_leaves_the_old_file(tmp_path: Path) -> None:
    files.write_atomic(tmp_path / "state", "old")
    with pytest.raises(UnicodeEncodeError):
        files.write_atomic(tmp_path / "state", "\ud800")
    assert (tmp_path / "state").read_text() == "old"
    assert names(tmp_path) == ["state"]


def test_a_target_that_is_a_folder_is_named_and_nothing_is_left_behind(tmp_path: Path) -> None:
    target = tmp_path / "state"
    target.mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        files.write_atomic(target, "new")
    assert caught.value.filename == str(target)
    assert names(tmp_path) == ["state"]


def test_a_missing_folder_is_told_with_the_target_not_the_scratch_name(tmp_path: Path) -> None:
    target = tmp_path / "none" / "state"
    with pytest.raises(FileNotFoundError) as caught:
        files.write_atomic(target, "new")
    assert caught.value.filename == str(target)


def test_a_full_disk_leaves_the_old_file_and_no_scratch(tmp_path: Path) -> None:
    """A limit on file size stands in for the disk: the write fails half way, after some bytes went out."""
    path = tmp_path / "state"
    files.write_atomic(path, "old")
    code = (
        "import resource, signal, sys; from pathlib import Path; from flywheel.base import files\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n    files.write_atomic(Path(sys.argv[1]), 'x' * 100_000)\n"
        "except OSError as error:\n    print(error.filename, end='')\n"
    )
    done = python(code, path)
    assert done.stdout == str(path), done.stderr
    assert path.read_text() == "old"
    assert names(tmp_path) == ["state"]


def test_a_writer_killed_before_the_rename_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "state"
    files.write_atomic(path, "old")
    code = (
        "import os, pathlib, signal, sys; from flywheel.base import files\n"
        "sys.addaudithook(lambda event, _: event == 'os.rename' and os.kill(os.getpid(), signal.SIGKILL))\n"
        "files.write_atomic(pathlib.Path(sys.argv[1]), 'new')\n"
    )
    assert python(code, path).returncode == -9
    assert path.read_text() == "old"
    assert [name for name in names(tmp_path) if not name.startswith(".")] == ["state"]


@in_one_folder
@given(JSON_VALUES)
def test_json_round_trips_through_a_file(tmp_path: Path, value: Any) -> None:
    files.write_json(tmp_path / "value.json", value)
    text = files.read_text(tmp_path / "value.json")
    assert files.parse_json(text, "value.json", "anything") == value
    assert text.endswith("\n")


@given(st.text(st.characters()))
def test_to_json_can_always_be_encoded_and_read_back(text: str) -> None:
    written = files.to_json({text: text}).encode()
    assert list(json.loads(written).items()) == [(read_back(text), read_back(text))]


def read_back(text: str) -> str:
    """JSON pairs up escaped half characters that stand side by side; nothing else changes."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_to_json_refuses_what_jq_cannot_read(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.to_json([value])


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ('[\n1,\n{"NaN": "NaN", "x": NaN}]', 3, "NaN is no number"),
        ("[\n-Infinity]", 2, "-Infinity is no number"),
        ('{"a": 1,\n "b": 1e999}', 2, "1e999 is no number"),
        ("[\n1,\n2,\n", 4, "Expecting value"),
        ("", 1, "Expecting value"),
        ("9" * 5000, 1, "a number has too many digits"),
        ("[" * 5000 + "]" * 5000, 1, "nested too deeply"),
        ("[" * 102 + "]" * 102, 1, "nested too deeply"),
        ('{"a":' * 300 + "1" + "}" * 300, 1, "nested too deeply"),
        ("{} {}", 1, "Extra data"),
    ],
)
def test_parse_json_names_source_line_and_what_was_expected(text: str, line: int, what: str) -> None:
    with pytest.raises(BadInputError) as caught:
        files.parse_json(text, "some.json", "a list of numbers")
    message = str(caught.value)
    assert message.startswith(f"some.json, line {line}: not JSON ({what}")
    assert message.endswith("; expected a list of numbers")


def test_parse_json_counts_from_the_line_where_its_text_stood() -> None:
    with pytest.raises(BadInputError, match="line 7: "):
        files.parse_json("{", "log.jsonl", "a record", first_line=7)


def test_parse_json_takes_what_our_own_writer_nests() -> None:
    assert files.parse_json("[" * 100 + "]" * 100, "x", "y")


def test_of_a_repeated_key_the_last_counts_as_for_jq() -> None:
    assert files.parse_json('{"a": 1, "a": 2}', "x", "y") == {"a": 2}


def test_read_text_leaves_out_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "windows.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert files.read_json_object(tmp_path / "windows.json", "an object") == {"a": 1}


@pytest.mark.parametrize("content", [b"\xff\xfe{\x00}\x00", b'{"a": "\xe4"}', b"\xed\xa0\x80"])
def test_read_text_says_where_a_file_is_not_utf8(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "latin.json"
    path.write_bytes(content)
    with pytest.raises(BadInputError, match=r"latin\.json: not UTF-8 text \(byte \d+\)"):
        files.read_text(path)


def test_read_text_of_a_missing_file_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"none\.json: cannot be read: No such file"):
        files.read_text(tmp_path / "none.json")


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '"text"', '{"a": NaN}'])
def test_a_state_file_that_is_no_object_is_damaged(tmp_path: Path, content: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(content)
    with pytest.raises(DamagedError, match=r"state\.json.*expected our state"):
        files.read_json_object(path, "our state")


def test_a_missing_state_file_is_not_damaged(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="No such file"):
        files.read_json_object(tmp_path / "state.json", "our state")


def test_swap_link_is_never_missing(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        files.swap_link(tmp_path / "latest", name)
        assert (tmp_path / "latest").readlink() == Path(name)
    assert names(tmp_path) == ["latest", "one", "two"]


def test_swap_link_onto_a_folder_fails_and_leaves_it(tmp_path: Path) -> None:
    (tmp_path / "latest").mkdir()
    with pytest.raises(IsADirectoryError):
        files.swap_link(tmp_path / "latest", "one")
    assert names(tmp_path) == ["latest"]


HOLDER = """
import pathlib, sys
from flywheel.base.files import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_excludes_other_processes_until_its_holder_dies(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, lock], env={**os.environ, "PYTHONPATH": str(ROOM)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(LockedError, match=r"\.lock: held by another process"), files.locked(lock, wait=False):
            pytest.fail("two holders")
        holder.kill()
        holder.wait()
        with files.locked(lock, wait=False):
            assert lock.stat().st_mode & 0o777 == 0o600


def test_a_lock_is_free_after_its_body_raised(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), files.locked(tmp_path / ".lock"):
        raise ZeroDivisionError
    with files.locked(tmp_path / ".lock", wait=False):
        assert True


def test_a_lock_is_not_taken_through_a_link(tmp_path: Path) -> None:
    (tmp_path / ".lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"\.lock"), files.locked(tmp_path / ".lock"):
        pytest.fail("followed a link")
    assert not (tmp_path / "elsewhere").exists()
