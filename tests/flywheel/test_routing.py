from __future__ import annotations

import json
import os
import runpy
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.base.errors import DamagedError
from flywheel.serving.bucketing import bucket
from flywheel.serving.decoding import decode
from flywheel.serving.router import Router
from flywheel.serving.routing import SCHEMA_VERSION, STATUSES, Arm, Route, Routing
from flywheel.serving.routing_file import read_routing, update_routing, write_routing

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
SCRIPTS = VECTORS.parents[1] / "data_collection"
SCHEMA = json.loads((VECTORS / "routing_config.schema.json").read_text())
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ROUTE = Route("exp_1", "extract_requirements", "/b.json", "/c.json", 10, "running", "salt-1")
ARMS = (Arm("candidate", "/c.json", 10, ((0, 500), (700, 1200))), Arm("candidate_2", "/d.json", 30, ((2000, 5000),)))
FIRST = {"variant": "candidate", "module": "/c.json", "traffic_percent": 10, "buckets": [[0, 1000]]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "routing_config.json"


def shares() -> st.SearchStrategy[float]:
    return st.integers(0, 10_000).map(lambda hundredths: hundredths / 100)


def routes() -> st.SearchStrategy[Route]:
    text = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
    return st.builds(Route, text, text, text, text, shares(), st.sampled_from(sorted(STATUSES)), text)


@given(st.lists(routes(), unique_by=lambda route: route.signature), st.integers(0, 1 << 60))
def test_what_is_written_is_read_and_fits_the_schema(found: list[Route], generation: int) -> None:
    routing = Routing(generation, "2026-11-23T12:00:00+00:00", tuple(route.settled() for route in found))
    value = routing.to_object()
    jsonschema.validate(value, SCHEMA)
    assert decode(json.dumps(value), "memory") == routing


def test_arms_are_written_only_where_there_are_several(path: Path) -> None:
    several = replace(ROUTE, signature="validate_intent", arms=ARMS)
    write_routing(path, [ROUTE, several], NOW)
    value = json.loads(path.read_text())
    jsonschema.validate(value, SCHEMA)
    assert ["arms" in route for route in value["routes"]] == [False, True]
    assert read_routing(path).routes == (ROUTE, several)


def document(**changes: Any) -> dict[str, Any]:
    route = {**ROUTE.to_object(), **changes}
    return {"schema_version": 1, "generation": 1, "updated_at": "", "routes": [route]}


WRONG_BUCKETS: tuple[Any, ...] = (
    None,
    {},
    [],
    [[0, 999]],
    [[0, 10001]],
    [[-1, 999]],
    [[500, 1000], [0, 500]],
    [[0.0, 1000]],
    [[True, 1001]],
    [[0, 600], [500, 900]],
    [[0]],
    [["0", "1000"]],
    [0, 1000],
    [[0, 500, 1000]],
)
WRONG = [
    {"candidate_traffic_percent": "10"},
    {"candidate_traffic_percent": True},
    {"candidate_traffic_percent": None},
    {"candidate_traffic_percent": 101},
    {"candidate_traffic_percent": -1},
    {"candidate_traffic_percent": float("nan")},
    {"candidate_traffic_percent": 0.001},
    {"status": "Running"},
    {"status": None},
    {"salt": ""},
    {"salt": "\ud800"},
    {"experiment_id": 7},
    {"candidate_module": None},
    {"surprise": 1},
    {"arms": {}},
    {"arms": ["candidate"]},
    {"arms": [{"variant": "candidate", "module": "/c.json", "traffic_percent": 10}]},
    {"arms": [{**FIRST, "module": "/other.json"}]},
    {"arms": [{**FIRST, "variant": "baseline"}]},
    {"arms": [{**FIRST, "traffic_percent": 20}]},
    {"arms": [FIRST, {"variant": "x", "module": "/d.json", "traffic_percent": 1, "buckets": [[999, 1099]]}]},
    {"arms": [FIRST, {"variant": "candidate", "module": "/d.json", "traffic_percent": 1, "buckets": [[1000, 1100]]}]},
    *({"arms": [{**FIRST, "buckets": buckets}]} for buckets in WRONG_BUCKETS),
]


@pytest.mark.parametrize("changes", WRONG, ids=str)
def test_a_wrong_value_breaks_its_route_alone(changes: dict[str, Any]) -> None:
    value = document(**changes)
    value["routes"].append({**ROUTE.to_object(), "signature": "validate_intent"})
    routing = decode(json.dumps(value), "memory")
    assert [route.signature for route in routing.routes] == ["validate_intent"]
    assert [(entry.signature, entry.baseline_module) for entry in routing.broken] == [(ROUTE.signature, "/b.json")]


@pytest.mark.parametrize("key", sorted(ROUTE.to_object()))
def test_a_missing_key_is_no_default(key: str, path: Path) -> None:
    value = document()
    del value["routes"][0][key]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(value, SCHEMA)
    path.write_text(json.dumps(value))
    with pytest.raises(DamagedError, match=key):
        read_routing(path)


def test_two_routes_of_one_signature_break_both() -> None:
    value = document()
    value["routes"] *= 2
    routing = decode(json.dumps(value), "memory")
    assert routing.routes == ()
    assert routing.broken[0].signature == ROUTE.signature


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "7",
        '"text"',
        "[" * 100_000,
        "1" * 10_000,
        b"\xff\xfe\x00",
        b"\x00" * 100,
        json.dumps({"schema_version": 2, "routes": []}),
        json.dumps({**document(), "schema_version": True}),
        json.dumps({**document(), "schema_version": 1.0}),
        json.dumps({**document(), "generation": "1"}),
        json.dumps({**document(), "routes": {}}),
        json.dumps({**document(), "extra": 1}),
        json.dumps({key: value for key, value in document().items() if key != "generation"}),
    ],
    ids=range(17),
)
def test_what_is_no_routing_file_is_damaged(content: str | bytes) -> None:
    with pytest.raises(DamagedError, match="not a routing file"):
        decode(content, "memory")


