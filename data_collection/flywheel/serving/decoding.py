"""Reading routing_config.json: whatever it holds, an entry that can be used is, and one that cannot harms no other."""

from __future__ import annotations

import json
from typing import Any

from flywheel.base.errors import DamagedError
from flywheel.serving.routing import SCHEMA_VERSION, Arm, BrokenRoute, Route, Routing, is_text


def _exact(value: object, required: frozenset[str], optional: frozenset[str] = frozenset()) -> dict[str, Any]:
    if not isinstance(value, dict):
        msg = f"expected an object, found {type(value).__name__}"
        raise ValueError(msg)  # noqa: TRY004 - one error for every wrong value of the format
    missing, unknown = required - value.keys(), value.keys() - required - optional
    if missing or unknown:
        msg = f"keys missing {sorted(missing)}, unknown {sorted(unknown)}"
        raise ValueError(msg)
    return value


_TOP = frozenset({"schema_version", "generation", "updated_at", "routes"})
_ARM = frozenset(Arm.__dataclass_fields__)
_ROUTE = frozenset(Route.__dataclass_fields__) - {"arms"}


def _route(value: object) -> Route:
    body = dict(_exact(value, _ROUTE, frozenset({"arms"})))
    arms = body.pop("arms", [])
    if not isinstance(arms, list):
        msg = f"arms: expected a list, found {type(arms).__name__}"
        raise ValueError(msg)  # noqa: TRY004 - one error for every wrong value of the format
    return Route(arms=tuple(_arm(arm) for arm in arms), **body)


def _arm(value: object) -> Arm:
    body = dict(_exact(value, _ARM))
    buckets = body.pop("buckets")
    if not isinstance(buckets, list) or not all(isinstance(pair, list) for pair in buckets):
        msg = f"buckets {buckets!r}: expected a list of pairs"
        raise ValueError(msg)
    return Arm(buckets=tuple(tuple(pair) for pair in buckets), **body)


def _broken(value: object, problem: str) -> BrokenRoute:
    found = value if isinstance(value, dict) else {}
    signature, module = found.get("signature"), found.get("baseline_module")
    return BrokenRoute(
        signature if isinstance(signature, str) and is_text(signature) else None,
        module if isinstance(module, str) and is_text(module) else None,
        problem,
    )


def _entries(values: list[object]) -> tuple[tuple[Route, ...], tuple[BrokenRoute, ...]]:
    routes: dict[str, Route] = {}
    broken: list[BrokenRoute] = []
    for value in values:
        try:
            route = _route(value)
        except ValueError as error:
            broken.append(_broken(value, str(error)))
            continue
        if route.signature in routes:
            broken.append(_broken(value, f"a second route for {route.signature}"))
        else:
            routes[route.signature] = route
    damaged = {entry.signature for entry in broken}
    return tuple(route for name, route in routes.items() if name not in damaged), tuple(broken)


def _top(value: object) -> dict[str, Any]:
    # The version first: a newer schema may well have other keys.
    version = value.get("schema_version") if isinstance(value, dict) else None
    if type(version) is not int or version != SCHEMA_VERSION:
        msg = f"schema version {version!r}, this reader knows {SCHEMA_VERSION}"
        raise ValueError(msg)
    body = _exact(value, _TOP)
    if type(body["generation"]) is not int or type(body["updated_at"]) is not str or type(body["routes"]) is not list:
        raise ValueError("generation, updated_at or routes of the wrong type")
    return body


def decode(content: bytes | str, source: str) -> Routing:
    """The routing in `content`; entries that cannot be read stand in `broken`, and so does a signature's second one.

    Raises:
        DamagedError: it is no routing file of this schema version.
    """
    try:
        value = _top(json.loads(content))
    except (ValueError, RecursionError) as error:
        msg = f"{source}: not a routing file: {error}"
        raise DamagedError(msg) from error
    return Routing(value["generation"], value["updated_at"], *_entries(value["routes"]))
