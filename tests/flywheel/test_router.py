from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel.serving.bucketing import bucket
from flywheel.serving.records import Interaction, Tokens
from flywheel.serving.router import LOOK_SECONDS, Choice, Router
from flywheel.serving.routing import Arm, Route
from flywheel.serving.routing_file import write_routing

SCRIPTS = Path(__file__).resolve().parents[2] / "data_collection"
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ROUTE = Route("exp_1", "sig", "/b.json", "/opt/v1.json", 25, "running", "salt-1")
UNITS = [f"user-{number}" for number in range(4_000)]
DEFAULT = Choice("built-in", "baseline", None, 1.0)


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Sink:
    """Keeps the records it is given."""

    def __init__(self) -> None:
        self.records: list[Interaction] = []

    def record(self, interaction: Interaction) -> None:
        self.records.append(interaction)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "routing_config.json"


def router(path: Path, *routes: Route, clock: Clock | None = None, sink: Sink | None = None) -> Router:
    if routes:
        write_routing(path, routes, NOW)
    return Router(path, default="built-in", clock=clock or Clock(), telemetry=sink, now_ms=lambda: 1_000)


def variants(found: Router) -> Counter[str]:
    return Counter(found.route("sig", unit).variant for unit in UNITS)


def deploy(programs: Path, version: str, signature: str = "sig") -> Path:
    folder = programs / signature / version
    folder.mkdir(parents=True)
    (folder / "program.json").write_text("{}")
    link = programs / signature / "deployed"
    link.unlink(missing_ok=True)
    link.symlink_to(version)
    return folder / "program.json"


def test_traffic_splits_by_the_bucket(path: Path) -> None:
    found = router(path, ROUTE)
    for unit in UNITS:
        place = bucket("salt-1", unit)
        assert place is not None
        expected = (
            Choice("/opt/v1.json", "candidate", "exp_1", 0.25)
            if place < 2_500
            else Choice("/b.json", "baseline", "exp_1", 0.75)
        )
        assert found.route("sig", unit) == expected


@pytest.mark.parametrize(
    ("status", "share"),
    [("running", 25), ("paused", 25), ("rolled_back", 0), ("failed", 0), ("pending", 0), ("completed", 100)],
)
def test_the_status_outranks_the_share_in_the_file(status: str, share: float, path: Path) -> None:
    value = {**ROUTE.to_object(), "status": status}
    path.write_text(json.dumps({"schema_version": 1, "generation": 1, "updated_at": "", "routes": [value]}))
    candidates = variants(router(path))["candidate"]
    assert candidates == sum((bucket("salt-1", unit) or 0) < share * 100 for unit in UNITS)


def test_several_arms_take_their_buckets(path: Path) -> None:
    first = Arm("candidate", "/opt/v1.json", 25, ((0, 1_000), (3_000, 4_500)))
    second = Arm("candidate_2", "/d.json", 30, ((1_000, 3_000), (9_000, 10_000)))
    found = router(path, replace(ROUTE, candidate_traffic_percent=25, arms=(first, second)))
    for unit in UNITS:
        place = bucket("salt-1", unit) or 0
        served = [arm.variant for arm in (first, second) if any(low <= place < high for low, high in arm.buckets)]
        assert found.route("sig", unit).variant == (served or ["baseline"])[0]
    propensities = {choice.variant: choice.propensity for choice in (found.route("sig", unit) for unit in UNITS)}
    assert propensities == {"candidate": 0.25, "candidate_2": 0.3, "baseline": 0.45}


@given(st.lists(st.integers(0, 10_000), min_size=2, max_size=5), st.text())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None)
def test_raising_the_share_keeps_every_candidate_unit(path: Path, hundredths: list[int], unit: str) -> None:
    clock = Clock()
    met = []
    found = router(path, ROUTE, clock=clock)
    for share in sorted(hundredths):
        write_routing(path, [replace(ROUTE, candidate_traffic_percent=share / 100)], NOW)
        clock.now += LOOK_SECONDS
        met.append(found.route("sig", unit).variant)
        assert found.route("sig", unit).variant == met[-1]
    assert met == sorted(met)


@pytest.mark.parametrize("unit", [None, 5, b"x", "\ud800", "a" * (1 << 20) + "a"], ids=range(5))
def test_units_that_cannot_be_hashed_get_the_baseline_and_are_no_evidence(unit: object, path: Path) -> None:
    found = router(path, replace(ROUTE, candidate_traffic_percent=100))
    assert found.route("sig", unit) == Choice("/b.json", "baseline", None, 1.0)


