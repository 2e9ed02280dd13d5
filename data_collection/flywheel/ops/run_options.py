"""What a run of the cycle is asked for: its settings, their defaults, and the flags that set them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from flywheel.base import cli, paths
from flywheel.ops.evaluation_options import add_evaluation_options
from flywheel.ops.search_options import add_optimizers, fewest_candidates

if TYPE_CHECKING:
    import argparse

NORMAL = {"git_target": 30, "synthetic_target": 20, "trials": 50, "candidates": 10, "demos": 4}
# --quick: what a small model on two cores gets through within minutes.
QUICK = {"git_target": 20, "synthetic_target": 12, "trials": 4, "candidates": 3, "demos": 2}
QUICK_SECONDS = 200.0
DEFAULT_THREADS, DEFAULT_CONCURRENCY, DEFAULT_TIMEOUT_HOURS = 8, 32, 2.0
ALL = "all"
EXECUTORS = ("local", "ray")


@dataclass(frozen=True)
class Options:
    """A run's settings, as the summary's config records them."""

    model: str
    git_target: int
    synthetic_target: int
    since_days: int
    repo_path: str
    trials: int
    candidates: int
    demos: int
    optimizer: tuple[str, ...]
    plateau_trials: int
    reflection_model: str | None
    threads: int
    workers: int | None
    max_concurrency: int
    executor: str
    ray_address: str | None
    seed: int
    strict: bool
    min_improvement: float
    max_cost_growth: float
    max_latency_growth: float
    decision: str
    allow_synthetic_test: bool
    require_power: bool
    quick: str | None
    split: tuple[float, float, float] | None
    temporal_holdout: bool
    timeout_hours: float
    data_dir: str
    programs_dir: str
    retest: bool
    floor: bool
    start_ab: bool
    experiments_dir: str
    judge: str | None
    judge_api_base: str | None
    force_judge: bool
    reveal_test: bool
    mlflow: str | None


def _size(name: str, text: str) -> dict[str, Any]:
    return {"type": cli.positive_int, "metavar": "N", "help": f"{text} (default: {NORMAL[name]})"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The flags of a run, by what they bear on."""
    data = parser.add_argument_group("collecting")
    add = data.add_argument
    add("--git-target", **_size("git_target", "examples from git, for each signature"))
    add("--synthetic-target", **_size("synthetic_target", "synthetic examples, for each signature"))
    add("--since-days", type=cli.positive_int, default=90, metavar="DAYS", help="how far back to mine")
    add("--repo-path", default=".", metavar="DIR", help="repository to mine")
    add(
        "--split",
        type=cli.split_fractions,
        metavar="TRAIN/VAL/TEST",
        help="percent for new groups (default: see manual)",
    )
    newest = "the newest new commits and calls go to test"
    add("--temporal-holdout", action="store_true", help=newest)
    add("--no-strict", dest="strict", action="store_false", help="gates warn instead of rejecting a batch")
    cli.add_signatures(data)
    cli.add_place(data, "--data-dir", paths.DATASETS)

    search = parser.add_argument_group("optimizing")
    add = search.add_argument
    add("--trials", **_size("trials", "most trials of a search; see --plateau-trials"))
    tried = {**_size("candidates", "instructions and sets of demonstrations tried"), "type": fewest_candidates}
    add("--candidates", **tried)
    add("--demos", **_size("demos", "most demonstrations of each kind, bootstrapped and labelled"))
    add_optimizers(search)
    add(
        "--threads",
        type=cli.positive_int,
        default=DEFAULT_THREADS,
        metavar="N",
        help="model calls side by side, a signature",
    )
    _add_spread(search)
    add("--seed", type=cli.positive_int, default=9, metavar="N", help="of the search and of the resampling")
    add("--timeout", type=cli.number, default=DEFAULT_TIMEOUT_HOURS, metavar="HOURS", help="for each signature")
    add("--model", metavar="NAME", help="any DSPy model name, such as openai/gpt-5 (environment: FLYWHEEL_MODEL)")
    add("--api-base", metavar="URL", help="an OpenAI-compatible server (environment: FLYWHEEL_API_BASE)")
    add("--require-model", action="store_true", help="fail rather than fall back to the embedded model")
    add("--quick", metavar="NAME", help="a short search, for NAME or all; of the others, a few items' baseline")

    decide = parser.add_argument_group("deciding")
    add = decide.add_argument
    add("--min-improvement", type=cli.number, default=5.0, metavar="PERCENT", help="smallest improvement to deploy")
    more = "most that a better program may cost, as a multiple of the baseline's cost of an example"
    add("--max-cost-growth", type=cli.positive_number, default=1.5, metavar="TIMES", help=more)
    slower = "most that a better program's examples may take longer"
    add("--max-latency-growth", type=cli.number, default=500.0, metavar="MS", help=slower)
    add("--decision", choices=("interval", "point"), default="interval", help="point ignores interval and p-value")
    add("--allow-synthetic-test", action="store_true", help="deploy even if most test examples are synthetic")
    add("--require-power", action="store_true", help="refuse to optimize with fewer than 40 test examples")
    anew = "give up a candidate that waits for fresh test examples, and search anew"
    add("--no-retest", dest="retest", action="store_false", help=anew)
    beside = "do not test labelled examples alone beside the optimized program"
    add("--no-floor", dest="floor", action="store_false", help=beside)
    add("--start-ab", action="store_true", help="roll a better program out from 10 percent, instead of deploying it")
    cli.add_place(decide, "--output-dir", paths.RUNS)
    cli.add_place(decide, "--programs-dir", paths.PROGRAMS)
    cli.add_place(decide, "--experiments-dir", paths.EXPERIMENTS)
    add_evaluation_options(parser)


def _add_spread(search: Any) -> None:
    """The flags that say how much is done at once, and where."""
    add = search.add_argument
    most = "model calls under way at once, in all processes together"
    add("--max-concurrency", type=cli.positive_int, default=DEFAULT_CONCURRENCY, metavar="N", help=most)
    processes = "signatures side by side (default: as many as the model's latency allows; embedded model: 1)"
    add("--workers", type=cli.positive_int, metavar="N", help=processes)
    where = "where: processes of this machine, or tasks of Ray (an extra)"
    add("--executor", choices=EXECUTORS, default=EXECUTORS[0], help=f"{where} (default: %(default)s)")
    add("--ray-address", metavar="HOST:PORT", help="a running Ray cluster (default: one is started here for the run)")


def options_of(args: argparse.Namespace, model: str) -> Options:
    """The settings that the command line asks for, with --quick's where it is given."""
    defaults = NORMAL if args.quick is None else QUICK
    given = {field.name: getattr(args, field.name) for field in fields(Options) if hasattr(args, field.name)}
    settled = {
        **{name: given[name] or size for name, size in defaults.items()},
        "model": model,
        "timeout_hours": args.timeout,
        "data_dir": str(paths.DATASETS.resolve(args.data_dir)),
        "programs_dir": str(paths.PROGRAMS.resolve(args.programs_dir)),
        "experiments_dir": str(paths.EXPERIMENTS.resolve(args.experiments_dir)),
    }
    # What argparse took as it is has the options' names; the rest is settled here.
    return Options(**{**given, **settled})
