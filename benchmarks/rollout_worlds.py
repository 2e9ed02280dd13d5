"""The worlds in which rollouts are simulated: how both arms behave, what befalls them, and what is to be reached."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from flywheel.serving.rule import ERRORS, LATENCY, QUALITY, RolloutConfig

FUZZ_DEADLINE_FACTOR = 2
# Bounds of latency histograms in ms: the Python client library's own, and a service's that fit its calls and timeout.
LIBRARY_BOUNDS = (5, 10, 25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10_000)
FITTED_BOUNDS = (100, 250, 500, 750, 1000, 1500, 2000, 3000, 5000, 7500, 10_000, 15_000, 30_000, 60_000)


@dataclass(frozen=True)
class Arm:
    """How one arm behaves: errors a call, lognormal latency plus a shift, a slow tail, beta quality."""

    errors: float = 0.05
    median_ms: float = 1500
    sigma: float = 0.7
    shift_ms: float = 0
    tail_fraction: float = 0
    tail_ms: float = 0
    quality: float = 0.80
    quality_sd: float = 0.15


@dataclass(frozen=True)
class Goal:
    """A limit on one measure of a world; `at_most` or at least."""

    measure: str
    limit: float
    at_most: bool = True


@dataclass(frozen=True)
class World:
    """Two arms and what befalls both: an outage (all calls fail) or a fall of quality, at a random time.

    `units`: so many users of unequal zeal, each with error rate and speed of its own, routed by user; 0: by call.
    `stuck`: the share that routers use, whatever the stage's is; 0: the stage's. `lost`: of so many of the candidate's
    users, as a fraction, no record comes. `bounds`: metrics come from Prometheus, whose latency histogram has these;
    empty: from interaction records. `rollouts`: how many make its figures sure enough.
    """

    name: str
    candidate: Arm = Arm()
    baseline: Arm = Arm()
    goals: tuple[Goal, ...] = ()
    tick_seconds: float = 60
    bursty: bool = False
    outage_minutes: float = 0
    quality_fall: float = 0
    fall_minutes: float = 0
    point: bool = False
    fuzzed: bool = False
    units: int = 0
    stuck: float = 0
    lost: float = 0
    bounds: tuple[float, ...] = ()
    rollouts: int = 2_000
    config: RolloutConfig = field(init=False)

    def __post_init__(self) -> None:
        required, factor = (ERRORS, LATENCY, QUALITY), FUZZ_DEADLINE_FACTOR if self.fuzzed else 6
        config = RolloutConfig(required=required, tick_seconds=self.tick_seconds, deadline_factor=factor)
        object.__setattr__(self, "config", config)


def same(name: str, arm: Arm, *, false_goal: bool = True, **more: object) -> World:
    """A world in which the candidate equals its baseline."""
    goals = (Goal("rolled back", 0.5),) if false_goal else ()
    return World(name, arm, arm, goals, **more)  # type: ignore[arg-type]


def without_goal(*worlds: World) -> tuple[World, ...]:
    """Worlds that are told for comparison."""
    return tuple(replace(world, rollouts=500) for world in worlds)


MANY = 10_000
NONE_SHIPPED = Goal("reached 100 %", 0)
HEAVY = Arm(median_ms=2000, sigma=1.0)
GUARDED = (
    same("identical", Arm(), rollouts=MANY),
    same("identical, heavy latency (2 s, sigma 1.0)", HEAVY, rollouts=MANY),
    same("identical, 1 % errors", Arm(errors=0.01), rollouts=MANY),
    same("identical, 20 % errors", Arm(errors=0.20), rollouts=MANY),
    same("identical, bursty traffic", Arm(), bursty=True, rollouts=MANY),
    same("shared outage, both arms down 20 min", Arm(), outage_minutes=20),
    World("+6 pp errors", Arm(errors=0.11), goals=(Goal("rolled back", 85, at_most=False), NONE_SHIPPED)),
    World("+10 pp errors", Arm(errors=0.15), goals=(Goal("rolled back", 99, at_most=False), Goal("p95 calls", 350))),
    World("+700 ms", Arm(shift_ms=700), goals=(Goal("rolled back", 99, at_most=False), Goal("p95 calls", 150))),
    World("dead candidate, tick 5 s", Arm(errors=1.0), goals=(Goal("p95 calls", 15),), tick_seconds=5),
    World("dead candidate, tick 60 s", Arm(errors=1.0), goals=(Goal("p95 calls", 15),)),
    World("fuzzed metrics", goals=(NONE_SHIPPED,), fuzzed=True, rollouts=MANY),
)
FOR_COMPARISON = without_goal(
    World("+2 pp errors (not harm)", Arm(errors=0.07)),
    World("5 % of calls +14 s", Arm(tail_fraction=0.05, tail_ms=14_000)),
    World("quality .65 against .80, sd .15", Arm(quality=0.65)),
    World("quality .65 against .80, sd .30", Arm(quality=0.65, quality_sd=0.30), Arm(quality_sd=0.30)),
    World("quality .65 against .72, sd .15", Arm(quality=0.65), Arm(quality=0.72)),
    World("quality .75 against .80, sd .15 (not harm)", Arm(quality=0.75)),
    same("quality .80 both, sd .30", Arm(quality_sd=0.30), false_goal=False),
    same("quality .65 both", Arm(quality=0.65), false_goal=False),
    same("quality of both -.40 for 60 min", Arm(), false_goal=False, quality_fall=0.40, fall_minutes=60),
    same("identical, point rule", Arm(), false_goal=False, point=True),
)
BY_USER = without_goal(
    same("identical, 200 users", Arm(), false_goal=False, units=200),
    same("identical, 2,000 users", Arm(), false_goal=False, units=2000),
    World("+10 pp errors, 200 users", Arm(errors=0.15), units=200),
    World("+700 ms, 200 users", Arm(shift_ms=700), units=200),
    World("dead candidate, 200 users", Arm(errors=1.0), units=200),
    World("routers stay at 10 %, 200 users", units=200, stuck=0.10),
    World("half of the candidate's users lost, 200 users", units=200, lost=0.5),
    World("half of the candidate's users lost, 2,000 users", units=2000, lost=0.5),
)
PROMETHEUS = without_goal(
    same("Prometheus, identical", Arm(), false_goal=False, bounds=FITTED_BOUNDS),
    same("Prometheus, identical, the library's buckets", Arm(), false_goal=False, bounds=LIBRARY_BOUNDS),
    same("Prometheus, identical, heavy latency", HEAVY, false_goal=False, bounds=FITTED_BOUNDS),
    World("Prometheus, +700 ms", Arm(shift_ms=700), bounds=FITTED_BOUNDS),
    World("Prometheus, +700 ms, the library's buckets", Arm(shift_ms=700), bounds=LIBRARY_BOUNDS),
    World("Prometheus, 5 % of calls +14 s", Arm(tail_fraction=0.05, tail_ms=14_000), bounds=FITTED_BOUNDS),
    World("Prometheus, quality .65 against .80, sd .15", Arm(quality=0.65), bounds=FITTED_BOUNDS),
    World(
        "Prometheus, quality .65 against .80, sd .30",
        Arm(quality=0.65, quality_sd=0.30),
        Arm(quality_sd=0.30),
        bounds=FITTED_BOUNDS,
    ),
)
WORLDS = (*GUARDED, *FOR_COMPARISON, *BY_USER, *PROMETHEUS)