def test_without_a_route_the_deployed_program_serves_and_is_followed(tmp_path: Path, path: Path) -> None:
    clock = Clock()
    programs = tmp_path / "programs"
    first = deploy(programs, "v1")
    found = Router(path, programs=programs, default="built-in", clock=clock)
    assert found.route("sig", "u") == Choice(str(first), "baseline", None, 1.0)
    assert found.route("other", "u") == DEFAULT
    second = deploy(programs, "v2")
    assert found.route("sig", "u").module == str(first)
    clock.now += LOOK_SECONDS
    assert found.route("sig", "u").module == str(second)


def test_a_deployed_program_that_cannot_be_looked_up_is_the_default(tmp_path: Path, path: Path) -> None:
    found = Router(path, programs=tmp_path, default="built-in", clock=Clock())
    assert found.route("x" * 5_000, "u") == DEFAULT
    assert found.route("a\x00b", "u") == DEFAULT
    assert found.route("\ud800", "u") == DEFAULT


def test_the_file_is_looked_at_once_a_second(path: Path) -> None:
    clock = Clock()
    found = router(path, ROUTE, clock=clock)
    write_routing(path, [replace(ROUTE, candidate_traffic_percent=100)], NOW)
    clock.now = LOOK_SECONDS - 0.001
    assert variants(found)["baseline"] > 0
    clock.now = LOOK_SECONDS
    assert variants(found)["baseline"] == 0


def test_an_unchanged_file_is_not_read_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    write_routing(path, [ROUTE], NOW)
    os.utime(path, (1_000_000_000, 1_000_000_000))
    found = router(path, clock=clock)
    monkeypatch.setattr("flywheel.serving.router.decode", lambda *_: pytest.fail("read again"))
    clock.now += LOOK_SECONDS
    assert variants(found)["candidate"] > 0


def test_a_change_that_the_files_times_do_not_show_is_seen(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As two writes within one tick of the file system's clock look.
    monkeypatch.setattr("flywheel.serving.router._identity", lambda _: (1,))
    clock = Clock()
    found = router(path, ROUTE, clock=clock)
    path.write_text(path.read_text().replace('"candidate_traffic_percent": 25', '"candidate_traffic_percent": 99'))
    clock.now += LOOK_SECONDS
    assert variants(found)["baseline"] < 100


def test_a_rollback_that_unlinks_the_file_is_followed_and_so_is_its_return(path: Path) -> None:
    clock = Clock()
    found = router(path, replace(ROUTE, candidate_traffic_percent=100), clock=clock)
    path.unlink()
    clock.now += LOOK_SECONDS
    assert found.route("sig", "u") == DEFAULT
    write_routing(path, [ROUTE], NOW)
    clock.now += LOOK_SECONDS
    assert variants(found)["candidate"] > 0


def test_an_unreadable_route_means_its_baseline_and_leaves_the_others(path: Path) -> None:
    broken = {**ROUTE.to_object(), "candidate_traffic_percent": "lots"}
    nameless = {"baseline_module": 7}
    other = {**ROUTE.to_object(), "signature": "other", "candidate_traffic_percent": 100}
    value = {"schema_version": 1, "generation": 1, "updated_at": "", "routes": [broken, nameless, other]}
    path.write_text(json.dumps(value))
    found = router(path)
    assert variants(found) == {"baseline": len(UNITS)}
    assert found.route("sig", "u") == Choice("/b.json", "baseline", None, 1.0)
    assert found.route("other", "u").variant == "candidate"


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_content_makes_it_raise(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert router(path).route("sig", "u") == DEFAULT


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*ROUTE.to_object(), "arms"]), JSON, max_size=3), JSON)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_route_makes_it_raise(path: Path, changes: dict[str, object], entry: object) -> None:
    routes = [{**ROUTE.to_object(), **changes}, entry]
    path.write_text(json.dumps({"schema_version": 1, "generation": 1, "updated_at": "", "routes": routes}))
    found = router(path)
    assert isinstance(found.route("sig", "u"), Choice)
    assert isinstance(found.route("other", "u"), Choice)


def test_neither_a_folder_nor_a_pipe_nor_a_newer_schema_holds_it_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    newer = tmp_path / "newer"
    newer.write_text(json.dumps({"schema_version": 2, "lanes": []}))
    huge = tmp_path / "huge"
    huge.touch()
    os.truncate(huge, 1 << 40)
    for path in (tmp_path, tmp_path / "pipe", newer, huge, tmp_path / "missing", newer / "below_a_file"):
        assert router(path).route("sig", "u") == DEFAULT


