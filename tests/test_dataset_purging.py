"""dataset_manager.py lineage, purge and retire-test: where an example is, and how it goes for good."""

from __future__ import annotations

import json
import random
import tarfile
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dataset_manager
from flywheel.base.canaries import CanaryItem, CanarySet
from flywheel.base.errors import BadInputError
from flywheel.base.programs import Program, ProgramField, ProgramScores, deploy, publish, read_program
from flywheel.data import store
from flywheel.data.registry import all_signatures
from flywheel.data.verification import verify
from flywheel.learning.waiting import Evidence, Waiting, keep, read_waiting
from flywheel.serving.records import NO_TOKENS, Interaction, encode
from flywheel.serving.routing import Route
from flywheel.serving.routing_file import write_routing

NAME = "extract_requirements"
SIGNATURE = all_signatures()[NAME]
MOMENT = datetime(2025, 11, 4, 12, 0, tzinfo=UTC)
PRIVATE = 'the user\'s very private sentence, with <b> & "quotes" — and ünïcode'


def item(number: int, intent: str | None = None) -> dict[str, Any]:
    words = " ".join(f"word{random.Random(1000 * number + n).randint(0, 10**6)}" for n in range(12))
    return {
        "inputs": {"user_intent": intent or words, "context": ""},
        "outputs": {"requirements": [f"Do {words}"], "priorities": [5]},
        "metadata": {"difficulty": "easy", "category": "api", "quality_score": 90.0},
    }


class Scene:
    """A dataset whose versions hold one private example, one of them archived, and everything made from them."""

    def __init__(self, root: Path) -> None:
        self.data, self.runs, self.programs = root / "data", root / "runs", root / "programs"
        self.telemetry, self.experiments, self.root = root / "telemetry", root / "experiments", root
        self.places = ["--output-dir", self.runs, "--programs-dir", self.programs]
        self.places += ["--experiments-dir", self.experiments, "--telemetry-dir", self.telemetry]

    def run(self, *arguments: object) -> int:
        return dataset_manager.main([*map(str, arguments), "--signature", NAME, "--data-dir", str(self.data)])

    def add(self, *items: dict[str, Any]) -> int:
        path = self.root / "batch.json"
        path.write_text(json.dumps(items))
        code = self.run("add", "--examples", path, "--source", "git")
        path.unlink()
        return code

    def rows(self, version: str = "latest") -> list[dict[str, Any]]:
        return store.load_rows(self.data, NAME, version)[1]

    def flaws(self) -> list[str]:
        return [flaw for _, found in verify(self.data, SIGNATURE) for flaw in found]

    def program(self, demo: dict[str, Any], version: str) -> Path:
        demos = ({**demo["inputs"], **demo["outputs"], "augmented": True},)
        program = Program(
            signature=NAME,
            fields=(ProgramField("user_intent", "input", "str", "What the user wanted"),),
            instructions="Extract.",
            demos=demos,
            adapter="ChatAdapter",
            model="m/m",
            model_snapshot=None,
            model_parameters={},
            optimizer="mipro",
            seed=7,
            dataset_version=version,
            dataset_hash="ab" * 32,
            run_id="run_20251104_113000",
            created="2025-11-04T12:00:00+00:00",
            scores=ProgramScores(0.5, 0.6, 20.0, (1.0, 39.0), 40),
            state={"demos": list(demos), "train": []},
        )
        return publish(self.programs, program, MOMENT)

    def build(self) -> str:
        self.add(item(0, PRIVATE), *map(item, range(1, 8)))
        self.add(item(8))
        (first,) = [v for v in store.versions(self.data, NAME) if v.sequence == 1]
        self.add(item(9))
        self.add(item(10))
        assert self.run("archive", "--older-than", "0", *self.places[2:6]) == 0
        version = store.versions(self.data, NAME)[-1].version
        run = self.runs / "run_20251104_020000"
        for folder in ("collected_data/git", "cache", "optimization_results/x"):
            (run / folder).mkdir(parents=True)
        (run / "collected_data/git" / f"{NAME}.json").write_text(json.dumps([item(1), item(0, PRIVATE)]))
        rejected = {"reason": "duplicate", "example": item(0, PRIVATE)}
        (run / "rejected.jsonl").write_text(json.dumps({"reason": "x"}) + "\n" + json.dumps(rejected) + "\n")
        escaped = PRIVATE.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&#34;")
        (run / "report.html").write_text(f"<td>{escaped.replace(chr(39), '&#39;')[:50]}…</td>")
        (run / "dspy.log").write_text(f"asked: {PRIVATE}\nnext line\n")
        (run / "cache" / "cache.db").write_bytes(b"\x00\x01 pickled")
        summary = {"signatures": {NAME: {"dataset_version": version}}}
        (run / "orchestration_summary.json").write_text(json.dumps(summary))
        (self.runs / "run_20251104_030000" / "cache").mkdir(parents=True)
        assert first.version.startswith("v")
        key: str = next(row["id"] for row in self.rows() if row["inputs"]["user_intent"] == PRIVATE)
        return key

    def everything(self) -> bytes:
        """All bytes below the root, archives unpacked."""
        found = []
        for path in self.root.rglob("*"):
            if path.is_file() and path.name.endswith(".tar.gz"):
                with tarfile.open(path) as tar:
                    found += [s.read() for entry in tar if (s := tar.extractfile(entry)) is not None]
            elif path.is_file():
                found.append(path.read_bytes())
        return b"\n".join(found)


