"""What the operator says of an experiment that is to begin; `--help` imports this, so it imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flywheel.base import cli
from flywheel.base.errors import BadInputError

if TYPE_CHECKING:
    import argparse

RULES = ("evidence", "point")
METRICS = ("records", "prometheus")


@dataclass(frozen=True)
class Order:
    """What to start: paths as they were given (`baseline` None: the deployed program), a holdback in percent."""

    experiment_id: str
    signature: str
    baseline: str | None
    candidates: tuple[str, ...]
    config: str | None
    rule: str
    holdback: float | None
    metrics: str
    prometheus_url: str | None


def order_of(args: argparse.Namespace) -> Order:
    """The order that a command line with `add_start`'s flags gives.

    Raises:
        BadInputError: a flag that would do nothing.
    """
    for flag in ("model", "api_base", "max_cost", "max_calls"):
        if args.shadow is None and getattr(args, flag) is not None:
            msg = f"--{flag.replace('_', '-')} is for --shadow N; without it no model is asked"
            raise BadInputError(msg)
    if args.join and args.shadow is not None:
        raise BadInputError("--join with --shadow: replay the candidate in an experiment of its own")
    for flag in ("config", "holdback", "prometheus_url", "metrics", "rule"):
        if args.join and getattr(args, flag) is not None:
            msg = f"--{flag.replace('_', '-')} with --join: the experiment keeps the settings it was started with"
            raise BadInputError(msg)
    return Order(
        experiment_id=args.experiment_id,
        signature=args.signature,
        baseline=args.baseline,
        candidates=tuple(args.candidate),
        config=args.config,
        rule=RULES[0] if args.rule is None else args.rule,
        holdback=args.holdback,
        metrics=METRICS[0] if args.metrics is None else args.metrics,
        prometheus_url=args.prometheus_url,
    )


def add_start(sub: argparse.ArgumentParser) -> None:
    """The flags of start."""
    sub.add_argument("--signature", required=True, metavar="NAME", help="the signature whose traffic is split")
    serving = sub.add_mutually_exclusive_group(required=True)
    serving.add_argument("--baseline", metavar="FILE", help="the program that serves now")
    serving.add_argument("--champion", choices=("deployed",), help="take the deployed program as the baseline")
    serving.add_argument("--join", action="store_true", help="add the candidate to the live experiment of this id")
    several = "the program to roll out; several times: they share the traffic, and the best one goes on"
    sub.add_argument("--candidate", required=True, action="append", metavar="FILE", help=several)
    kept = "after the last stage keep so much on the baseline, guarded, until `promote` (0-50)"
    sub.add_argument("--holdback", type=cli.positive_number, metavar="PERCENT", help=kept)
    first = "before any user meets them, replay so many recorded calls through baseline and candidates"
    sub.add_argument("--shadow", type=cli.positive_int, metavar="N", help=first)
    sub.add_argument("--model", metavar="NAME", help="for --shadow: any DSPy model name (environment: FLYWHEEL_MODEL)")
    sub.add_argument("--api-base", metavar="URL", help="for --shadow: an OpenAI-compatible server")
    sub.add_argument("--max-cost", type=cli.positive_number, metavar="USD", help="for --shadow: what it may spend")
    sub.add_argument("--max-calls", type=cli.positive_int, metavar="N", help="for --shadow: how often it may ask")
    cli.add_signature_file(sub)
    sub.add_argument("--config", metavar="FILE", help="JSON of stages, stage_minutes, min_calls, thresholds, required")
    sub.add_argument("--metrics", choices=METRICS, help="interaction records (default), or Prometheus")
    sub.add_argument("--prometheus-url", metavar="URL", help="its address; queries and times: `prometheus` in --config")
    sub.add_argument("--rule", choices=RULES, help="evidence (default), or the bare thresholds")