def test_each_problem_is_logged_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "flywheel.router")
    clock = Clock()
    found = router(path, clock=clock)
    for content in ("{", None, "{", None, '{"schema_version": 9}'):
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_text(content)
        for _ in range(3):
            clock.now += LOOK_SECONDS
            found.route("sig", "u")
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3


def test_threads_see_one_file_or_the_other_and_nothing_else(path: Path) -> None:
    clock = Clock()
    found = router(path, replace(ROUTE, candidate_module="/0", candidate_traffic_percent=100), clock=clock)
    met: list[set[Choice]] = [set() for _ in range(3)]
    stop = threading.Event()

    def serve(mine: set[Choice]) -> None:
        while not stop.is_set():
            mine.add(found.route("sig", "u"))

    threads = [threading.Thread(target=serve, args=(mine,)) for mine in met]
    for thread in threads:
        thread.start()
    for number in range(1, 12):
        write_routing(path, [replace(ROUTE, candidate_module=f"/{number}", candidate_traffic_percent=100)], NOW)
        clock.now += LOOK_SECONDS
    stop.set()
    for thread in threads:
        thread.join()
    allowed = {Choice(f"/{number}", "candidate", "exp_1", 1.0) for number in range(12)}
    assert set().union(*met) <= allowed
    assert found.route("sig", "u").module == "/11"


def test_a_call_is_measured_and_recorded(path: Path) -> None:
    clock, sink = Clock(), Sink()
    found = router(path, replace(ROUTE, candidate_traffic_percent=100), clock=clock, sink=sink)
    with found.call("sig", "u", input={"intent": "x"}, model="m") as call:
        clock.now += 0.25
        call.output = {"answer": 1}
        call.tokens = Tokens.of(3, 4)
        call.quality = 0.5
        call.cost_usd = 0.01
        call.metadata["source"] = "test"
    assert sink.records == [
        Interaction(
            module_name="sig",
            module_version={"Optimized": "v1"},
            signature="sig",
            input={"intent": "x"},
            output={"answer": 1},
            timestamp_ms=1_000,
            latency_ms=250.0,
            tokens=Tokens(3, 4, 7),
            cost_usd=0.01,
            model="m",
            success=True,
            error=None,
            metadata={"propensity": "1", "source": "test"},
            experiment_id="exp_1",
            variant="candidate",
            unit_id="u",
            quality_score=0.5,
        )
    ]


def test_a_failure_passes_through_and_only_its_type_is_recorded(path: Path) -> None:
    sink = Sink()
    found = router(path, ROUTE, sink=sink)
    with pytest.raises(ValueError, match="the user's words"), found.call("sig", "u"):
        raise ValueError("the user's words")
    with found.call("sig", "u") as call:
        call.error = "InvalidOutput"
    assert [(record.success, record.error) for record in sink.records] == [
        (False, "ValueError"),
        (False, "InvalidOutput"),
    ]


def test_a_call_outside_any_experiment_is_recorded_as_no_evidence(path: Path) -> None:
    sink = Sink()
    with router(path, sink=sink).call("sig", 5):
        pass
    record = sink.records[0]
    assert (record.experiment_id, record.variant, record.unit_id, record.metadata) == (None, None, None, {})
    assert record.module_version == "Baseline"


def test_a_deployed_program_is_named_by_its_version(tmp_path: Path, path: Path) -> None:
    sink = Sink()
    deploy(tmp_path / "programs", "v20251104_120000")
    with Router(path, programs=tmp_path / "programs", telemetry=sink).call("sig", "u"):
        pass
    assert sink.records[0].module_version == {"Optimized": "v20251104_120000"}


def test_a_call_without_telemetry_is_just_routed(path: Path) -> None:
    with router(path, replace(ROUTE, candidate_traffic_percent=100)).call("sig", "u") as call:
        assert call.choice.variant == "candidate"


def test_importing_the_router_is_light() -> None:
    heavy = {"pydantic", "dspy", "numpy", "requests", "git", "orjson", "asyncio", "email", "http"}
    program = "import sys, flywheel.serving.router; print(*{name.split('.')[0] for name in sys.modules})"
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert "mmh3" in loaded
    assert not loaded & heavy
