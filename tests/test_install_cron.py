from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.crontabs import Crontab

import install_cron
from flywheel.base import cli
from flywheel.base.errors import BadInputError
from flywheel.ops import crontab as tables
from flywheel.ops.crontab import ACTIVE, CARRIED, JOBS, MISSING, TURNED_OFF, additions, extended, settings, state_of

ROOT = Path(__file__).resolve().parents[1]
OTHERS = "MAILTO=me@example.com\nSMTP_PASSWORD=hunter22222\n5 4 * * * /usr/bin/backup --all\n"


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in CARRIED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LOG_DIR", str(tmp_path))


@pytest.fixture
def crontab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Crontab:
    return Crontab(tmp_path, monkeypatch)


def test_it_prints_and_changes_nothing_until_told(crontab: Crontab, capsys: pytest.CaptureFixture[str]) -> None:
    crontab.table.write_text(OTHERS)
    assert install_cron.main([]) == 0
    told = capsys.readouterr()
    for job in JOBS:
        assert f"+{job.schedule} {ROOT}/data_collection/{job.script}" in told.out
    assert crontab.text == OTHERS
    assert "hunter22222" not in told.out + told.err
    assert "nothing was changed" in told.err


def test_it_adds_after_everything_else_and_only_once(crontab: Crontab, capsys: pytest.CaptureFixture[str]) -> None:
    crontab.table.write_text(OTHERS)
    assert install_cron.main(["--yes"]) == 0
    once = crontab.text
    assert once.startswith(OTHERS)
    assert all(state_of(job, once, ROOT) == ACTIVE for job in JOBS)
    capsys.readouterr()
    assert install_cron.main(["--yes"]) == 0
    told = capsys.readouterr()
    assert crontab.text == once
    assert told.out == ""
    assert "nothing to add" in told.err


def test_a_user_without_a_crontab_gets_one(crontab: Crontab) -> None:
    assert install_cron.main(["--yes"]) == 0
    assert crontab.text.startswith("# DSPy flywheel in ")


def test_what_the_operator_moved_or_turned_off_stays(crontab: Crontab, capsys: pytest.CaptureFixture[str]) -> None:
    scripts = {job.script: ROOT / "data_collection" / job.script for job in JOBS}
    mine = f"30 5 2 * * {scripts['cron_monthly_optimization.sh']}\n#0 * * * * {scripts['cron_monitoring.sh']}\n"
    crontab.table.write_text(mine)
    assert install_cron.main(["--yes"]) == 0
    added = crontab.text.removeprefix(mine)
    assert "cron_cleanup.sh" in added
    assert "cron_monthly" not in added
    assert "cron_monitoring" not in added
    assert "cron_monitoring.sh: turned off" in capsys.readouterr().err
    states = [state_of(job, crontab.text, ROOT) for job in JOBS]
    assert states == [ACTIVE, ACTIVE, TURNED_OFF, ACTIVE, ACTIVE]


