"""Above which latency a call is slow: cut-offs frozen early from the baseline, so that they cannot follow the data."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

WARMUP_CALLS = 200
QUANTILES = (0.5, 0.9, 0.98)
Cutoffs = tuple[float, float, float]


def freeze_cutoffs(latencies: Sequence[float]) -> Cutoffs:
    """The baseline's 50, 90 and 98 % latencies in ms: above them a call is slow. Slow calls count from now on only.

    The cut-offs must not depend on the calls that they later sort, so these calls count in no slow counter.

    Raises:
        ValueError: fewer than WARMUP_CALLS latencies, or one that is not a finite number >= 0.
    """
    if len(latencies) < WARMUP_CALLS:
        msg = f"{len(latencies)} latencies of the baseline, {WARMUP_CALLS} are needed"
        raise ValueError(msg)
    if not all(math.isfinite(latency) and latency >= 0 for latency in latencies):
        msg = "latencies must be finite and not negative"
        raise ValueError(msg)
    ordered = sorted(latencies)
    low, middle, high = (ordered[math.ceil(quantile * len(ordered)) - 1] for quantile in QUANTILES)
    return low, middle, high