@given(st.binary() | st.text())
def test_no_content_raises_anything_but_damaged(content: bytes | str) -> None:
    with pytest.raises(DamagedError):
        decode(content, "memory")


@pytest.mark.parametrize(
    ("status", "expected"),
    [("running", 10), ("paused", 10), ("rolled_back", 0), ("failed", 0), ("pending", 0), ("completed", 100)],
)
def test_the_status_settles_the_share_that_is_written(status: str, expected: int, path: Path) -> None:
    write_routing(path, [replace(ROUTE, status=status)], NOW)
    assert json.loads(path.read_text())["routes"][0]["candidate_traffic_percent"] == expected


@pytest.mark.parametrize(("status", "share"), [("rolled_back", 0), ("pending", 0), ("completed", 100)])
def test_several_arms_settle_too(status: str, share: float) -> None:
    settled = replace(ROUTE, arms=ARMS, status=status).settled()
    assert (settled.candidate_traffic_percent, settled.arms) == (share, ())
    assert replace(ROUTE, arms=ARMS, status="paused").settled().arms == ARMS


def test_generations_only_grow_even_when_the_clock_goes_back(path: Path) -> None:
    first = write_routing(path, [ROUTE], NOW)
    assert first.generation == int(NOW.timestamp() * 1000)
    second = update_routing(path, lambda present: present, NOW.replace(year=2020))
    assert second.generation == first.generation + 1
    third = write_routing(path, [], NOW.replace(year=2020))
    assert third.generation == second.generation + 1


def test_a_missing_file_has_no_routes_and_updating_makes_it(path: Path) -> None:
    assert read_routing(path).routes == ()
    update_routing(path, lambda present: [*present, ROUTE], NOW)
    assert read_routing(path).routes == (ROUTE,)


def test_updating_a_damaged_file_is_refused_and_writing_mends_it(path: Path) -> None:
    path.write_text("{")
    with pytest.raises(DamagedError):
        update_routing(path, lambda present: present, NOW)
    assert path.read_text() == "{"
    write_routing(path, [ROUTE], NOW)
    assert read_routing(path).routes == (ROUTE,)


def test_two_routes_of_one_signature_are_not_written(path: Path) -> None:
    with pytest.raises(DamagedError, match="two routes"):
        write_routing(path, [ROUTE, replace(ROUTE, experiment_id="exp_2")], NOW)
    assert not path.exists()