def test_the_shells_choices_are_carried_over_and_its_keys_are_not(
    crontab: Crontab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    crontab.table.write_text("OUTPUT_DIR=/srv/mine\n")
    monkeypatch.setenv("OUTPUT_DIR", "/srv/other")
    monkeypatch.setenv("REPO_PATH", "/srv/my repo")
    monkeypatch.setenv("FLYWHEEL_MODEL", "openai/gpt-5")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-very-secret-indeed")
    assert install_cron.main(["--yes"]) == 0
    assert settings(crontab.text) == {
        "OUTPUT_DIR": "/srv/mine", "LOG_DIR": os.environ["LOG_DIR"], "REPO_PATH": "/srv/my repo",
        "FLYWHEEL_MODEL": "openai/gpt-5",
    }  # fmt: skip
    told = capsys.readouterr()
    assert "very-secret" not in crontab.text + told.out + told.err
    assert "no model" not in told.err


def test_without_a_model_it_says_what_to_add(crontab: Crontab, capsys: pytest.CaptureFixture[str]) -> None:
    assert install_cron.main([]) == 0
    assert "no model: add ANTHROPIC_API_KEY" in capsys.readouterr().err
    crontab.table.write_text("ANTHROPIC_API_KEY=sk-ant-1\n")
    assert install_cron.main([]) == 0
    assert "no model" not in capsys.readouterr().err


def test_logs_go_where_they_can_be_written(crontab: Crontab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LOG_DIR", "/proc/none")
    assert install_cron.main(["--yes"]) == 0
    state = tmp_path / "home" / ".local" / "state" / "dspy_flywheel"
    assert state.stat().st_mode & 0o777 == 0o700
    for job in JOBS:
        assert f">> {state}/{job.log} 2>&1" in crontab.text


def test_without_a_crontab_program_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Crontab(tmp_path, monkeypatch, present=False)
    assert cli.run(lambda: install_cron.main([])) == 2
    with pytest.raises(BadInputError, match="apt-get install cron"):
        install_cron.main(["--yes"])


def test_a_crontab_that_refuses_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crontab = Crontab(tmp_path, monkeypatch)
    crontab.table.mkdir()
    with pytest.raises(BadInputError, match="crontab -l failed"):
        install_cron.main(["--yes"])


def test_a_setting_that_a_crontab_cannot_carry_is_refused(crontab: Crontab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTPUT_DIR", "/srv/a\n* * * * * /bin/evil")
    with pytest.raises(BadInputError, match="cannot carry"):
        install_cron.main(["--yes"])
    assert not crontab.table.exists()


def commands_of(lines: list[str]) -> list[str]:
    """The commands as cron hands them to the shell: \\% is %, five fields of time go."""
    entries = [line for line in lines if line[:1].isdecimal()]
    return [line.split(maxsplit=5)[5].replace("\\%", "%") for line in entries]


@given(st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z"), include_characters=" %'\"$"), min_size=1))
def test_any_path_reaches_the_shell_as_it_is(name: str) -> None:
    root = Path("/srv") / name.replace("/", "_")
    lines = additions("", root, {"LOG_DIR": "/"})
    assert all(state_of(job, "\n".join(lines), root) == ACTIVE for job in JOBS)
    for command, job in zip(commands_of(lines), JOBS, strict=True):
        assert shlex.split(command)[0] == str(root / "data_collection" / job.script)
    assert additions(extended("", lines), root, {}) == []


@given(st.lists(st.sampled_from([*OTHERS.splitlines(), "", "# a note", "@reboot x"])), st.booleans())
def test_other_entries_survive_whatever_they_are(lines: list[str], newline: bool) -> None:  # noqa: FBT001
    before = "\n".join(lines) + ("\n" if newline and lines else "")
    after = extended(before, additions(before, ROOT, {}))
    assert after.splitlines()[: len(before.splitlines())] == before.splitlines()
    assert after.endswith("\n")
    assert extended(after, additions(after, ROOT, {})) == after


def test_the_log_folder_follows_the_jobs_own_rule(tmp_path: Path) -> None:
    shell = f'. "{ROOT}/data_collection/cron_environment.sh" x.log; echo "$logs"'
    for environment in ({"LOG_DIR": str(tmp_path)}, {"LOG_DIR": "/proc/none"}, {"XDG_STATE_HOME": str(tmp_path)}):
        variables = {"HOME": os.environ["HOME"], "PATH": "/usr/bin:/bin", "UV_PROJECT_ENVIRONMENT": sys.prefix}
        command = ["/usr/bin/bash", "-c", shell]
        done = subprocess.run(command, env={**variables, **environment}, capture_output=True, text=True, check=True)
        assert done.stdout == f"{tables.log_folder(environment)}\n"


def test_the_example_has_the_same_jobs_at_the_same_times() -> None:
    example = (ROOT / "crontab.example").read_text()
    for job in JOBS:
        assert f"\n{job.schedule} /path/to/project/data_collection/{job.script}" in example
        assert state_of(job, example, ROOT) == MISSING
