"""Several candidates in one experiment, champion and challenger, and the share held back."""

from __future__ import annotations

import json
import random
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from tests.rollouts import QUICK, SIGNATURE, Desk, Service, stored_program

from ab_testing_framework import main
from flywheel.base.errors import BadInputError
from flywheel.base.programs import deploy, deployed_program
from flywheel.serving.experiment_store import ExperimentStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from flywheel.serving.router import Choice

SCHEMA = json.loads((Path(__file__).parent / "vectors" / "routing_config.schema.json").read_text())
EXP = ("--experiment-id", "exp")


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


def begin(desk: Desk, *names: str, flags: tuple[str, ...] = (), **config: Any) -> Any:
    """Start with the candidates of these names."""
    settings = desk.root / "config.json"
    settings.write_text(json.dumps({**QUICK, "stages": [20, 60, 100], **config}))
    modules = [item for name in names for item in ("--candidate", str(desk.module(name)))]
    known = ("--signature", SIGNATURE, "--config", str(settings), "--baseline", str(desk.module("b")))
    return desk.run("start", *EXP, *known, *modules, *flags)


def arms(desk: Desk) -> dict[str, float]:
    return {arm["variant"]: arm["traffic_percent"] for arm in desk.routes()[SIGNATURE]["arms"]}


def refused(desk: Desk, command: str, *args: str) -> str:
    with pytest.raises(BadInputError) as caught:
        main([command, *args, *desk.folders], desk.clock)
    return str(caught.value)


def failing(rates: dict[str, float], seed: int = 1) -> Callable[[Choice], str | None]:
    """Fails as often as the variant's rate says, in 0 .. 1."""
    rng = random.Random(seed)
    return lambda choice: "ValueError" if rng.random() < rates.get(choice.variant, 0) else None


def watch(desk: Desk, service: Service, minutes: int, calls: int = 300) -> Any:
    for _ in range(minutes):
        service.minute(calls)
        shown = desk.monitor()
        if shown["final_status"]:
            break
    return shown


def meets(desk: Desk, units: int = 400) -> dict[str, str]:
    """Which variant each of some units is routed to now."""
    desk.clock.passes(2)
    router = Service(desk).router
    return {f"unit-{n}": router.route(SIGNATURE, f"unit-{n}").variant for n in range(units)}


# --- several candidates ----------------------------------------------------------------------------------------


def test_several_candidates_share_the_stage_and_alpha_equally_at_first(desk: Desk) -> None:
    shown = begin(desk, "c1", "c2", "c3")
    assert arms(desk) == {"candidate": 6.67, "candidate_2": 6.67, "candidate_3": 6.66}
    assert shown["candidate_traffic_percent"] == 20
    jsonschema.validate(json.loads(desk.routing_path.read_text()), SCHEMA)
    record = desk.record()
    assert [item["alpha"] for item in record["candidates"]] == [pytest.approx(0.01 / 3)] * 3
    assert record["history"][0]["shares"] == arms(desk)


def test_each_has_five_percent_where_the_stage_gives_less(desk: Desk) -> None:
    assert begin(desk, "c1", "c2", "c3", stages=[10, 50, 100])["candidate_traffic_percent"] == 15
    assert set(arms(desk).values()) == {5}


def test_the_propensity_of_every_choice_is_recorded(desk: Desk) -> None:
    begin(desk, "c1", "c2")
    service = Service(desk)
    service.minute(400)
    texts = [path.read_text() for path in (desk.root / "telemetry").glob("*.jsonl")]
    lines = [json.loads(line) for text in texts for line in text.splitlines()]
    found = {(line["variant"], line["metadata"]["propensity"]) for line in lines}
    assert found == {("candidate", "0.1"), ("candidate_2", "0.1"), ("baseline", "0.8")}


