from __future__ import annotations

import grp
import json
import os
import re
import shutil
import signal
import stat
import struct
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from tests.rollouts import QUICK, SIGNATURE, Desk, Service, candidates_fail, stored_program

from ab_testing_framework import main
from flywheel.base.errors import BadInputError, DamagedError
from flywheel.base.programs import deploy, deployed_program
from flywheel.ops import prometheus
from flywheel.ops.observed import Observed
from flywheel.ops.reading import read_experiment
from flywheel.serving import experiments, order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flywheel.serving.router import Choice

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "data_collection" / "ab_testing_framework.py"
EMERGENCY = ROOT / "data_collection" / "emergency_rollback.sh"
SCHEMA = json.loads((ROOT / "tests" / "vectors" / "routing_config.schema.json").read_text())
EXP = ("--experiment-id", "exp")


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


def refused(desk: Desk, command: str, *args: str) -> str:
    with pytest.raises((BadInputError, DamagedError)) as caught:
        main([command, *args, *desk.folders], desk.clock)
    return str(caught.value)


# --- start -----------------------------------------------------------------------------------------------------


def test_start_serves_the_first_stage_and_keeps_a_private_record(desk: Desk) -> None:
    shown = desk.start(stages=[10, 25, 50, 75, 100])
    assert (shown["status"], shown["stage"], shown["candidate_traffic_percent"]) == ("running", 1, 10)
    assert desk.share() == 10
    jsonschema.validate(json.loads(desk.routing_path.read_text()), SCHEMA)
    record = desk.record()
    assert record["id"] == record["experiment_id"] == "exp"
    assert record["final_status"] is None
    assert [line["event"] for line in record["history"]] == ["started"]
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in desk.experiments.iterdir()}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(desk.experiments.stat().st_mode) == 0o700


