"""A rollout's surroundings for tests: a clock that passes when told, a desk that runs commands, real traffic."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ab_testing_framework import main
from flywheel.base.programs import Program, ProgramField, ProgramScores, publish
from flywheel.serving.router import Router
from flywheel.serving.stage_clock import Moment
from flywheel.serving.telemetry import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from flywheel.serving.router import Choice

SIGNATURE = "extract_requirements"
QUICK = {"stages": [20, 50, 100], "stage_minutes": 2, "min_calls": 60}


@dataclass
class Clock:
    """Both clocks of a machine."""

    wall_ms: int = 1_790_000_000_000
    monotonic_s: float = 1000.0
    boot_id: str = "boot-1"

    def __call__(self) -> Moment:
        return Moment(self.wall_ms, self.monotonic_s, self.boot_id)

    def passes(self, seconds: float) -> None:
        self.wall_ms += round(seconds * 1000)
        self.monotonic_s += seconds


@dataclass
class Desk:
    """Where an operator sits: commands by `main`, in folders of their own."""

    root: Path
    capsys: pytest.CaptureFixture[str]
    clock: Clock = field(default_factory=Clock)

    @property
    def experiments(self) -> Path:
        return self.root / "experiments"

    @property
    def routing_path(self) -> Path:
        return self.experiments / "routing_config.json"

    @property
    def folders(self) -> list[str]:
        return [
            f"--experiments-dir={self.experiments}",
            f"--telemetry-dir={self.root / 'telemetry'}",
            f"--programs-dir={self.root / 'programs'}",
        ]

    def run(self, command: str, *args: str) -> Any:
        """The command's JSON; its exit code must be 0."""
        self.capsys.readouterr()
        assert main([command, *args, *self.folders], self.clock) == 0
        self.said, out = (found := self.capsys.readouterr()).err, found.out
        return json.loads(out)

    def start(self, experiment_id: str = "exp", signature: str = SIGNATURE, **config: Any) -> Any:
        settings = self.root / "config.json"
        settings.write_text(json.dumps({**QUICK, **config}))
        baseline, candidate = self.module("baseline"), self.module("candidate")
        names = ["--experiment-id", experiment_id, "--signature", signature, "--config", str(settings)]
        return self.run("start", *names, "--baseline", str(baseline), "--candidate", str(candidate))

    def module(self, name: str) -> Path:
        path = self.root / f"{name}.json"
        path.write_text("{}")
        return path

    def record(self, experiment_id: str = "exp") -> Any:
        return json.loads((self.experiments / f"experiment_{experiment_id}.json").read_text())

    def routes(self) -> dict[str, Any]:
        return {route["signature"]: route for route in json.loads(self.routing_path.read_text())["routes"]}

    def share(self, signature: str = SIGNATURE) -> float:
        share: float = self.routes()[signature]["candidate_traffic_percent"]
        return share

    def monitor(self, experiment_id: str = "exp") -> Any:
        return self.run("monitor", "--experiment-id", experiment_id)


class Service:
    """Calls through the real router and recorder, under the desk's clock.

    `unit` gives the unit of the n-th call, by default a new one; `known_as` the id that is recorded, where that is not
    the one routed by.
    """

    def __init__(
        self,
        desk: Desk,
        serve: Callable[[Choice], str | None] = lambda _: None,
        known_as: Callable[[int], str] | None = None,
        unit: Callable[[int], str] = lambda number: f"user-{number}",
    ) -> None:
        self._unit = unit
        self._known_as = known_as
        self._clock = desk.clock
        self._serve = serve
        self.recorder = Recorder(desk.root / "telemetry", sample_percent=0, flush_seconds=3600)
        self.router = Router(
            desk.routing_path,
            programs=desk.root / "programs",
            default="built-in",
            telemetry=self.recorder,
            clock=lambda: desk.clock.monotonic_s,
            now_ms=lambda: desk.clock.wall_ms,
        )
        self._units = 0
        self.score: Callable[[Choice], float | None] = lambda _: None

    def one(self, signature: str = SIGNATURE) -> Choice:
        """One call; it takes a tenth of a second."""
        self._units += 1
        with self.router.call(signature, self._unit(self._units)) as call:
            call.error = self._serve(call.choice)
            call.quality = self.score(call.choice)
            if self._known_as is not None:
                call._unit_id = self._known_as(self._units)
            self._clock.passes(0.1)
        return call.choice

    def minute(self, calls: int = 150, signature: str = SIGNATURE) -> None:
        """A minute of traffic, the first seconds quiet: routers are still following the last change."""
        self._clock.passes(60 - calls / 10)
        for _ in range(calls):
            self.one(signature)
        self.recorder.flush()


def candidates_fail(choice: Choice) -> str | None:
    return "ValueError" if choice.variant == "candidate" else None


def stored_program(
    desk: Desk, signature: str = SIGNATURE, instructions: str = "Do it.", dataset_version: str = "v20260101_000000"
) -> Path:
    """One of our own envelopes, published."""
    program = Program(
        signature=signature,
        fields=(ProgramField("user_intent", "input", "str", "An intent"),),
        instructions=instructions,
        demos=(),
        adapter="ChatAdapter",
        model="m",
        model_snapshot=None,
        model_parameters={},
        optimizer="miprov2",
        seed=0,
        dataset_version=dataset_version,
        dataset_hash="h",
        run_id="run_20260101_000000",
        created="2026-01-01T00:00:00+00:00",
        scores=ProgramScores(0.4, 0.5, 25.0, (1.0, 40.0), 50),
        state={},
    )
    return publish(desk.root / "programs", program, desk.clock().date)