def test_the_better_one_gets_more_and_goes_on_to_everybody(desk: Desk) -> None:
    begin(desk, "c1", "c2", error_rate_delta=0.4)
    service = Service(desk, failing({"candidate": 0.25, "candidate_2": 0.02}))
    while desk.monitor()["stage"] == 1:
        service.minute(300)
    assert arms(desk)["candidate"] < 10
    assert arms(desk)["candidate_2"] > 50
    shown = watch(desk, service, 20)
    assert shown["final_status"] == "completed"
    assert shown["candidate_module"].endswith("c2.json")
    route = desk.routes()[SIGNATURE]
    assert (route["baseline_module"], route["candidate_traffic_percent"]) == (shown["candidate_module"], 100)
    assert "arms" not in route
    (ended,) = shown["ended_candidates"]
    assert (ended["variant"], ended["reason"]) == ("candidate", "not the best")
    events = [line["event"] for line in desk.record()["history"]]
    assert events == ["started", "promoted", "arm_withdrawn", "completed"]


def test_the_guard_withdraws_a_harmful_one_and_its_traffic_goes_to_the_baseline(desk: Desk) -> None:
    begin(desk, "c1", "c2", "c3")
    before = meets(desk)
    service = Service(desk, failing({"candidate_2": 1.0}))
    while len(desk.monitor()["candidates"]) == 3:
        desk.clock.passes(10)
        for _ in range(40):
            service.one()
        service.recorder.flush()
    record = desk.record()
    (ended,) = record["ended"]
    assert (ended["variant"], ended["reason"], ended["by"]) == ("candidate_2", "error_rate_delta > 0.05", "rule")
    assert (record["status"], record["candidate_traffic_percent"]) == ("running", pytest.approx(13.33))
    assert arms(desk)["withdrawn"] == 6.67
    jsonschema.validate(json.loads(desk.routing_path.read_text()), SCHEMA)
    withdrawn = next(arm for arm in desk.routes()[SIGNATURE]["arms"] if arm["variant"] == "withdrawn")
    assert withdrawn["module"] == record["baseline_module"]
    # Nobody else meets another program than before.
    after = meets(desk)
    assert {after[unit] for unit, variant in before.items() if variant == "candidate_2"} == {"withdrawn"}
    assert all(after[unit] == variant for unit, variant in before.items() if variant != "candidate_2")
    # The two that are left are proved harmless by their own evidence and go on.
    shown = watch(desk, Service(desk), 40, 400)
    assert shown["final_status"] == "completed"


def test_calls_of_withdrawn_buckets_are_nobodys_evidence(desk: Desk) -> None:
    begin(desk, "c1", "c2", min_calls=10_000)
    desk.run("rollback", *EXP, "--arm", "candidate_2", "--reason", "wrong prompt")
    service = Service(desk)
    served: Counter[str] = Counter()
    for _ in range(3):
        desk.clock.passes(10)
        served.update(service.one().variant for _ in range(300))
        service.recorder.flush()
        figures = desk.monitor()["decision"]["figures"]
    assert served["withdrawn"] > 50
    assert (figures["candidate_calls"], figures["baseline_calls"]) == (served["candidate"], served["baseline"])
    assert figures["e_sample_ratio"] < 100


def test_when_all_are_harmful_all_goes_to_the_baseline(desk: Desk) -> None:
    begin(desk, "c1", "c2")
    shown = watch(desk, Service(desk, failing({"candidate": 1.0, "candidate_2": 1.0})), 5)
    assert (shown["final_status"], shown["rollback_reason"]) == ("rolled_back", "error_rate_delta > 0.05")
    assert (desk.share(), "arms" in desk.routes()[SIGNATURE]) == (0, False)


def test_identical_candidates_are_not_rolled_back(desk: Desk) -> None:
    begin(desk, "c1", "c2", "c3")
    shown = watch(
        desk,
        Service(desk, failing(dict.fromkeys(("baseline", "candidate", "candidate_2", "candidate_3"), 0.1))),
        60,
        500,
    )
    assert shown["status"] in {"completed", "paused"}
    assert not [item for item in shown["ended_candidates"] if item["reason"].startswith("error_rate")]


def test_an_unproved_one_is_withdrawn_at_its_deadline_where_another_is_proved(desk: Desk) -> None:
    begin(desk, "c1", "c2", error_rate_delta=0.1, stages=[40, 80, 100])
    service = Service(desk, failing({"candidate": 0.095}))
    shown = watch(desk, service, 40, 150)
    assert shown["ended_candidates"]
    assert shown["ended_candidates"][0]["variant"] == "candidate"
    assert shown["final_status"] == "completed"