def test_a_group_may_read_the_routing_but_not_the_records(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYWHEEL_GROUP", grp.getgrgid(os.getgid()).gr_name)
    desk.start()
    assert stat.S_IMODE(desk.experiments.stat().st_mode) == 0o2770
    assert stat.S_IMODE(desk.routing_path.stat().st_mode) == 0o660
    assert stat.S_IMODE((desk.experiments / "experiment_exp.json").stat().st_mode) == 0o600


def test_start_says_that_only_a_monitor_guards(desk: Desk) -> None:
    desk.start()
    assert "exp: the candidate serves 20 %; only a monitor guards it: " in desk.said
    assert "monitor --experiment-id exp --daemon" in desk.said


@pytest.mark.parametrize("flag", ["--model=m", "--api-base=http://127.0.0.1:1", "--max-cost=1", "--max-calls=1"])
def test_a_flag_for_the_shadow_alone_is_refused_without_it(desk: Desk, flag: str) -> None:
    names = (*EXP, "--signature", SIGNATURE, "--baseline", str(desk.module("b")), "--candidate", str(desk.module("c")))
    assert f"{flag.partition('=')[0]} is for --shadow" in refused(desk, "start", *names, flag)


@pytest.mark.parametrize(
    "flag", ["--rule=point", "--metrics=prometheus", "--prometheus-url=http://x", "--holdback=5", "--config=x.json"]
)
def test_a_joiner_brings_no_settings(desk: Desk, flag: str) -> None:
    desk.start()
    join = (*EXP, "--signature", SIGNATURE, "--join", "--candidate", str(desk.module("late")))
    assert f"{flag.partition('=')[0]} with --join" in refused(desk, "start", *join, flag)


def test_list_status_and_history_have_a_line_for_people(desk: Desk) -> None:
    desk.start()
    Service(desk).minute()
    desk.monitor()
    desk.run("list")
    assert f"exp: {SIGNATURE}: running; stage 1 of 3; the candidate serves 20 %; hold: " in desk.said
    desk.run("status", *EXP)
    assert desk.said.rstrip().endswith("monitor not at work")
    desk.run("history", *EXP, "--ticks")
    assert " hold: the stage is 1 of 2 min old" in desk.said
    desk.run("rollback", *EXP, "--reason", "too\nslow")
    desk.run("history", *EXP)
    assert desk.said.splitlines()[-1].endswith(" stage 1, 0 %: rolled_back by operator: too slow")
    desk.run("list")
    assert f"exp: {SIGNATURE}: rolled_back; the baseline serves everything; too slow" in desk.said


def test_start_warns_of_a_service_that_cannot_reach_its_folders(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYWHEEL_GROUP", grp.getgrgid(os.getgid()).gr_name)
    desk.root.chmod(0o700)
    desk.start()
    assert f"warning: {desk.root}: group " in desk.said
    assert f"mend it: chmod g+x {desk.root}" in desk.said
    assert f"{desk.root / 'telemetry'}: " not in desk.said
    assert stat.S_IMODE((desk.root / "telemetry").stat().st_mode) == 0o2770


@pytest.mark.parametrize("make", [Path.touch, lambda path: path.symlink_to(path.parent)], ids=["file", "link"])
def test_a_telemetry_folder_that_cannot_be_written_is_refused(desk: Desk, make: Callable[[Path], None]) -> None:
    make(desk.root / "telemetry")
    with pytest.raises(BadInputError, match="telemetry"):
        desk.start()
    assert not desk.routing_path.exists()


def test_modules_are_found_from_where_one_stands_and_stored_absolute(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    (desk.root / "here.json").write_text("{}")
    monkeypatch.chdir(desk.root)
    names = ("--signature", "sig", "--baseline", "here.json", "--candidate", "tests/vectors/routing.json", *EXP)
    desk.run("start", *names)
    assert desk.record()["baseline_module"] == str(desk.root / "here.json")
    assert desk.record()["candidate_module"] == str(ROOT / "tests/vectors/routing.json")
    assert "no program of ours" in desk.said


def test_a_missing_module_or_one_of_another_signature_is_refused(desk: Desk) -> None:
    own, module = str(stored_program(desk)), str(desk.module("baseline"))
    flags = ("--signature", "validate_intent", *EXP, "--baseline")
    assert "not of validate_intent" in refused(desk, "start", *flags, module, "--candidate", own)
    for nowhere in ("nowhere.json", "~nobody-at-all/x.json", str(desk.root)):
        assert "no such module" in refused(desk, "start", *flags, module, "--candidate", nowhere)
    assert not desk.routing_path.exists()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"stage_minutes": "long"}, "stage_minutes: 'long'"),
        ({"stages": [50, 25, 100]}, "stages: [50, 25, 100] do not rise"),
        ({"stages": [10, 50]}, "stages: [10, 50] do not end at 100"),
        ({"stages": 10}, "stages: 10"),
        ({"min_calls": 0}, "min_calls: 0"),
        ({"error_rate_delta": 5}, "error_rate_delta: 5"),
        ({"required": ["errors", "beauty"]}, "'beauty' is none of"),
        ({"required": "errors"}, "required: 'errors'"),
        ({"stage_hours": 1}, "stage_hours: no setting"),
        ({"alpha": None}, "alpha: None"),
        ({"stage_minutes": 10**400}, "not the settings"),
        ({"required": [["errors"]]}, "not the settings"),
        ({"stages": [[10], 100]}, "stages"),
    ],
)
def test_a_bad_setting_is_named(desk: Desk, settings: dict[str, Any], named: str) -> None:
    with pytest.raises(BadInputError) as caught:
        desk.start(**settings)
    assert named in str(caught.value)
    assert not desk.routing_path.exists()


@pytest.mark.parametrize("name", ["", "a\udc80b"])
def test_a_signature_that_no_routing_file_can_hold_is_refused(desk: Desk, name: str) -> None:
    with pytest.raises(BadInputError, match="signature"):
        desk.start(signature=name)
    assert not list(desk.experiments.glob("*.json"))


def test_one_experiment_a_signature_and_one_record_an_id(desk: Desk) -> None:
    desk.start()
    desk.start("other", "validate_intent")
    with pytest.raises(BadInputError, match="'exp' is live on it"):
        desk.start("second")
    with pytest.raises(BadInputError, match="experiment 'exp' exists"):
        desk.start("exp", "validate_correctness")
    assert {name: route["experiment_id"] for name, route in desk.routes().items()} == {
        SIGNATURE: "exp",
        "validate_intent": "other",
    }
    desk.run("rollback", *EXP, "--reason", "enough")
    desk.start("second")
    assert desk.routes()[SIGNATURE]["experiment_id"] == "second"


def test_a_live_route_without_a_record_still_holds_its_signature(desk: Desk) -> None:
    desk.start()
    (desk.experiments / "experiment_exp.json").unlink()
    with pytest.raises(BadInputError, match="'exp' is live on it"):
        desk.start("second")
    desk.run("rollback", "--all", "--reason", "lost")
    desk.start("second")


