"""Rollouts whose metrics come from Prometheus: a stand-in for what goes wrong, Debian's own for what is true."""

from __future__ import annotations

import json
import random
import shutil
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import pytest
from tests.counting import Counted, LoopbackPrometheus, send
from tests.rollouts import QUICK, SIGNATURE, Clock, Desk

from ab_testing_framework import main
from flywheel.base.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

EXP = ("--experiment-id", "exp")


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


@pytest.fixture
def prometheus() -> Iterator[LoopbackPrometheus]:
    with LoopbackPrometheus() as server:
        yield server


def begin(desk: Desk, url: str, queries: dict[str, Any] | None = None, **config: Any) -> Any:
    settings = desk.root / "config.json"
    asked = {"timeout_seconds": 0.5, "lag_seconds": 1, **(queries or {})}
    settings.write_text(json.dumps({**QUICK, **config, "prometheus": asked}))
    modules = ("--baseline", str(desk.module("baseline")), "--candidate", str(desk.module("candidate")))
    flags = ("--metrics", "prometheus", "--prometheus-url", url, "--config", str(settings))
    return desk.run("start", *EXP, "--signature", SIGNATURE, *modules, *flags)


class Traffic:
    """Calls at the routed share, counted by one process and scraped every 15 s."""

    def __init__(self, desk: Desk, prometheus: LoopbackPrometheus, serve: Callable[[Counted, str], None]) -> None:
        self.desk, self.prometheus, self.serve = desk, prometheus, serve
        self.process = Counted()
        self.chance = random.Random(7)
        self.calls = {"candidate": 0, "baseline": 0}

    def minute(self, calls: int = 160) -> None:
        for _ in range(4):
            self.desk.clock.passes(12)
            for _ in range(calls // 4):
                variant = self.draw()
                self.calls[variant] = self.calls.get(variant, 0) + 1
                self.serve(self.process, variant)
            self.desk.clock.passes(1)
            self.prometheus.scrape(self.desk.clock.wall_ms, self.process)
            self.desk.clock.passes(2)

    def draw(self) -> str:
        return "candidate" if self.chance.random() * 100 < self.desk.share() else "baseline"


def healthy(process: Counted, variant: str) -> None:
    process.call(variant, 0.3)


def look(desk: Desk) -> Any:
    """The decision of one look."""
    return desk.monitor()["decision"]


def until_over(desk: Desk, traffic: Traffic, minutes: int = 30) -> Any:
    for _ in range(minutes):
        traffic.minute()
        if desk.monitor()["final_status"]:
            break
    return desk.record()


def test_a_healthy_candidate_reaches_everybody_by_counters_alone(desk: Desk, prometheus: LoopbackPrometheus) -> None:
    shown = begin(desk, prometheus.url)
    assert shown["metrics"] == "prometheus"
    record = until_over(desk, Traffic(desk, prometheus, healthy))
    assert record["final_status"] == "completed"
    figures = record["history"][-1]["figures"]
    assert figures["latency_ms_p95_candidate"] == pytest.approx(500, rel=0.01)
    assert figures["error_rate_candidate"] == 0
    assert not (desk.root / "telemetry").exists()


def test_every_call_counts_once_whatever_restarts(desk: Desk, prometheus: LoopbackPrometheus) -> None:
    """The monitor is a new process at each look here, and the service restarts in between, twice unseen to it."""
    begin(desk, prometheus.url, stage_minutes=1000)
    traffic = Traffic(desk, prometheus, healthy)
    for minute in range(6):
        traffic.minute()
        if minute % 2:
            traffic.process.values.clear()  # the process restarts, and has counted more than before at the next scrape
            traffic.minute(240)
        look(desk)
    figures = look(desk)["figures"]
    assert (figures["candidate_calls"], figures["baseline_calls"]) == (
        traffic.calls["candidate"],
        traffic.calls["baseline"],
    )
    evidence = desk.record()["candidates"][0]["evidence"]
    assert evidence["candidate"]["timed"] == traffic.calls["candidate"]
    assert desk.record()["decision"]["prometheus"]["restarts"] >= 3
    assert evidence["bad_ticks"] == 0


class MovingClock(Clock):
    """Moves on between two readings, as real clocks do."""

    def __call__(self) -> Any:
        self.passes(0.001)
        return super().__call__()


def test_the_first_calls_count_though_start_reads_its_clock_twice(desk: Desk, prometheus: LoopbackPrometheus) -> None:
    desk.clock = MovingClock()
    begin(desk, prometheus.url, stage_minutes=1000)
    record = desk.record()
    assert record["started_ms"] == record["stage_ms"]
    traffic = Traffic(desk, prometheus, healthy)
    traffic.minute()
    figures = look(desk)["figures"]
    assert figures["candidate_calls"] + figures["baseline_calls"] == sum(traffic.calls.values()) > 0


def test_a_look_that_is_never_written_loses_nothing(desk: Desk, prometheus: LoopbackPrometheus) -> None:
    """As after kill -9: evidence and checkpoint stand in one file, so both are of the look before."""
    begin(desk, prometheus.url, stage_minutes=1000)
    traffic = Traffic(desk, prometheus, healthy)
    path = desk.experiments / "experiment_exp.json"
    for _ in range(4):
        traffic.minute()
        look(desk)
        before = path.read_bytes()
        traffic.minute()
        look(desk)
        path.write_bytes(before)
    figures = look(desk)["figures"]
    assert figures["candidate_calls"] + figures["baseline_calls"] == sum(traffic.calls.values())


@pytest.mark.parametrize(
    ("serve", "reason"),
    [
        (lambda p, v: p.call(v, outcome="error" if v == "candidate" else "success"), "error_rate_delta > 0.05"),
        (lambda p, v: p.call(v, 4.0 if v == "candidate" else 0.3), "latency_delta_ms > 500"),
    ],
    ids=["errors", "latency"],
)
def test_harm_is_rolled_back(
    desk: Desk, prometheus: LoopbackPrometheus, serve: Callable[[Counted, str], None], reason: str
) -> None:
    begin(desk, prometheus.url)
    record = until_over(desk, Traffic(desk, prometheus, serve))
    assert (record["final_status"], record["rollback_reason"]) == ("rolled_back", reason)


def test_of_several_a_harmful_one_is_withdrawn_and_another_completes(
    desk: Desk, prometheus: LoopbackPrometheus
) -> None:
    settings = desk.root / "config.json"
    settings.write_text(json.dumps({**QUICK, "prometheus": {"timeout_seconds": 0.5, "lag_seconds": 1}}))
    modules = [item for name in ("c1", "c2") for item in ("--candidate", str(desk.module(name)))]
    flags = ("--metrics", "prometheus", "--prometheus-url", prometheus.url, "--config", str(settings))
    names = ("--signature", SIGNATURE, "--baseline", str(desk.module("b")))
    desk.run("start", *EXP, *names, *modules, *flags)

    class Several(Traffic):
        def draw(self) -> str:
            arms = self.desk.routes()[SIGNATURE].get("arms", [{"variant": "candidate", "traffic_percent": 100}])
            weights = [arm["traffic_percent"] for arm in arms]
            (found,) = self.chance.choices([*(a["variant"] for a in arms), "baseline"], [*weights, 100 - sum(weights)])
            return str(found)

    fails = Several(desk, prometheus, lambda p, v: p.call(v, outcome="error" if v == "candidate_2" else "success"))
    record = until_over(desk, fails)
    assert (record["final_status"], record["candidate_module"]) == ("completed", str(desk.root / "c1.json"))
    (ended,) = record["ended"]
    assert (ended["variant"], ended["reason"]) == ("candidate_2", "error_rate_delta > 0.05")


def test_quality_counts_one_mean_a_look_and_may_roll_back(desk: Desk, prometheus: LoopbackPrometheus) -> None:
    scores = 'experiment_id="{experiment}",variant="{variant}"'
    queries = {
        "quality_sum": f"dspy_quality_sum{{{scores}}}[{{window}}]",
        "quality_count": f"dspy_quality_count{{{scores}}}[{{window}}]",
    }
    begin(desk, prometheus.url, queries, required=["errors", "latency", "quality"], deadline_factor=100)
    traffic = Traffic(desk, prometheus, lambda p, v: p.call(v, score=0.3 if v == "candidate" else 0.9))
    record = until_over(desk, traffic, 120)
    assert record["rollback_reason"] == "quality_score < 0.70"
    figures = record["history"][-1]["figures"]
    assert figures["quality_score"] == pytest.approx(0.3)
    assert figures["quality_scores"] < figures["candidate_calls"] / 10


def test_calls_of_an_old_share_are_no_evidence_for_the_new_one(desk: Desk, prometheus: LoopbackPrometheus) -> None:
    begin(desk, prometheus.url, stage_minutes=1000)
    traffic = Traffic(desk, prometheus, healthy)
    traffic.minute()
    look(desk)
    traffic.minute()  # not looked at before the share changes
    desk.run("promote", *EXP)
    before = dict(traffic.calls)
    for _ in range(3):
        traffic.minute()
    figures = look(desk)["figures"]
    # The first scrape after the change is the starting point; its quarter of a minute belongs to nobody.
    first = 40
    assert (
        figures["candidate_calls"] + figures["baseline_calls"]
        == sum(traffic.calls.values()) - sum(before.values()) - first
    )
    assert look(desk)["reasons"][0] != "sample_ratio_mismatch"


def hold(server: LoopbackPrometheus) -> None:
    server.released.wait(30)


def slow_drip(server: LoopbackPrometheus) -> Callable[[BaseHTTPRequestHandler], None]:
    def fault(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not server.released.wait(0.05):
            try:
                handler.wfile.write(b" ")
            except OSError:
                return

    return fault


def matrix(*values: Any, **labels: str) -> dict[str, Any]:
    return {
        "status": "success",
        "data": {"resultType": "matrix", "result": [{"metric": {"a": "b", **labels}, "values": list(values)}]},
    }


FAULTS: dict[str, tuple[Callable[[LoopbackPrometheus], Callable[[BaseHTTPRequestHandler], None]], str]] = {
    "hangs": (lambda server: lambda _: hold(server), "no answer"),
    "drips": (slow_drip, "took too long"),
    "500": (lambda _: lambda h: send(h, b"", 500), "answered 500"),
    "401": (lambda _: lambda h: send(h, b"", 401), "answered 401"),
    "redirect": (lambda _: lambda h: send(h, b"", 302, Location="http://127.0.0.1:1/"), "redirects are refused"),
    "html": (lambda _: lambda h: send(h, b"<html>"), "no JSON"),
    "empty": (lambda _: lambda h: send(h, b""), "no JSON"),
    "deep": (lambda _: lambda h: send(h, b"[" * 100_000), "no JSON"),
    "list": (lambda _: lambda h: send(h, []), "unknown form"),
    "error": (lambda _: lambda h: send(h, {"status": "error", "error": "x"}), "an error or a partial result"),
    "partial": (lambda _: lambda h: send(h, {**matrix(), "warnings": ["w"]}), "partial result"),
    "vector": (lambda _: lambda h: send(h, {"status": "success", "data": {"resultType": "vector"}}), "no range vector"),
    "labels": (lambda _: lambda h: send(h, matrix([1, "1"], a=5)), "unknown form"),  # type: ignore[arg-type]
    "words": (lambda _: lambda h: send(h, matrix([1, "many"])), "unknown form"),
    "nan": (lambda _: lambda h: send(h, matrix([1, "NaN"])), "nan where a counter should be"),
    "infinite": (lambda _: lambda h: send(h, matrix([1, "+Inf"])), "inf where a counter should be"),
    "negative": (lambda _: lambda h: send(h, matrix([1, "-1"])), "-1.0 where a counter should be"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_whatever_is_wrong_holds_with_its_reason_and_nothing_is_lost(
    desk: Desk, prometheus: LoopbackPrometheus, name: str
) -> None:
    make, words = FAULTS[name]
    begin(desk, prometheus.url, stage_minutes=4.5)
    traffic = Traffic(desk, prometheus, healthy)
    for _ in range(3):
        traffic.minute()
        look(desk)
    traffic.minute()
    prometheus.fault = make(prometheus)
    began = time.monotonic()
    decision = look(desk)
    assert time.monotonic() - began < 10
    assert (decision["action"], decision["reasons"][0]) == ("hold", "metrics_missing")
    assert words in decision["text"]
    prometheus.fault = None
    traffic.minute()
    desk.monitor()
    stages = desk.record()["history"][-1]
    if name in {"nan", "infinite", "negative"}:
        assert desk.record()["stage"] == 1  # what cannot be trusted keeps the stage for its whole time
    else:
        assert stages["event"] == "promoted"
        figures = stages["figures"]
        assert figures["candidate_calls"] + figures["baseline_calls"] == sum(traffic.calls.values())


@pytest.mark.parametrize("fault", ["500", "nan"])
def test_a_prometheus_that_stays_away_is_never_promoted(desk: Desk, prometheus: LoopbackPrometheus, fault: str) -> None:
    begin(desk, prometheus.url, deadline_factor=2)
    prometheus.fault = FAULTS[fault][0](prometheus)
    traffic = Traffic(desk, prometheus, healthy)
    record = until_over(desk, traffic, 40)
    assert record["rollback_reason"] == "metrics_missing"
    assert [line["event"] for line in record["history"]] == ["started", "rolled_back"]


def test_no_series_at_all_is_missing_metrics(desk: Desk, prometheus: LoopbackPrometheus) -> None:
    begin(desk, prometheus.url, deadline_factor=2)
    record = until_over(desk, Traffic(desk, prometheus, lambda _p, _v: None), 40)
    assert record["rollback_reason"] == "metrics_missing"


def test_a_service_that_falls_silent_is_stale_and_not_promoted(desk: Desk, prometheus: LoopbackPrometheus) -> None:
    begin(desk, prometheus.url, stage_minutes=20)
    traffic = Traffic(desk, prometheus, healthy)
    for _ in range(3):
        traffic.minute()
        look(desk)
    for _ in range(27):
        desk.clock.passes(60)
        decision = look(desk)
    assert decision["action"] == "hold"
    assert "no records for" in decision["text"]


def unfit(desk: Desk, serve: Callable[[Counted, str], None], prometheus: LoopbackPrometheus) -> Any:
    begin(desk, prometheus.url)
    traffic = Traffic(desk, prometheus, serve)
    for _ in range(4):
        traffic.minute()
        decision = look(desk)
    assert decision["action"] == "hold"
    return decision["text"]


def test_calls_without_latencies_contradict_each_other(desk: Desk, prometheus: LoopbackPrometheus) -> None:
    text = unfit(desk, lambda p, v: p.add("dspy_calls_total", v, 1, outcome="success"), prometheus)
    assert "calls with 0 errors, but 0 latencies" in text


def test_parts_of_calls_are_no_counts(desk: Desk, prometheus: LoopbackPrometheus) -> None:
    text = unfit(desk, lambda p, v: p.add("dspy_calls_total", v, 0.37, outcome="success"), prometheus)
    assert "no number of calls" in text


def test_histograms_of_different_buckets_are_not_added(desk: Desk, prometheus: LoopbackPrometheus) -> None:
    def serve(process: Counted, variant: str) -> None:
        process.call(variant)
        process.add("dspy_call_latency_seconds_bucket", variant, 1, le="0.3", pod="new")

    assert "different buckets" in unfit(desk, serve, prometheus)


def test_a_sum_that_the_buckets_cannot_have_is_refused(desk: Desk, prometheus: LoopbackPrometheus) -> None:
    def serve(process: Counted, variant: str) -> None:
        process.call(variant)
        process.add("dspy_call_latency_seconds_sum", variant, 5)

    assert "while their buckets allow" in unfit(desk, serve, prometheus)


def test_the_token_goes_into_the_header_and_nowhere_else(
    desk: Desk, prometheus: LoopbackPrometheus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_TOKEN", "hush-hush")
    begin(desk, prometheus.url)
    desk.clock.passes(60)
    look(desk)
    assert set(prometheus.tokens) == {"Bearer hush-hush"}
    assert all("hush" not in path.read_text() for path in desk.experiments.iterdir() if path.is_file())


@pytest.mark.parametrize(
    ("url", "queries", "config", "named"),
    [
        ("ftp://x", {}, {}, "http:// or https://"),
        ("http://u:secret@127.0.0.1", {}, {}, "PROMETHEUS_TOKEN"),
        ("http://127.0.0.1", {"calls": "x_total[5m]"}, {}, "calls: 'x_total[5m]' lacks"),
        ("http://127.0.0.1", {"queries": 1}, {}, "has more than"),
        ("http://127.0.0.1", {"lag_seconds": -1}, {}, "lag_seconds: -1"),
        ("http://127.0.0.1", {"quality_sum": "x{experiment}{variant}{window}"}, {}, "belong together"),
        ("http://127.0.0.1", {}, {"required": ["errors", "quality"]}, "quality_sum and quality_count"),
    ],
)
def test_a_bad_setting_is_named(desk: Desk, url: str, queries: Any, config: Any, named: str) -> None:
    with pytest.raises(BadInputError) as caught:
        begin(desk, url, queries, **config)
    assert named in str(caught.value)
    assert "secret" not in str(caught.value)
    assert not desk.routing_path.exists()


def test_prometheus_without_a_url_or_settings_without_prometheus_are_refused(desk: Desk) -> None:
    modules = ("--baseline", str(desk.module("baseline")), "--candidate", str(desk.module("candidate")))
    for flags, named in (
        (("--metrics", "prometheus"), "--prometheus-url"),
        (("--prometheus-url", "http://127.0.0.1"), "--metrics prometheus"),
    ):
        with pytest.raises(BadInputError, match=named):
            main(["start", *EXP, "--signature", SIGNATURE, *modules, *flags, *desk.folders], desk.clock)


# --- the real one ----------------------------------------------------------------------------------------------


class Exporter(BaseHTTPRequestHandler):
    server: ExporterServer

    def do_GET(self) -> None:
        with self.server.lock:
            body = self.server.process.exposition().encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.server.scraped.release()

    def log_message(self, *_: object) -> None:
        pass


class ExporterServer(ThreadingHTTPServer):
    process: Counted
    lock: threading.Lock
    scraped: threading.Semaphore


@pytest.fixture
def exporter() -> Iterator[ExporterServer]:
    with ExporterServer(("127.0.0.1", 0), Exporter) as server:
        server.process, server.lock, server.scraped = Counted(), threading.Lock(), threading.Semaphore(0)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def real(tmp_path: Path, exporter: ExporterServer) -> Iterator[str]:
    """Debian's Prometheus, scraping the exporter five times a second; its address."""
    program = shutil.which("prometheus")
    assert program, "apt-get install prometheus"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = tmp_path / "prometheus.yml"
    target = f"127.0.0.1:{exporter.server_port}"
    job = {"job_name": "service", "static_configs": [{"targets": [target]}]}
    interval = {"scrape_interval": "200ms", "scrape_timeout": "150ms"}
    config.write_text(json.dumps({"global": interval, "scrape_configs": [job]}))
    arguments = [f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'tsdb'}"]
    arguments += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    log = (tmp_path / "prometheus.log").open("wb")
    with log, subprocess.Popen([program, *arguments], stdout=log, stderr=log) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            wait_ready(url, process)
            yield url
        finally:
            process.terminate()
            process.wait(30)


def wait_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urlopen(f"{url}/-/ready", timeout=1) as answer:  # noqa: S310 - our own server
                if answer.status == 200:
                    return
        except OSError:
            threading.Event().wait(0.05)
    pytest.fail("Prometheus did not come up")


class RealClock(Clock):
    """The machine's wall clock, since Prometheus has no other; between looks a test's minute passes on the other."""

    def __call__(self) -> Any:
        self.wall_ms = time.time_ns() // 1_000_000
        return super().__call__()


class RealTraffic:
    """Calls counted by the exporter, and looks that wait until they have been scraped."""

    def __init__(self, desk: Desk, exporter: ExporterServer, lag_seconds: float) -> None:
        self.desk, self.exporter, self.lag = desk, exporter, lag_seconds
        self.chance = random.Random(3)
        self.calls = 0

    def calls_of(self, count: int, serve: Callable[[Counted, str], None]) -> None:
        with self.exporter.lock:
            for _ in range(count):
                serve(
                    self.exporter.process, "candidate" if self.chance.random() * 100 < self.desk.share() else "baseline"
                )
        self.calls += count

    def scraped(self) -> None:
        """Two scrapes begun from now on have ended, and the lag has passed since."""
        while self.exporter.scraped.acquire(blocking=False):
            pass
        for _ in range(3):
            assert self.exporter.scraped.acquire(timeout=20)
        due = time.monotonic() + self.lag + 0.2
        while time.monotonic() < due:
            assert self.exporter.scraped.acquire(timeout=20)

    def restart(self) -> None:
        with self.exporter.lock:
            self.exporter.process = Counted()


# Stage time is the least of both clocks, and the wall clock cannot be hurried: stages of a second.
FAST = {"stages": [20, 100], "stage_minutes": 1 / 60, "tick_seconds": 1, "deadline_factor": 1000}


@pytest.mark.slow
def test_the_real_prometheus_counts_every_call_once_and_rolls_back(
    desk: Desk, real: str, exporter: ExporterServer
) -> None:
    desk.clock = RealClock(monotonic_s=0.0)
    begin(desk, real, {"lag_seconds": 0.5, "timeout_seconds": 10}, **{**FAST, "stage_minutes": 1000})
    traffic = RealTraffic(desk, exporter, 0.5)
    for number in range(4):
        traffic.calls_of(120, healthy)
        traffic.scraped()
        desk.clock.monotonic_s += 60
        figures = look(desk)["figures"]
        assert figures["candidate_calls"] + figures["baseline_calls"] == traffic.calls
        if number == 1:
            traffic.restart()
    assert figures["latency_ms_candidate"] == pytest.approx(300)
    assert figures["latency_ms_p99_baseline"] == pytest.approx(500, rel=0.01)
    assert desk.record()["candidates"][0]["evidence"]["cutoffs"] == [500, 500, 500]
    for _ in range(10):
        traffic.calls_of(120, lambda p, v: p.call(v, outcome="error" if v == "candidate" else "success"))
        traffic.scraped()
        if desk.monitor()["final_status"]:
            break
    assert desk.record()["rollback_reason"] == "error_rate_delta > 0.05"
    assert desk.record()["candidates"][0]["evidence"]["bad_ticks"] == 0


@pytest.mark.slow
def test_the_real_prometheus_takes_a_healthy_candidate_to_everybody(
    desk: Desk, real: str, exporter: ExporterServer
) -> None:
    desk.clock = RealClock(monotonic_s=0.0)
    begin(desk, real, {"lag_seconds": 0.5, "timeout_seconds": 10}, **FAST)
    traffic = RealTraffic(desk, exporter, 0.5)
    for _ in range(15):
        traffic.calls_of(200, healthy)
        traffic.scraped()
        desk.clock.monotonic_s += 60
        if desk.monitor()["final_status"]:
            break
    assert desk.record()["final_status"] == "completed"