@pytest.mark.parametrize(("group", "mode"), [(None, 0o600), ("own", 0o660)])
def test_the_mode_follows_the_group_whatever_the_umask(
    group: str | None, mode: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import grp

    if group is not None:
        monkeypatch.setenv("FLYWHEEL_GROUP", grp.getgrgid(os.getegid()).gr_name)
    else:
        monkeypatch.delenv("FLYWHEEL_GROUP", raising=False)
    previous = os.umask(0o077)
    try:
        write_routing(path, [ROUTE], NOW)
    finally:
        os.umask(previous)
    assert stat.S_IMODE(path.stat().st_mode) == mode


ADD_ROUTES = """
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from flywheel.serving.routing import Route
from flywheel.serving.routing_file import update_routing

path, writer, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for number in range(count):
    route = Route("exp", f"signature_{writer}_{number}", "/b", "/c", 10, "running", "salt")
    update_routing(path, lambda present: [*present, route], datetime.now(UTC))
"""


def test_processes_lose_no_update_and_readers_never_see_half(path: Path) -> None:
    write_routing(path, [], NOW)
    stop = threading.Event()
    seen: list[int] = []

    def read() -> None:
        while not stop.is_set():
            seen.append(len(read_routing(path).routes))

    reader = threading.Thread(target=read)
    reader.start()
    command = [sys.executable, "-c", ADD_ROUTES, str(path)]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    writers = [subprocess.Popen([*command, str(writer), "10"], env=environment) for writer in range(3)]
    codes = [writer.wait() for writer in writers]
    stop.set()
    reader.join()
    assert codes == [0, 0, 0]
    assert len(read_routing(path).routes) == 30
    assert seen == sorted(seen)
    assert len(seen) > 1


def golden() -> dict[str, Any]:
    value: dict[str, Any] = json.loads((VECTORS / "routing.json").read_text(encoding="ascii"))
    return value


def golden_router(path: Path, vectors: dict[str, Any]) -> Router:
    """Signature `one` has one candidate, `several` has arms."""
    arms = [{"module": f"/{arm['variant']}.json", **arm} for arm in vectors["arms"]]
    route = {**ROUTE.to_object(), "salt": vectors["salt"], "candidate_module": arms[0]["module"]}
    one = {**route, "signature": "one", "candidate_traffic_percent": vectors["share"]}
    first = arms[0]["traffic_percent"]
    several = {**route, "signature": "several", "candidate_traffic_percent": first, "arms": arms}
    path.write_text(json.dumps({**document(), "routes": [one, several]}))
    jsonschema.validate(json.loads(path.read_text()), SCHEMA)
    return Router(path)


def variants(router: Router, unit: str) -> list[str]:
    return [router.route(signature, unit).variant for signature in ("one", "several")]


def test_every_golden_vector_holds(path: Path) -> None:
    vectors = golden()
    router = golden_router(path, vectors)
    assert len(vectors["cases"]) == 10_000
    for unit, place, *expected in vectors["cases"]:
        assert bucket(vectors["salt"], unit) == place, unit
        assert variants(router, unit) == expected, unit
    assert sum(place is None for _, place, *_ in vectors["cases"]) >= 5
    assert {case[3] for case in vectors["cases"]} == {"baseline", *(arm["variant"] for arm in vectors["arms"])}


def test_every_generated_vector_holds(path: Path) -> None:
    vectors = golden()
    router = golden_router(path, vectors)
    for text, times, place, *expected in vectors["generated"]:
        assert bucket(vectors["salt"], text * times) == place, (text, times)
        assert variants(router, text * times) == expected, (text, times)
    assert {place is None for _, _, place, *_ in vectors["generated"]} == {True, False}


def test_the_golden_vectors_are_what_their_generator_makes() -> None:
    module = runpy.run_path(str(VECTORS / "generate_routing.py"))
    assert module["text"]() == (VECTORS / "routing.json").read_text(encoding="ascii")


def test_the_schema_is_of_this_version() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["properties"]["schema_version"]["const"] == SCHEMA_VERSION
    assert set(SCHEMA["$defs"]["route"]["properties"]["status"]["enum"]) == STATUSES
