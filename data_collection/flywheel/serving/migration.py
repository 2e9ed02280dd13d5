"""Records of earlier versions, brought to the present form when they are read; the next write keeps them so.

Version 1 grew: first one candidate, then Prometheus and percentiles, then several candidates. What a version 1 record
lacks is filled in with what it stood for when there was no other. Version 2 held the routed share against calls,
version 3 holds it against units where records name them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flywheel.serving.exposure import MOST_EXPOSED, named, packed
from flywheel.serving.routing import CANDIDATE
from flywheel.serving.stage_latencies import StageLatencies

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA_VERSION = 3


def upgraded(value: Mapping[str, Any]) -> dict[str, Any]:
    """The record as the present version has it.

    Raises:
        ValueError: a version that is not known, or an earlier record without what it always had.
        TypeError: the same, where something else stands in its place.
    """
    version = value.get("schema_version")
    if type(version) is not int or not 1 <= version <= SCHEMA_VERSION:
        msg = f"schema version {version!r}, this reader knows 1 to {SCHEMA_VERSION}"
        raise ValueError(msg)
    try:
        second = _second(value) if version == 1 else dict(value)
        return second if version == SCHEMA_VERSION else _third(second)
    except KeyError as error:
        msg = f"schema version {version} without {error}"
        raise ValueError(msg) from error
    except AttributeError as error:
        msg = f"schema version {version}: {error}"
        raise TypeError(msg) from error


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


def _third(value: dict[str, Any]) -> dict[str, Any]:
    candidates = [{**item, "evidence": _by_units(item["evidence"])} for item in value["candidates"]]
    return {**value, "schema_version": 3, "candidates": candidates, "checkpoint": _recounting(value["checkpoint"])}


def _by_units(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Calls go on being counted where units are unknown; records say anew what was drawn, at the next look."""
    arms = {name: {**evidence[name], "drawn": evidence[name]["calls"]} for name in ("candidate", "baseline")}
    carried = {name: logs for name, logs in evidence["carried"].items() if name != "sample_ratio"}
    return {**evidence, **arms, "carried": carried}


def _recounting(checkpoint: dict[str, Any] | None) -> dict[str, Any] | None:
    """A window's checkpoint that counts units from now on: of those before it kept 500 a variant, which are no sample.

    Routing that was found broken stays so until as many units have behaved.
    """
    if checkpoint is None or "exposures" not in checkpoint:
        return checkpoint
    exposures = {}
    for name, exposure in checkpoint["exposures"].items():
        watched = set().union(*exposure["seen"].values())
        broken = len(exposure["crossed"]) > MOST_EXPOSED * len(watched)
        crossed = packed(named(exposure["crossed"] if broken else []))
        exposures[name] = {"stage_ms": exposure["stage_ms"], "met": {}, "drawn": {}, "crossed": crossed}
    return {**checkpoint, "schema_version": 2, "exposures": exposures}
