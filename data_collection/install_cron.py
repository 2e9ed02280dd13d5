"""Add the loop's jobs to your crontab, after showing what would be added.

Usage:
  python install_cron.py          # prints what would be added
  python install_cron.py --yes    # adds it

Jobs that are there stay as they are, ones behind a # stay off, all other entries stay; a second time adds nothing.
Folders and choices that this shell's environment names (OUTPUT_DIR, FLYWHEEL_MODEL, ...) are carried over, since cron
passes nothing on; keys and passwords are not: `crontab -e` takes them.

Exit codes: 0 done, or nothing to add; 2 there is no crontab command, or it refuses.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from flywheel.base import cli, paths
from flywheel.base.errors import OK

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence


def difference(before: str, after: str) -> str:
    """What changes, as a unified diff without context: other entries may hold secrets."""
    import difflib

    from flywheel.ops.scrub import Scrubber

    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), "crontab", "crontab, new", n=0, lineterm="")
    return Scrubber(()).text("\n".join(lines))


def say_what_stays(crontab: str, environment: Mapping[str, str]) -> None:
    """Tell of jobs that are turned off, and of a model that cron would not know."""
    from flywheel.ops.crontab import JOBS, TURNED_OFF, settings, state_of

    for job in JOBS:
        if state_of(job, crontab, paths.PROJECT_ROOT) == TURNED_OFF:
            cli.say(f"{job.script}: turned off by a #; it stays off")
    if not settings(crontab).keys() & {"ANTHROPIC_API_KEY", "FLYWHEEL_MODEL"} and not environment.get("FLYWHEEL_MODEL"):
        cli.say("no model: add ANTHROPIC_API_KEY=... above the entries with `crontab -e`, or set FLYWHEEL_MODEL")


def install(*, write: bool, environment: Mapping[str, str]) -> int:
    """Print the difference; with `write` make it."""
    from flywheel.ops.crontab import additions, extended, log_folder, read_crontab, write_crontab

    before = read_crontab()
    lines = additions(before, paths.PROJECT_ROOT, environment)
    say_what_stays(before, environment)
    if not lines:
        cli.say("nothing to add: the crontab has every job")
        return OK
    after = extended(before, lines)
    cli.emit(difference(before, after))
    if not write:
        cli.say("nothing was changed; add it with `make install-cron YES=1`")
        return OK
    # The shell that cron starts opens the log before the job could make its folder.
    log_folder(environment).mkdir(parents=True, exist_ok=True, mode=paths.PRIVATE_FOLDER)
    write_crontab(after)
    cli.say("added; `python monitoring.py doctor` checks the rest")
    return OK


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__ or "")
    parser.add_argument("--yes", action="store_true", help="add the entries, not only print them")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring for exit codes."""
    args = build_parser().parse_args(argv)
    return install(write=args.yes, environment=os.environ)


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