@pytest.mark.parametrize("name", ["../exp", "a/b", "", ".hidden", "A", "ä", "x" * 65, "a\n", "-a", "a\x00b"])
def test_ids_cannot_leave_the_folder(desk: Desk, name: str) -> None:
    names = ("--signature", "sig", "--baseline", str(desk.module("b")), "--candidate", str(desk.module("c")))
    for command, more in (("start", names), ("status", ()), ("rollback", ("--reason", "x")), ("reset", ())):
        assert "experiment id" in refused(desk, command, f"--experiment-id={name}", *more)
    assert not desk.routing_path.exists()


# --- by hand ---------------------------------------------------------------------------------------------------


def test_pause_keeps_the_share_and_resume_goes_on(desk: Desk) -> None:
    desk.start()
    assert "keeps its 20 %" in desk.run("pause", *EXP)["traffic"]
    assert (desk.routes()[SIGNATURE]["status"], desk.share()) == ("paused", 20)
    assert desk.run("resume", *EXP)["status"] == "running"
    assert "only a paused experiment" in refused(desk, "resume", *EXP)


def test_promote_goes_one_stage_up_as_the_operators_override(desk: Desk) -> None:
    desk.start()
    assert desk.run("promote", *EXP)["stage"] == 2
    assert desk.share() == 50
    last = desk.record()["history"][-1]
    assert (last["event"], last["by"], last["reason"]) == ("promoted", "operator", "operator override")
    assert "no later stage" in refused(desk, "promote", *EXP, "--to", "20")
    assert desk.run("promote", *EXP)["final_status"] == "completed"
    assert "is completed" in refused(desk, "promote", *EXP)


def test_completing_deploys_a_stored_program_and_restoring_brings_the_old_one_back(desk: Desk) -> None:
    old = stored_program(desk)
    deploy(desk.root / "programs", SIGNATURE, old.parent.name)
    new = stored_program(desk, instructions="Do it better.")
    desk.run("start", *EXP, "--signature", SIGNATURE, "--baseline", str(old), "--candidate", str(new))
    desk.run("promote", *EXP, "--to", "100")
    route = desk.routes()[SIGNATURE]
    assert route["baseline_module"] == route["candidate_module"] == str(new)
    assert (route["candidate_traffic_percent"], route["status"]) == (100, "completed")
    assert deployed_program(desk.root / "programs", SIGNATURE) == new
    desk.run("rollback", *EXP, "--reason", "not undone without being asked")
    assert desk.record()["status"] == "completed"
    desk.run("rollback", *EXP, "--reason", "worse after all", "--include-completed")
    assert deployed_program(desk.root / "programs", SIGNATURE) == old
    route = desk.routes()[SIGNATURE]
    assert (route["baseline_module"], route["candidate_traffic_percent"]) == (str(old), 0)
    assert desk.record()["rollback_reason"] == "worse after all"


def test_restoring_without_the_old_program_says_so_and_its_baseline_serves(desk: Desk) -> None:
    old = stored_program(desk)
    deploy(desk.root / "programs", SIGNATURE, old.parent.name)
    new = stored_program(desk, instructions="Do it better.")
    desk.run("start", *EXP, "--signature", SIGNATURE, "--baseline", str(old), "--candidate", str(new))
    desk.run("promote", *EXP, "--to", "100")
    shutil.rmtree(old.parent)
    assert "no such program" in refused(desk, "rollback", *EXP, "--reason", "worse", "--include-completed")
    assert (desk.share(), desk.record()["status"]) == (0, "rolled_back")


def test_restoring_where_nothing_was_deployed_deploys_nothing(desk: Desk) -> None:
    new = stored_program(desk)
    module = str(desk.module("b"))
    desk.run("start", *EXP, "--signature", SIGNATURE, "--baseline", module, "--candidate", str(new))
    desk.run("promote", *EXP, "--to", "100")
    assert deployed_program(desk.root / "programs", SIGNATURE) == new
    desk.run("rollback", *EXP, "--reason", "worse", "--include-completed")
    assert deployed_program(desk.root / "programs", SIGNATURE) is None


def test_only_the_signatures_latest_completed_experiment_is_restored(desk: Desk) -> None:
    desk.start()
    desk.run("promote", *EXP, "--to", "100")
    desk.clock.passes(1)
    desk.start("later")
    assert "later came after it" in refused(desk, "rollback", *EXP, "--reason", "x", "--include-completed")
    assert desk.share() == 20