def test_units_stay_with_their_program_as_far_as_the_shares_allow(desk: Desk) -> None:
    begin(desk, "c1", "c2")
    service = Service(desk)
    before = meets(desk, 2000)
    while desk.monitor()["stage"] == 1:
        service.minute(300)
    after = meets(desk, 2000)
    moved = {(before[unit], after[unit]) for unit in before if before[unit] != after[unit]}
    assert moved <= {("baseline", "candidate"), ("baseline", "candidate_2")}


def test_a_second_experiment_joins_as_a_further_arm(desk: Desk) -> None:
    begin(desk, "c1")
    service = Service(desk, failing({"candidate_2": 0.9}))
    service.minute(300)
    desk.monitor()
    extra = ("--signature", SIGNATURE, "--candidate", str(desk.module("late")))
    assert "--join" in refused(desk, "start", "--experiment-id", "two", *extra, "--baseline", str(desk.module("b")))
    before = meets(desk)
    shown = desk.run("start", *EXP, "--join", *extra)
    assert [item["variant"] for item in shown["candidates"]] == ["candidate", "candidate_2"]
    assert arms(desk)["candidate_2"] >= 5
    assert sum(arms(desk).values()) == 20
    after = meets(desk)
    assert all(after[unit] != "baseline" for unit, variant in before.items() if variant == "candidate")
    record = desk.record()
    assert [item["alpha"] for item in record["candidates"]] == [0.01, 0.005]
    assert record["history"][-1]["event"] == "arm_joined"
    shown = watch(desk, service, 40, 400)
    assert shown["ended_candidates"][0]["variant"] == "candidate_2"
    assert (shown["final_status"], shown["candidate_module"]) == ("completed", record["candidate_module"])


def test_what_a_joiner_brings_must_fit(desk: Desk) -> None:
    begin(desk, *(f"c{n}" for n in range(7)))
    late = ("--candidate", str(desk.module("late")))
    assert "not of validate_intent" in refused(desk, "start", *EXP, "--join", "--signature", "validate_intent", *late)
    known = ("--signature", SIGNATURE)
    assert "keeps the settings" in refused(desk, "start", *EXP, "--join", *known, *late, "--holdback", "5")
    desk.run("start", *EXP, "--join", *known, *late)
    assert "at most 8" in refused(desk, "start", *EXP, "--join", *known, *late)
    assert "no experiment" in refused(desk, "start", "--experiment-id", "none", "--join", *known, *late)
    desk.run("rollback", *EXP, "--reason", "x")
    assert "is rolled_back" in refused(desk, "start", *EXP, "--join", *known, *late)


def test_an_operator_withdraws_one_and_chooses_one(desk: Desk) -> None:
    begin(desk, "c1", "c2", "c3")
    assert "no candidate 'x'" in refused(desk, "promote", *EXP, "--arm", "x")
    assert "cannot withdraw x" in refused(desk, "rollback", *EXP, "--arm", "x", "--reason", "y")
    assert "choose --arm" in refused(desk, "promote", *EXP, "--to", "100")
    desk.run("rollback", *EXP, "--arm", "candidate", "--reason", "wrong prompt")
    assert desk.run("status", *EXP)["candidate_module"].endswith("c2.json")
    shown = desk.run("promote", *EXP, "--to", "100", "--arm", "candidate_3")
    assert (shown["final_status"], shown["candidate_module"][-7:]) == ("completed", "c3.json")
    assert "arms" not in desk.routes()[SIGNATURE]
    desk.run("rollback", *EXP, "--reason", "x", "--include-completed")
    assert desk.share() == 0


def test_paused_candidates_keep_their_shares_and_their_guard(desk: Desk) -> None:
    begin(desk, "c1", "c2")
    assert "keep their 20 %" in desk.run("pause", *EXP)["traffic"]
    shown = watch(desk, Service(desk, failing({"candidate_2": 1.0})), 10)
    assert (shown["status"], [item["variant"] for item in shown["candidates"]]) == ("paused", ["candidate"])
    assert desk.run("resume", *EXP)["status"] == "running"


