"""Records of earlier versions, brought to the present form when they are read; the next write keeps them so.

Version 1 grew: first one candidate, then Prometheus and percentiles, then several candidates. What a version 1 record
lacks is filled in with what it stood for when there was no other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flywheel.serving.routing import CANDIDATE
from flywheel.serving.stage_latencies import StageLatencies

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA_VERSION = 2


def upgraded(value: Mapping[str, Any]) -> dict[str, Any]:
    """The record as the present version has it.

    Raises:
        ValueError: a version that is not known, or a version 1 record without what it always had.
        TypeError: the same, where something else stands in its place.
    """
    version = value.get("schema_version")
    if type(version) is not int or not 1 <= version <= SCHEMA_VERSION:
        msg = f"schema version {version!r}, this reader knows 1 to {SCHEMA_VERSION}"
        raise ValueError(msg)
    try:
        return dict(value) if version == SCHEMA_VERSION else _second(value)
    except KeyError as error:
        msg = f"schema version {version} without {error}"
        raise ValueError(msg) from error


def _second(value: Mapping[str, Any]) -> dict[str, Any]:
    later: dict[str, Any] = {
        "ended": [],
        "withdrawn": [],
        "shadow": None,
        "prometheus": None,
        "latencies": StageLatencies().to_object(),
    }
    found = {**later, **value, "schema_version": 2}
    if "evidence" in found:
        evidence = found.pop("evidence")
        # How many scores were good was not counted; one candidate alone has no shares to be drawn by it.
        arms = {name: {**evidence[name], "good": 0} for name in ("candidate", "baseline")}
        found["candidates"] = [
            {
                "variant": CANDIDATE,
                "module": value["candidate_module"],
                "alpha": float(value["config"]["alpha"]),
                "buckets": [],
                "evidence": {**evidence, **arms, "share": None},
            }
        ]
    return found
