"""A production call as a replay needs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Recorded:
    """A production call: its inputs, and what was answered ({} where it failed or was not kept).

    `label` says that the answer was judged good and came from neither program, so that a score against it is evidence;
    one that the baseline itself gave would favour the baseline.
    """

    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    label: bool