def test_rollback_keeps_the_first_reason_and_leaves_ended_ones_alone(desk: Desk) -> None:
    desk.start()
    shown = desk.run("rollback", *EXP, "--reason", "High error rate")
    assert (shown["status"], shown["final_status"]) == ("rolled_back", "rolled_back")
    assert desk.run("rollback", *EXP, "--reason", "again")["rollback_reason"] == "High error rate"
    assert "nothing to roll back" in desk.said
    assert (desk.share(), desk.routes()[SIGNATURE]["status"]) == (0, "rolled_back")


def test_a_reason_is_kept_on_one_line_whatever_it_holds(desk: Desk) -> None:
    desk.start()
    desk.run("rollback", *EXP, "--reason", "High\n error \u202erate \udc80\x1b[31m")
    assert desk.record()["rollback_reason"] == "High error rate [31m"


def test_list_history_and_reset(desk: Desk) -> None:
    desk.start()
    desk.start("other", "validate_intent")
    desk.run("promote", *EXP, "--to", "100")
    assert [item["id"] for item in desk.run("list")["experiments"]] == ["exp", "other"]
    assert [line["event"] for line in desk.run("history", *EXP)] == ["started", "completed"]
    archived = desk.run("reset")["archived"]
    assert [path.name for folder in archived for path in Path(folder).iterdir()] == [
        "experiment_exp.json",
        "experiment_other.json",
    ]
    assert desk.share("validate_intent") == 0
    assert desk.run("list") == {"experiments": [], "problems": {}}
    desk.start()


# --- damage ----------------------------------------------------------------------------------------------------

GARBLED = [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"id": "exp"}', b"[" * 100_000, b'{"schema_version": 2}']


@pytest.mark.parametrize("content", GARBLED)
def test_a_garbled_record_is_an_error_and_its_route_can_still_be_rolled_back(desk: Desk, content: bytes) -> None:
    desk.start()
    desk.start("other", "validate_intent")
    (desk.experiments / "experiment_exp.json").write_bytes(content)
    for command in ("status", "monitor", "pause", "promote"):
        assert "experiment_exp.json" in refused(desk, command, *EXP)
    assert "exp" in desk.run("list")["problems"]
    assert desk.share() == 20
    refused(desk, "rollback", *EXP, "--reason", "damaged")
    assert (desk.share(), desk.share("validate_intent")) == (0, 20)
    swept = desk.run("rollback", "--all", "--reason", "everything")
    assert (swept["rolled_back"], list(swept["problems"])) == (["other"], ["exp"])
    assert desk.share("validate_intent") == 0


def test_every_truncation_of_a_record_is_an_error(desk: Desk) -> None:
    desk.start()
    path = desk.experiments / "experiment_exp.json"
    content = path.read_bytes()
    for size in range(0, len(content.rstrip()), 97):
        path.write_bytes(content[:size])
        refused(desk, "monitor", *EXP)


@pytest.mark.parametrize("content", [b"", b"{", b'{"schema_version": 9}', None])
def test_rollback_works_whatever_became_of_the_routing_file(desk: Desk, content: bytes | None) -> None:
    desk.start()
    desk.start("other", "validate_intent")
    desk.routing_path.unlink() if content is None else desk.routing_path.write_bytes(content)
    desk.run("rollback", *EXP, "--reason", "High error rate")
    # Routers had been without the file: the other experiment's candidate must not come back to life with it.
    assert (desk.share(), desk.share("validate_intent")) == (0, 0)
    assert desk.monitor("other")["status"] == "rolled_back"


def test_a_link_in_a_records_place_is_refused(desk: Desk, tmp_path: Path) -> None:
    desk.start()
    path = desk.experiments / "experiment_exp.json"
    path.rename(tmp_path / "elsewhere.json")
    path.symlink_to(tmp_path / "elsewhere.json")
    assert "is a link" in refused(desk, "status", *EXP)


