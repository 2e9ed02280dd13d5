"""What a search made, made fit to be kept: no secret and no order to the model goes into a program.

Demonstrations can hold what a model said on the way, and a commit or a production call can hold anything. What is
unfit goes before the test, so that what was tested is what is deployed.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from flywheel.base.injection import FIELD_MARK, HIDDEN, suspicions
from flywheel.base.redact import findings
from flywheel.learning.program import instructions_of, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def unfit_kinds(value: Any) -> set[str]:
    """The kinds of secrets and of injected orders in the texts of a JSON value."""
    return {kind for text in texts_of(value) for kind in findings(text) | suspicions(text)}


def texts_of(value: Any) -> Iterator[str]:
    """Every text of a JSON value, names of its keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (text for part in (*value.keys(), *value.values()) for text in texts_of(part))
    elif isinstance(value, list):
        yield from (text for part in value for text in texts_of(part))


def without_unfit_demos(program: Any) -> tuple[Any, Counter[str]]:
    """The program without the demonstrations that must not be kept, and how many fell to each kind of finding."""
    kept, dropped = [], Counter[str]()
    for demo in program.demos:
        kinds = unfit_kinds(json.loads(json.dumps(plain(demo), default=str)))
        if kinds:
            dropped.update(kinds)
        else:
            kept.append(demo)
    if not dropped:
        return program, dropped
    fit = program.deepcopy()
    fit.demos = kept
    return fit, dropped


def fit_to_keep(program: Any, tell: Callable[[str], None]) -> Any:
    """The program without the demonstrations that must not be kept; what they held is told."""
    fit, dropped = without_unfit_demos(program)
    if dropped:
        found = ", ".join(f"{count} {kind}" for kind, count in sorted(dropped.items()))
        tell(f"demonstrations left out before the test: {found}")
    return fit


def unfit_instructions(program: Any) -> set[str]:
    """Why the program's instructions must not be kept; orders to the model are what instructions are made of."""
    text = instructions_of(program)
    return findings(text) | (suspicions(text) & {FIELD_MARK, HIDDEN})
