"""Whether what stands in an experiment's record can be true."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from flywheel.serving.bucketing import PER_PERCENT

if TYPE_CHECKING:
    from flywheel.serving.experiments import Experiment

_OPTIONAL_TEXT = (str, type(None))
_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("id", "signature", "status", "created_at", "rule", "baseline_module", "salt"), (str,)),
    **dict.fromkeys(("rollback_reason", "rollback_at", "pause_reason", "previous_version"), _OPTIONAL_TEXT),
    **dict.fromkeys(("stage", "started_ms", "stage_ms", "revision"), (int,)),
    **dict.fromkeys(("config", "clock", "latencies"), (dict,)),
    **dict.fromkeys(("checkpoint", "decision", "prometheus", "shadow"), (dict, type(None))),
    **dict.fromkeys(("warmup_ms", "history", "candidates", "ended", "withdrawn"), (list,)),
    "candidate_traffic_percent": (int, float),
}


def check_types(body: dict[str, Any]) -> None:
    """Refuse (ValueError) a record with a value that no experiment has."""
    for name, types in _TYPES.items():
        if type(body[name]) not in types:
            msg = f"{name}: {body[name]!r}"
            raise ValueError(msg)
    for number in body["warmup_ms"]:
        if type(number) not in {int, float} or not math.isfinite(number):
            msg = f"warmup_ms: {number!r}"
            raise ValueError(msg)
    for line in (*body["history"], *body["ended"]):
        if not isinstance(line, dict):
            msg = f"history or ended: {line!r}"
            raise ValueError(msg)  # noqa: TRY004 - one error for every wrong value of the format


def check_candidates(found: Experiment, value: dict[str, Any]) -> None:
    """Refuse (ValueError) candidates without names of their own, or that cannot share one bucket line."""
    variants = {item.variant for item in found.candidates}
    if not variants or len(variants) < len(found.candidates) or value["candidate_module"] != found.candidate_module:
        msg = f"candidates {sorted(variants)} or candidate_module {value['candidate_module']!r}"
        raise ValueError(msg)
    if len({bool(item.buckets) for item in found.candidates}) > 1 or (len(variants) > 1 and not found.shared):
        msg = f"candidates {sorted(variants)}: not all have buckets"
        raise ValueError(msg)


def check_shares(found: Experiment) -> None:
    """Refuse (ValueError) a live experiment whose evidence, buckets and percentage contradict each other."""
    for item in found.candidates:
        if item.evidence.stage != found.stage - 1:
            msg = f"stage {found.stage}: {item.variant} has evidence of stage {item.evidence.stage + 1}"
            raise ValueError(msg)
        if (item.evidence.share is None) == found.shared:
            msg = f"{item.variant}: a share of {item.evidence.share!r} with buckets {item.buckets!r}"
            raise ValueError(msg)
    own = sum(item.width for item in found.candidates) / PER_PERCENT
    if found.candidate_traffic_percent != (own if found.shared else found.config.stages[found.stage - 1]):
        msg = f"stage {found.stage} with {found.candidate_traffic_percent!r} percent"
        raise ValueError(msg)