def test_an_experiments_folder_that_is_a_link_is_refused(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    desk.experiments.symlink_to(tmp_path / "real")
    assert "is a link" in refused(desk, "list")


def test_a_damaged_routing_file_holds_the_monitor(desk: Desk) -> None:
    desk.start()
    before = desk.record()
    desk.routing_path.write_text("{")
    assert "routing_config.json" in refused(desk, "monitor", *EXP)
    assert desk.record() == before


def test_a_route_that_somebody_removed_is_a_rollback(desk: Desk) -> None:
    desk.start()
    desk.routing_path.unlink()
    assert desk.monitor()["rollback_reason"] == "its route is gone from routing_config.json"


# --- end to end ------------------------------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    """A service that asks its router which module serves, and fails where it is told to."""

    protocol_version = "HTTP/1.1"
    wbufsize = 4096  # one segment an answer: two would wait for a delayed acknowledgement
    server: Site

    def do_GET(self) -> None:
        choice = self.server.service.one()
        body = choice.variant.encode()
        self.send_response(500 if self.server.fails(choice) else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Site(ThreadingHTTPServer):
    service: Service
    failing_from: float = 101

    def fails(self, choice: Choice) -> bool:
        return choice.variant == "candidate" and 100 * choice.propensity >= self.failing_from


@pytest.fixture
def site(desk: Desk) -> Iterator[Site]:
    with Site(("127.0.0.1", 0), Handler) as site:
        site.service = Service(desk, lambda choice: "ValueError" if site.fails(choice) else None)
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        yield site
        site.shutdown()
        thread.join()


def browse(site: Site, desk: Desk, minutes: int) -> list[int]:
    """The statuses of 150 requests a minute; the monitor looks after each minute."""
    connection = HTTPConnection("127.0.0.1", site.server_port)
    statuses = []
    for _ in range(minutes):
        desk.clock.passes(45)
        for _ in range(150):
            connection.request("GET", "/")
            response = connection.getresponse()
            response.read()
            statuses.append(response.status)
        site.service.recorder.flush()
        if desk.monitor()["final_status"]:
            break
    connection.close()
    return statuses


def test_a_healthy_candidate_reaches_everybody(desk: Desk, site: Site) -> None:
    desk.start()
    statuses = browse(site, desk, 30)
    assert set(statuses) == {200}
    record = desk.record()
    assert record["final_status"] == "completed"
    assert [line["candidate_traffic_percent"] for line in record["history"]] == [20, 50, 100]
    assert all(line["figures"]["candidate_calls"] >= 60 for line in record["history"][1:])
    ticks = desk.run("history", *EXP, "--ticks")
    assert [tick["action"] for tick in ticks].count("promote") == 2
    assert ticks[-1]["records"]["counted"] == len(statuses)
    desk.clock.passes(2)
    assert {site.service.one().variant for _ in range(50)} == {"candidate"}


def test_a_candidate_that_fails_from_the_second_stage_is_rolled_back(desk: Desk, site: Site) -> None:
    site.failing_from = 50
    desk.start()
    statuses = browse(site, desk, 30)
    record = desk.record()
    assert record["final_status"] == "rolled_back"
    assert record["rollback_reason"] == "error_rate_delta > 0.05"
    assert [line["event"] for line in record["history"]] == ["started", "promoted", "rolled_back"]
    assert record["history"][-1]["figures"]["e_errors"] >= record["history"][-1]["figures"]["e_bound"]
    # One minute of stage 2 was enough.
    assert 0 < statuses.count(500) < 120
    desk.clock.passes(2)
    assert {site.service.one().variant for _ in range(50)} == {"baseline"}


def test_a_plot_shows_every_figure_over_time(desk: Desk) -> None:
    desk.start(required=["errors", "latency"])
    assert desk.run("plot", *EXP) == {"experiment_id": "exp", "looks": 0, "output": None}
    assert "nothing seen yet" in desk.said
    service = Service(desk)
    failing = Service(desk, candidates_fail)
    for _ in range(5):
        service.minute()
        desk.monitor()
    while desk.monitor()["status"] == "running":
        failing.minute(20)
    picture = desk.root / "rollout.svg"
    desk.run("plot", *EXP, "--output", str(picture))
    assert desk.said.count("candidate ") == 3
    tree = ET.parse(picture)
    words = [item.text or "" for item in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert words[0] == f"exp: {SIGNATURE}, rolled_back"
    assert "candidate's share, %" in words
    assert "share 50" in words
    assert "error rate, %" in words
    assert "quality" not in words
    paths = [item.get("d", "") for item in tree.iter("{http://www.w3.org/2000/svg}path")]
    assert all(path.startswith("M") for path in paths if path)
    assert "cannot be written" in refused(desk, "plot", *EXP, "--output", str(desk.root / "no" / "x.svg"))
    image = desk.root / "rollout.PNG"
    desk.run("plot", *EXP, "--output", str(image))
    width, height, depth = struct.unpack(">IIB", image.read_bytes()[16:25])
    assert image.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert (width, depth) == (1152, 8)
    assert 600 < height < 1500
    assert 20_000 < image.stat().st_size < 400_000


def test_png_without_matplotlib_says_how_to_get_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.start()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert "uv sync --extra plots" in refused(desk, "plot", *EXP, "--output", str(desk.root / "x.png"))
    desk.run("plot", *EXP, "--output", str(desk.root / "x.svg"))


def test_a_long_interval_is_warned_of(desk: Desk) -> None:
    desk.start(tick_seconds=10)
    desk.run("monitor", *EXP, "--interval", "60")
    assert "warning: --interval 60: a stage ages by at most 20 s a look and takes 3 times as long" in desk.said
    desk.run("monitor", *EXP, "--interval", "20")
    assert "warning" not in desk.said


def test_every_look_and_status_have_percentiles_of_the_stage(desk: Desk) -> None:
    desk.start()
    service = Service(desk)
    service.minute()
    desk.monitor()
    (tick,) = desk.run("history", *EXP, "--ticks")
    for figures in (tick["figures"], desk.run("status", *EXP)["decision"]["figures"]):
        for percent in (50, 95, 99):
            for variant in ("candidate", "baseline"):
                assert figures[f"latency_ms_p{percent}_{variant}"] == pytest.approx(100, rel=0.01)
    observed = Observed(experiments=(read_experiment(desk.experiments / "experiment_exp.json"),))
    text = "\n".join(line for gauge in prometheus._experiments(observed) for line in gauge.lines())
    found = re.findall(
        r'flywheel_experiment_latency_seconds\{experiment="exp",variant="(\w+)",percentile="(.*)"\} (.*)', text
    )
    assert len(found) == 6
    assert all(float(value) == pytest.approx(0.1, rel=0.01) for _, _, value in found)
    desk.run("promote", *EXP)
    assert desk.monitor()["decision"]["figures"]["latency_ms_p50_candidate"] is None


# --- processes -------------------------------------------------------------------------------------------------


def command(desk: Desk, *args: str) -> list[str]:
    return [sys.executable, str(SCRIPT), *args, *desk.folders]


def started_by_process(desk: Desk) -> None:
    settings = desk.root / "config.json"
    settings.write_text(json.dumps(QUICK))
    names = ("--signature", SIGNATURE, "--config", str(settings), *EXP)
    modules = ("--baseline", str(desk.module("b")), "--candidate", str(desk.module("c")))
    subprocess.run(command(desk, "start", *names, *modules), check=True, capture_output=True)


def daemon(desk: Desk, *more: str) -> subprocess.Popen[str]:
    """A daemon that has had its first look."""
    arguments = command(desk, "monitor", *EXP, "--daemon", "--interval", "0.05", *more)
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    assert "exp: 20 %: hold" in process.stderr.readline()
    return process


def test_one_daemon_an_experiment_and_stop_ends_it(desk: Desk) -> None:
    started_by_process(desk)
    with daemon(desk) as process:
        second = subprocess.run(command(desk, "monitor", *EXP, "--daemon"), capture_output=True, text=True, check=False)
        assert second.returncode == 2
        assert "held by another process" in second.stderr
        assert desk.run("status", *EXP)["monitor_at_work"]
        assert desk.run("stop", *EXP) == {"experiment_id": "exp", "stopped": process.pid}
        assert process.wait(10) == 128 + signal.SIGTERM
    assert desk.share() == 20
    assert not desk.run("status", *EXP)["monitor_at_work"]
    assert desk.run("stop", *EXP)["stopped"] is None


def test_a_killed_daemon_is_followed_by_another_that_goes_on(desk: Desk) -> None:
    started_by_process(desk)
    with daemon(desk) as process:
        process.kill()
    revision = desk.record()["revision"]
    with daemon(desk) as process:
        assert desk.record()["revision"] > revision
        desk.run("rollback", *EXP, "--reason", "enough")
        out, _ = process.communicate(timeout=10)
    assert process.returncode == 0
    assert json.loads(out)["final_status"] == "rolled_back"


def test_a_daemon_says_what_is_wrong_with_its_state_and_holds(desk: Desk) -> None:
    started_by_process(desk)
    path = desk.experiments / "experiment_exp.json"
    with daemon(desk) as process:
        whole = path.read_bytes()
        assert process.stderr
        while "not JSON" not in process.stderr.readline():
            path.write_bytes(whole[:100])
        path.write_bytes(whole)
        while "%: hold" not in process.stderr.readline():
            pass
        process.terminate()
    assert desk.share() == 20


def test_the_rules_are_those_of_the_record() -> None:
    assert order.RULES == experiments.RULES


def test_help_is_light() -> None:
    code = (
        "import sys, runpy\nsys.argv = ['ab', 'start', '--help']\n"
        f"try: runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\nexcept SystemExit: pass\n"
        "print(sorted({'pydantic','dspy','numpy','requests','rich','git','mmh3','orjson'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


# --- emergency -------------------------------------------------------------------------------------------------


def emergency(desk: Desk, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "AB_EXPERIMENTS_DIR": str(desk.experiments), "PYTHON": sys.executable, **environment}
    return subprocess.run([str(EMERGENCY), "fire"], env=variables, capture_output=True, text=True, check=False)


def test_the_emergency_script_rolls_everything_back(desk: Desk) -> None:
    desk.start()
    desk.start("other", "validate_intent")
    (desk.experiments / "experiment_other.json").write_text("garbled")
    done = emergency(desk)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rolled_back"] == ["exp"]
    assert desk.record()["rollback_reason"] == "fire"
    assert desk.share() == 0
    assert "validate_intent" not in desk.routes()


@pytest.mark.parametrize("python", ["/bin/false", "broken"])
def test_the_emergency_script_stops_traffic_without_python(desk: Desk, python: str) -> None:
    """It is broken, or it is a file that no machine can run."""
    if python == "broken":
        (desk.root / "python").write_bytes(b"\x7fELF\x00broken")
        (desk.root / "python").chmod(0o700)
        python = str(desk.root / "python")
    desk.start()
    service = Service(desk, candidates_fail)
    assert "candidate" in {service.one().variant for _ in range(50)}
    done = emergency(desk, PYTHON=python)
    assert done.returncode == 1
    assert not desk.routing_path.exists()
    desk.clock.passes(2)
    assert {service.one().module for _ in range(50)} == {"built-in"}
    # A daemon that is still alive does not bring the candidate back.
    assert desk.monitor()["status"] == "rolled_back"
    assert desk.share() == 0


def test_the_emergency_script_stops_traffic_where_no_python_is_installed(desk: Desk) -> None:
    """With nothing but a shell's own tools: no interpreter by its path, nor by its name."""
    desk.start()
    tools = desk.root / "bin"
    tools.mkdir()
    for name in ("dirname", "date", "mv", "rm", "flock"):
        found = shutil.which(name)
        assert found
        (tools / name).symlink_to(found)
    script = desk.root / "elsewhere" / "data_collection" / "emergency_rollback.sh"
    script.parent.mkdir(parents=True)
    shutil.copy2(EMERGENCY, script)
    variables = {"AB_EXPERIMENTS_DIR": str(desk.experiments), "PATH": str(tools)}
    done = subprocess.run(["/bin/sh", str(script), "fire"], env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert not desk.routing_path.exists()
    assert desk.monitor()["rollback_reason"] == "its route is gone from routing_config.json"


def test_the_emergency_script_restores_what_a_holdback_deployed(desk: Desk) -> None:
    old = stored_program(desk)
    deploy(desk.root / "programs", SIGNATURE, old.parent.name)
    new = stored_program(desk, instructions="Do it better.")
    names = ("--signature", SIGNATURE, "--baseline", str(old), "--candidate", str(new), "--holdback", "5")
    desk.run("start", *EXP, *names)
    for _ in range(4):
        desk.run("promote", *EXP)
    assert (desk.share(), deployed_program(desk.root / "programs", SIGNATURE)) == (95, new)
    done = emergency(desk, OPTIMIZED_MODULES_DIR=str(desk.root / "programs"))
    assert done.returncode == 0, done.stderr
    assert deployed_program(desk.root / "programs", SIGNATURE) == old


def test_the_emergency_script_is_small_and_may_be_run() -> None:
    assert len(EMERGENCY.read_text().splitlines()) <= 40
    assert stat.S_IMODE(EMERGENCY.stat().st_mode) & 0o111 == 0o111
