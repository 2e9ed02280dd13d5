"""How git is run on a repository that nobody trusts: nothing inherited, and nothing that its configuration asks for."""

from __future__ import annotations

import os
import re
import shutil

from flywheel.base.errors import BadInputError
from flywheel.base.text import one_line

BIG_FILE = "2m"
PASSED_ON = ("PATH", "HOME", "XDG_CONFIG_HOME", "TMPDIR", "USER")
ENVIRONMENT = {
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    # No index: else git would take contents from the working tree, and with them its filters, into account.
    "GIT_INDEX_FILE": "/nonexistent/index",
    # A list of allowed transports that names none of them; unlike protocol.allow, no configuration overrides it.
    "GIT_ALLOW_PROTOCOL": "none",
}
SETTINGS = (
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.pager=cat",
    "core.alternateRefsCommand=",
    "core.attributesFile=/dev/null",
    "core.quotePath=false",
    f"core.bigFileThreshold={BIG_FILE}",
    "protocol.allow=never",
    "log.showSignature=false",
    "log.mailmap=false",
    "log.follow=false",
    "diff.external=",
    "diff.orderFile=/dev/null",
    "diff.noprefix=false",
    "diff.mnemonicPrefix=false",
    "diff.suppressBlankEmpty=false",
    "diff.interHunkContext=0",
    "color.ui=false",
    "i18n.logOutputEncoding=UTF-8",
)


def _found(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        msg = f"{program}: no such program; install it and have it on PATH"
        raise BadInputError(msg)
    return path


def clean_command(program: str) -> list[str]:
    """`env -i ... git -c ...`: GitPython adds to the inherited environment, but can take nothing out of it."""
    kept = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    variables = [f"{name}={value}" for name, value in {**kept, **ENVIRONMENT}.items()]
    settings = [part for setting in SETTINGS for part in ("-c", setting)]
    return [_found("env"), "-i", *variables, _found(program), "--no-pager", "--literal-pathspecs", *settings]


def explained(stderr: str) -> str:
    """What git complained about, in one line that says what to do where that is known."""
    if "dubious ownership" in stderr:
        return "the repository belongs to another user; run as that user, or `git config --global --add safe.directory`"
    if "not a git repository" in stderr:
        return "not a git repository; name one with --repo-path"
    if "Needed a single revision" in stderr or "bad revision" in stderr or "ambiguous argument 'HEAD'" in stderr:
        return "the repository has no commits yet"
    told = re.sub(r"^(fatal|error): ", "", stderr.strip())
    return f"git failed: {one_line(told) or 'no message'}"