@pytest.fixture(name="scene")
def scene_fixture(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_lineage_names_every_version_run_and_program(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    key = scene.build()
    versions = [v.version for v in store.versions(scene.data, NAME)]
    shown, other = scene.program(item(0, PRIVATE), versions[-1]), scene.program(item(3), versions[-1])
    deploy(scene.programs, NAME, shown.parent.name)
    capsys.readouterr()
    assert scene.run("lineage", "--example-id", key, "--json", *scene.places) == 0
    found = told(capsys)
    (row,) = [row for row in scene.rows() if row["id"] == key]
    assert found["versions"] == dict.fromkeys(versions, row["split"])
    assert found["runs"] == ["run_20251104_020000"]
    assert [Path(path).name for path in found["files"]] == [f"{NAME}.json", "dspy.log", "rejected.jsonl", "report.html"]
    assert [(p["path"], p["status"], p["shows"], p["demonstrations"]) for p in found["programs"]] == [
        (str(shown), "serving", True, [1]),
        (str(other), "stored", False, []),
    ]
    assert (found["tombstone"], found["erased_from"], found["records"]) == (None, [], {})
    assert scene.run("lineage", "--example-id", key, *scene.places) == 0
    out = capsys.readouterr().out
    assert "run_20251104_020000" in out
    assert f"{versions[0]} ({row['split']})" in out
    assert f"programs              {shown} (serving), shows it as demonstration 1\n" in out
    assert f"{other} (stored), was made from {versions[-1]}, shows nothing of it\n" in out


def test_a_purged_example_is_in_no_later_version_and_never_comes_back(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    key = scene.build()
    before = store.versions(scene.data, NAME)
    capsys.readouterr()
    assert scene.run("purge", "--example-id", key, "--reason", "wrong label", "--json", *scene.places) == 0
    found = told(capsys)
    assert found["new_version"] == store.versions(scene.data, NAME)[-1].version
    assert key not in {row["id"] for row in scene.rows()}
    assert len(scene.rows()) == before[-1].example_count - 1
    assert {row["id"] for row in scene.rows(before[-1].version)} > {row["id"] for row in scene.rows()}
    assert scene.flaws() == []
    assert scene.add(item(0, PRIVATE)) == 0
    assert "refused: 1 purged" in capsys.readouterr().err
    corrected = item(0, PRIVATE)
    corrected["outputs"]["requirements"] = ["Another answer"]
    scene.add(corrected)
    assert len(scene.rows()) == before[-1].example_count
    again = scene.run("purge", "--example-id", key, "--reason", "again", "--json", *scene.places)
    assert again == 0
    assert len((scene.data / NAME / "purged.jsonl").read_text().splitlines()) == 1


def test_an_erased_example_is_gone_from_everywhere(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    key = scene.build()
    versions = [v.version for v in store.versions(scene.data, NAME)]
    hashes = {v.version: v.content_hash for v in store.versions(scene.data, NAME)}
    unused = scene.program(item(0, PRIVATE), versions[-1])
    capsys.readouterr()
    assert scene.run("purge", "--example-id", key, "--reason", "a request", "--erase", "--json", *scene.places) == 0
    found = told(capsys)
    assert found["erased_from"] == versions
    assert found["programs"] == [str(unused)]
    assert found["caches"] == [str(scene.runs / f"run_20251104_0{hour}0000" / "cache") for hour in (2, 3)]
    assert b"very private" not in scene.everything()
    assert b"augmented" not in unused.read_bytes()
    assert scene.flaws() == []
    assert {v.version: v.content_hash for v in store.versions(scene.data, NAME)}.items() >= hashes.items()
    assert all(key in v.erased for v in store.versions(scene.data, NAME) if v.version in versions)
    assert len(list((scene.data / NAME).glob("v*.tar.gz"))) == 1
    collected = scene.runs / "run_20251104_020000/collected_data/git" / f"{NAME}.json"
    assert json.loads(collected.read_text()) == [item(1)]
    corrected = item(0, PRIVATE)
    corrected["outputs"]["requirements"] = ["Another answer"]
    scene.add(corrected)
    assert "refused: 1 purged" in capsys.readouterr().err
    assert scene.run("purge", "--example-id", key, "--reason", "again", "--erase", "--json", *scene.places) == 0
    found = told(capsys)
    nothing = ("erased_from", "files", "records", "programs", "given_up", "recompile")
    assert [found[name] for name in ("new_version", *nothing)] == [None, *([] for _ in nothing)]
    assert scene.run("lineage", "--example-id", key, *scene.places) == 0
    assert "tombstone             a request (" in capsys.readouterr().out


def test_a_deployed_program_that_shows_it_holds_the_verdict_until_it_is_replaced(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    key = scene.build()
    version = store.versions(scene.data, NAME)[-1].version
    path = scene.program(item(0, PRIVATE), version)
    deploy(scene.programs, NAME, path.parent.name)
    capsys.readouterr()
    erase = ["purge", "--example-id", key, "--reason", "a secret", "--erase", "--json", *scene.places]
    for _ in range(2):
        assert scene.run(*erase) == 1
        out, err = capsys.readouterr()
        assert json.loads(out)["recompile"] == [str(path)]
        assert "compile and deploy it anew, then run this command again" in err
    fresh = scene.program(item(4), version)
    deploy(scene.programs, NAME, fresh.parent.name)
    assert scene.run(*erase) == 0
    assert told(capsys)["programs"] == [str(path)]
    assert b"very private" not in scene.everything()


def test_erasing_reaches_canary_waiting_candidate_and_records(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    key = scene.build()
    version = store.versions(scene.data, NAME)[-1].version
    serving = scene.program(item(4), version)
    deploy(scene.programs, NAME, serving.parent.name)
    canary = [CanaryItem(key, "g", item(0, PRIVATE)["inputs"], {}), CanaryItem("x", "g", item(1)["inputs"], {})]
    CanarySet(NAME, version, "2025-11-04T12:00:00+00:00", tuple(canary)).write(serving.parent)
    waiting = Waiting(read_program(scene.program(item(0, PRIVATE), version), NAME), Evidence(baseline="plain"))
    keep(scene.programs, waiting)
    scene.telemetry.mkdir()
    log = scene.telemetry / "interactions-1.jsonl"
    calls = [call(item(1)), call(item(0, PRIVATE)), call(item(2), error=f"no answer to {PRIVATE}"), call(item(3))]
    log.write_bytes(
        b"".join(encode(record.to_object()) for record in calls) + b'{"torn": "the user\'s very private sent'
    )
    before = log.read_bytes()
    capsys.readouterr()
    assert scene.run("lineage", "--example-id", key, "--json", *scene.places) == 0
    found = told(capsys)
    assert found["records"] == {str(log): 3}
    assert str(serving.parent / "canary.json") in found["files"]
    assert "waiting" in {program["status"] for program in found["programs"] if program["shows"]}
    with log.open("ab") as service:
        assert scene.run("purge", "--example-id", key, "--reason", "x", "--erase", "--json", *scene.places) == 0
        service.write(b"\n" + encode(call(item(5)).to_object()))
    found = told(capsys)
    assert found["records"] == [str(log)]
    assert found["given_up"] == [str(scene.programs / NAME / "waiting" / "program.json")]
    assert read_waiting(scene.programs, NAME) is None
    left = CanarySet.read(serving.parent)
    assert left is not None
    assert [one.id for one in left.items] == ["x"]
    # Every line stands where it stood, and every call still counts.
    after = log.read_bytes()
    places = [[n for n, byte in enumerate(text) if byte == 10] for text in (before, after[: len(before)])]
    assert places[0] == places[1]
    records = [json.loads(line) for line in after.splitlines() if not line.startswith(b'{"torn"')]
    assert [record["sampled"] for record in records] == [True, False, True, True, True]
    assert (records[1]["input"], records[1]["output"], records[1]["latency_ms"]) == ({}, {}, 12.5)
    assert records[2]["error"] == "no answer to [erased]"
    assert b"very private sentence" not in scene.everything()


def test_the_cache_of_a_run_that_says_nothing_of_itself_goes_too(scene: Scene) -> None:
    key = scene.build()
    silent = scene.runs / "run_20251104_030000"
    other = scene.runs / "run_20251104_040000"
    (other / "cache").mkdir(parents=True)
    (other / "orchestration_summary.json").write_text(json.dumps({"signatures": {"validate_intent": {}}}))
    assert (silent / "cache").is_dir()
    assert scene.run("purge", "--example-id", key, "--reason", "x", "--erase", *scene.places) == 0
    assert not (silent / "cache").exists()
    assert (other / "cache").is_dir()


def test_a_program_that_an_ended_experiment_routes_to_serves(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    key = scene.build()
    version = store.versions(scene.data, NAME)[-1].version
    routed, old = scene.program(item(0, PRIVATE), version), scene.program(item(3), version)
    scene.experiments.mkdir(mode=0o700)
    route = Route("exp", NAME, str(routed), str(routed), 100, "completed", "salt")
    write_routing(scene.experiments / "routing_config.json", [route], MOMENT)
    deploy(scene.programs, NAME, old.parent.name)
    capsys.readouterr()
    erase = ["purge", "--example-id", key, "--reason", "x", "--erase", "--json", *scene.places]
    assert scene.run(*erase) == 1
    assert told(capsys)["recompile"] == [str(routed)]
    back = Route("exp", NAME, str(old), str(routed), 0, "rolled_back", "salt")
    write_routing(scene.experiments / "routing_config.json", [back], MOMENT)
    assert scene.run(*erase) == 0
    assert told(capsys)["programs"] == [str(routed)]


def call(given: dict[str, Any], **facts: Any) -> Interaction:
    known: dict[str, Any] = {
        "module_name": "m", "module_version": "Baseline", "signature": NAME, "input": given["inputs"], "output": {},
        "timestamp_ms": 1, "latency_ms": 12.5, "tokens": NO_TOKENS, "cost_usd": 0.0, "model": "m", "success": True,
        "error": None, "metadata": {}, "sampled": True,
    }  # fmt: skip
    return Interaction(**{**known, **facts})


def test_the_only_example_can_be_erased_but_not_purged(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    scene.add(item(1, PRIVATE))
    key = scene.rows()[0]["id"]
    with pytest.raises(BadInputError, match=r"holds nothing but .*; add others first, or --erase it"):
        scene.run("purge", "--example-id", key, "--reason", "x", *scene.places)
    assert scene.run("purge", "--example-id", key, "--reason", "x", "--erase", *scene.places) == 0
    assert scene.rows() == []
    assert scene.flaws() == []
    scene.add(item(2))
    assert len(scene.rows()) == 1
    assert scene.flaws() == []
    capsys.readouterr()


def test_what_no_version_ever_held_is_told(scene: Scene) -> None:
    scene.add(item(1))
    for command in (["lineage"], ["purge", "--reason", "x"]):
        with pytest.raises(BadInputError, match="no version holds an example nope"):
            scene.run(*command, "--example-id", "nope", *scene.places)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 7), st.booleans()), min_size=1, max_size=4))
def test_whatever_is_purged_the_rest_stays_sound_and_in_its_splits(gone: list[tuple[int, bool]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        scene = Scene(Path(folder))
        scene.add(*map(item, range(6)))
        scene.add(*map(item, range(6, 9)))
        before = {row["id"]: row for row in scene.rows()}
        keys = sorted(before)
        for number, erase in gone:
            flags = ["--erase"] if erase else []
            assert scene.run("purge", "--example-id", keys[number], "--reason", "x", *flags, *scene.places) == 0
        purged = {keys[number] for number, _ in gone}
        assert {row["id"]: row for row in scene.rows()} == {k: row for k, row in before.items() if k not in purged}
        assert scene.flaws() == []
        erased = {keys[number] for number, erase in gone if erase}
        everything = scene.everything().decode()
        assert not [key for key in erased if before[key]["inputs"]["user_intent"] in everything]
        scene.add(*map(item, range(9)))
        assert not purged & {row["id"] for row in scene.rows()}


def test_verify_names_what_leaks(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    scene.add(*map(item, range(12)))
    capsys.readouterr()
    assert scene.run("verify", *scene.places[2:4]) == 0
    version = store.versions(scene.data, NAME)[-1].version
    rows = {row["split"]: row for row in scene.rows()}
    deploy(scene.programs, NAME, scene.program(rows["train"], version).parent.name)
    assert scene.run("verify", *scene.places[2:4]) == 0
    leaking = scene.program(rows["test"], version)
    deploy(scene.programs, NAME, leaking.parent.name)
    capsys.readouterr()
    assert scene.run("verify", *scene.places[2:4]) == 1
    assert f"{leaking}: demonstration 1 is 100% like test example {rows['test']['id']}" in capsys.readouterr().out


def test_retiring_the_test_makes_a_version_at_once(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BadInputError, match="no versions in"):
        scene.run("retire-test", "--reason", "x")
    scene.add(*map(item, range(8)))
    capsys.readouterr()
    assert scene.run("retire-test", "--reason", "shown in a talk") == 0
    assert capsys.readouterr().out.strip() == store.versions(scene.data, NAME)[-1].version
    assert {row["split"] for row in scene.rows()} == {"train", "val"}
    assert scene.run("verify", *scene.places[2:4]) == 0