def test_the_last_one_is_not_withdrawn_but_rolled_back(desk: Desk) -> None:
    begin(desk, "c1", "c2")
    desk.run("rollback", *EXP, "--arm", "candidate", "--reason", "x")
    assert "one must be left" in refused(desk, "rollback", *EXP, "--arm", "candidate_2", "--reason", "x")
    desk.run("rollback", *EXP, "--reason", "x")
    assert desk.share() == 0


def test_a_record_of_several_survives_its_file_and_restarts(desk: Desk) -> None:
    begin(desk, "c1", "c2")
    service = Service(desk)
    service.minute(300)
    desk.monitor()
    desk.run("rollback", *EXP, "--arm", "candidate", "--reason", "x")
    store = ExperimentStore(desk.experiments)
    found = store.read("exp")
    assert type(found).from_object(json.loads(json.dumps(found.to_object())), "x") == found


def test_a_withdrawal_whose_writer_died_is_taken_over_from_the_route(desk: Desk) -> None:
    begin(desk, "c1", "c2")
    record = (desk.experiments / "experiment_exp.json").read_bytes()
    desk.run("rollback", *EXP, "--arm", "candidate_2", "--reason", "x")
    (desk.experiments / "experiment_exp.json").write_bytes(record)
    shown = desk.monitor()
    assert [item["variant"] for item in shown["candidates"]] == ["candidate"]
    assert shown["ended_candidates"][0]["reason"] == "its route was rolled back"
    assert set(arms(desk)) == {"candidate", "withdrawn"}


