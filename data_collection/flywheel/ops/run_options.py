"""What a run of the cycle is asked for: its settings, their defaults, and the flags that set them."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from flywheel.base import cli, paths
from flywheel.base.run_settings import ALL, Options
from flywheel.data.registry import signature_files
from flywheel.ops.evaluation_options import add_evaluation_options
from flywheel.ops.search_options import add_optimizers, fewest_candidates
from flywheel.ops.spend_options import add_limits

if TYPE_CHECKING:
    import argparse

__all__ = ["ALL", "Options", "add_options", "options_of"]

TERMINATED = "terminated"
API_BASE_VARIABLE = "FLYWHEEL_API_BASE"
# What is gone on with unasked: a run this young, and not cut short again and again.
OLDEST_DAYS, MOST_RESUMPTIONS = 7, 3
NORMAL = {"git_target": 30, "synthetic_target": 20, "trials": 50, "candidates": 10, "demos": 4}
# --quick: what a small model on two cores gets through within minutes.
QUICK = {"git_target": 20, "synthetic_target": 12, "trials": 4, "candidates": 3, "demos": 2}
DEFAULT_THREADS, DEFAULT_CONCURRENCY = 8, 32
EXECUTORS = ("local", "ray")


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
    add("--model", metavar="NAME", help="any DSPy model name, such as openai/gpt-5 (environment: FLYWHEEL_MODEL)")
    add("--api-base", metavar="URL", help="an OpenAI-compatible server (environment: FLYWHEEL_API_BASE)")
    add("--require-model", action="store_true", help="fail rather than fall back to the embedded model")
    add("--quick", metavar="NAME", help="a short search, for NAME or all; of the others, a few items' baseline")
    add_limits(parser)

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
    add_resuming(parser)


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


def add_resuming(parser: argparse.ArgumentParser) -> None:
    """Going on with a run that was cut short, on request or by cron."""
    add = parser.add_argument_group("after a crash").add_argument
    again = (
        "go on with a run that was cut short, with its own settings: its id, its folder, latest, or unfinished (the "
        f"newest that was cut short in the last {OLDEST_DAYS} days, if any); what was answered is not asked again"
    )
    add("--resume", metavar="RUN", help=again)
    add("--retry-failed", action="store_true", help="with --resume: ask again what failed for good, after a new key")


def without_login(address: str | None) -> str | None:
    """The address as it may be written down: without the user and password that it may hold."""
    if not address:
        return None
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def options_of(args: argparse.Namespace, model: str) -> Options:
    """The settings that the command line asks for, with --quick's where it is given."""
    defaults = NORMAL if args.quick is None else QUICK
    given = {field.name: getattr(args, field.name) for field in fields(Options) if hasattr(args, field.name)}
    settled = {
        **{name: given[name] or size for name, size in defaults.items()},
        "model": model,
        "api_base": without_login(args.api_base or os.environ.get(API_BASE_VARIABLE)),
        "repo_path": str(Path(args.repo_path).absolute()),
        "signature_file": tuple(str(path) for path in signature_files(args.signature_file)),
        "timeout_hours": args.timeout,
        "data_dir": str(paths.DATASETS.resolve(args.data_dir)),
        "programs_dir": str(paths.PROGRAMS.resolve(args.programs_dir)),
        "experiments_dir": str(paths.EXPERIMENTS.resolve(args.experiments_dir)),
    }
    # What argparse took as it is has the options' names; the rest is settled here.
    return Options(**{**given, **settled})
