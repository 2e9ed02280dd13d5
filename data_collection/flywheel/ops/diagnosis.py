"""What `doctor` says of one thing: fine, worth a look, or broken, and the command that mends it."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from flywheel.base import cli
from flywheel.base.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from flywheel.ops.scrub import Scrubber

OK, WARN, FAIL = "ok", "warn", "fail"
LONGEST = 500


@dataclass(frozen=True)
class Diagnosis:
    """`check` names what was looked at, `what` says what was found; `fix` is a command, None where all is well."""

    check: str
    level: str
    what: str
    fix: str | None = None


def as_root(command: str) -> str:
    """A fix that only the superuser may run, as this user has to write it."""
    return command if os.geteuid() == 0 else f"sudo {command}"


def failed(diagnoses: Iterable[Diagnosis]) -> bool:
    """Whether something is broken; warnings do not count."""
    return any(item.level == FAIL for item in diagnoses)


def scrubbed(item: Diagnosis, scrubber: Scrubber) -> Diagnosis:
    """The same without secrets, each text on one line."""
    fix = None if item.fix is None else one_line(scrubber.text(item.fix), LONGEST)
    return Diagnosis(item.check, item.level, one_line(scrubber.text(item.what), LONGEST), fix)


def table(diagnoses: Sequence[Diagnosis]) -> Iterator[str]:
    """Lines for people: level, check, what was found; the fix below."""
    width = max((len(item.check) for item in diagnoses), default=0)
    for item in diagnoses:
        yield f"{item.level:<4}  {item.check:<{width}}  {item.what}"
        if item.fix is not None:
            yield f"{'':<4}  {'':<{width}}  -> {item.fix}"
    counts = {level: sum(item.level == level for item in diagnoses) for level in (OK, WARN, FAIL)}
    yield f"{counts[OK]} fine, {counts[WARN]} to look at, {counts[FAIL]} broken"


def show(diagnoses: Sequence[Diagnosis], *, as_json: bool) -> None:
    """Print them: a table for people, or one JSON object {ok, checks: [{check, level, what, fix}]} on stdout."""
    if as_json:
        cli.emit_json({"ok": not failed(diagnoses), "checks": [asdict(item) for item in diagnoses]})
        return
    for line in table(diagnoses):
        cli.say(line)
