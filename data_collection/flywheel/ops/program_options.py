"""The subcommand `programs` on the command line; apart from what it shows, so that --help starts light."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flywheel.base import cli, paths

if TYPE_CHECKING:
    import argparse

COMMAND, PLAIN = "programs", "plain"
# As base.programs names the links; a test holds them together.
DEPLOYED, LATEST = "deployed", "latest"


def add_commands(parser: argparse.ArgumentParser) -> None:
    """The subcommand `programs` and its views, beside the flags of a run."""
    text = "show stored programs instead of running the cycle"
    commands = parser.add_subparsers(dest="command", metavar="{programs}", title="instead of a run")
    programs = commands.add_parser(
        COMMAND, help=text, description=text, formatter_class=cli.HelpFormatter, allow_abbrev=False
    )
    views = programs.add_subparsers(dest="view", required=True, metavar="VIEW")
    version = f"a version, {LATEST}, {DEPLOYED}, {PLAIN}, or the path of a program.json"
    _view(views, "list", "every version, with its model and scores", "?")
    _view(views, "show", "one program", None).add_argument(
        "version", nargs="?", default=DEPLOYED, metavar="VERSION", help=version
    )
    diff = _view(views, "diff", "how one program differs from another", None)
    diff.add_argument("before", nargs="?", default=DEPLOYED, metavar="FROM", help=version)
    diff.add_argument("after", nargs="?", default=LATEST, metavar="TO", help=version)
    render = _view(views, "render", "the exact messages that a call would send", None)
    render.add_argument("version", nargs="?", default=DEPLOYED, metavar="VERSION", help=version)
    names = "JSON object with the inputs, - for stdin (default: each input's name in angle brackets)"
    render.add_argument("--input", metavar="FILE", help=names)


def _view(
    views: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str, nargs: str | None
) -> argparse.ArgumentParser:
    view = views.add_parser(name, help=text, description=text, formatter_class=cli.HelpFormatter, allow_abbrev=False)
    view.add_argument("signature", nargs=nargs, metavar="SIGNATURE", help="the signature")
    cli.add_place(view, "--programs-dir", paths.PROGRAMS)
    cli.add_signature_file(view)
    return view