def test_a_plot_tells_the_candidates_apart_and_goes_on_when_one_is_withdrawn(desk: Desk) -> None:
    begin(desk, "c1", "c2", "c3")
    # The first one goes: what is left is drawn under its own name.
    service = Service(desk, failing({"candidate": 1.0}))
    watch(desk, service, 3)
    begun = desk.run("history", *EXP, "--ticks")
    assert [tick["variant"] for tick in begun] == ["candidate", "candidate_2", "candidate_2"]
    assert begun[0]["arms"]["candidate_3"]["traffic_percent"] == 6.66
    desk.run("rollback", *EXP, "--arm", "candidate_3", "--reason", "enough")
    watch(desk, service, 2)
    desk.run("plot", *EXP, "--output", str(desk.root / "x.svg"))
    tree = ET.parse(desk.root / "x.svg")
    words = [item.text or "" for item in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert "candidate 6.67" in words
    assert "candidate_2 6.67" not in words
    assert len([word for word in words if word.startswith("candidate_2 ")]) == 5
    assert len([word for word in words if word.startswith("baseline ")]) == 3
    (share,) = [line for line in desk.said.splitlines() if line.startswith("  candidate   ")][:1]
    assert share.split()[1:] == ["▂", "6.67"]


def test_more_than_eight_are_refused(desk: Desk) -> None:
    modules = [item for n in range(9) for item in ("--candidate", str(desk.module(f"c{n}")))]
    known = ("--signature", SIGNATURE, "--baseline", str(desk.module("b")))
    assert "at most 8" in refused(desk, "start", *EXP, *known, *modules)


# --- champion and challenger -----------------------------------------------------------------------------------


def test_the_deployed_program_is_the_champion_and_the_winner_the_next(desk: Desk) -> None:
    old = stored_program(desk)
    deploy(desk.root / "programs", SIGNATURE, old.parent.name)
    new = stored_program(desk, instructions="Do it better.")
    challenge = ("--signature", SIGNATURE, "--champion", "deployed", "--candidate")
    desk.run("start", *EXP, *challenge, str(new))
    assert desk.record()["baseline_module"] == str(old)
    desk.run("promote", *EXP, "--to", "100")
    third = stored_program(desk, instructions="Do it best.")
    desk.clock.passes(1)
    desk.run("start", "--experiment-id", "next", *challenge, str(third))
    assert desk.record("next")["baseline_module"] == str(new)
    desk.run("promote", "--experiment-id", "next", "--to", "100")
    assert deployed_program(desk.root / "programs", SIGNATURE) == third
    desk.run("rollback", "--experiment-id", "next", "--reason", "x", "--include-completed")
    assert deployed_program(desk.root / "programs", SIGNATURE) == new


def test_without_a_champion_there_is_nothing_to_challenge(desk: Desk) -> None:
    challenge = ("--signature", SIGNATURE, "--champion", "deployed", "--candidate", str(desk.module("c")))
    assert "nothing is deployed" in refused(desk, "start", *EXP, *challenge)


def test_a_program_that_serves_without_being_deployed_is_not_passed_over(desk: Desk) -> None:
    old = stored_program(desk)
    deploy(desk.root / "programs", SIGNATURE, old.parent.name)
    desk.start()
    desk.run("promote", *EXP, "--to", "100")
    challenge = ("--signature", SIGNATURE, "--champion", "deployed", "--candidate", str(desk.module("c")))
    assert "since exp completed" in refused(desk, "start", "--experiment-id", "next", *challenge)


# --- holdback --------------------------------------------------------------------------------------------------


def held_back(desk: Desk) -> tuple[Service, Path, Path]:
    old = stored_program(desk)
    deploy(desk.root / "programs", SIGNATURE, old.parent.name)
    new = stored_program(desk, instructions="Do it better.")
    settings = desk.root / "config.json"
    settings.write_text(json.dumps({**QUICK, "stages": [50, 100]}))
    flags = ("--config", str(settings), "--holdback", "20", "--baseline", str(old), "--candidate", str(new))
    desk.run("start", *EXP, "--signature", SIGNATURE, *flags)
    service = Service(desk)
    while desk.monitor()["stage"] == 1:
        service.minute(300)
    return service, old, new


def test_a_holdback_keeps_a_share_on_the_baseline_until_it_is_promoted(desk: Desk) -> None:
    service, _, new = held_back(desk)
    assert desk.share() == 80
    assert deployed_program(desk.root / "programs", SIGNATURE) == new
    shown = watch(desk, service, 30)
    assert (shown["status"], desk.share()) == ("running", 80)
    assert shown["decision"]["action"] == "hold"
    assert "held back on the baseline" in shown["traffic"]
    assert desk.run("promote", *EXP)["final_status"] == "completed"
    assert desk.share() == 100


def test_harm_during_the_holdback_rolls_back_and_restores_what_was_deployed(desk: Desk) -> None:
    _, old, _ = held_back(desk)
    shown = watch(desk, Service(desk, failing({"candidate": 0.5})), 20)
    assert (shown["final_status"], shown["rollback_reason"]) == ("rolled_back", "error_rate_delta > 0.05")
    assert desk.share() == 0
    assert deployed_program(desk.root / "programs", SIGNATURE) == old


def test_silence_during_the_holdback_is_no_harm(desk: Desk) -> None:
    held_back(desk)
    for _ in range(30):
        desk.clock.passes(60)
        shown = desk.monitor()
    assert (shown["status"], shown["decision"]["reasons"][0]) == ("running", "metrics_missing")


def test_a_holdback_needs_room_above_the_last_stage(desk: Desk) -> None:
    with pytest.raises(BadInputError, match="do not rise"):
        begin(desk, "c1", flags=("--holdback", "45"))
    with pytest.raises(BadInputError, match="holdback"):
        begin(desk, "c1", flags=("--holdback", "60"))


def test_of_several_one_is_chosen_for_the_holdback(desk: Desk) -> None:
    begin(
        desk,
        "c1",
        "c2",
        flags=(
            "--holdback",
            "10",
        ),
        error_rate_delta=0.4,
    )
    service = Service(desk, failing({"candidate": 0.2}))
    for _ in range(30):
        shown = watch(desk, service, 1)
        if len(shown["candidates"]) == 1 and shown["stage"] == 3:
            break
    assert [item["variant"] for item in shown["candidates"]] == ["candidate_2"]
    assert arms(desk) == {"candidate_2": 90}
    shown = watch(desk, service, 10)
    assert (shown["status"], arms(desk)) == ("running", {"candidate_2": 90})
