"""Hold a batch of validated examples against its signature's quality thresholds.

Usage:
  python quality_gates.py --input /tmp/validated_data --signature extract_requirements --strict
  python quality_gates.py --input /tmp/validated_data --rebalance --output /tmp/balanced_data
  cat examples.jsonl | python quality_gates.py --input - --format text

Each check says its value, its target, its verdict and what to collect to pass. With --strict a failed check rejects
the batch (exit 1, `quality_gates: reject, reason: ...`); without it the batch passes with warnings. With --rebalance
the largest part of the batch that passes is judged instead, and written to --output. The report goes to stdout.

Exit codes: 0 accepted (perhaps with warnings), 1 rejected, or no examples to judge, 2 bad input.
"""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.base import cli
from flywheel.base.errors import NO, OK
from flywheel.base.text import one_line, visible
from flywheel.data.registry import all_signatures, chosen, one
from flywheel.data.shortage import allowed, shortage
from flywheel.data.signatures.types import Gate

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

    from flywheel.data.examples import Example, Rejection
    from flywheel.data.loading import Loaded
    from flywheel.data.shortage import Shortage
    from flywheel.data.signatures.types import Signature

# The thresholds: minimum quality of each example (0-100); 30/50/20 easy/medium/hard within 10 points, at least 3
# categories and at most 80 % from one source are the same for all (flywheel.data.signatures.types.Gate).
GATES = {
    "extract_requirements": Gate(min_quality=70.0),
    "validate_intent": Gate(min_quality=70.0),
    "validate_completeness": Gate(min_quality=75.0, check_label=True),
    "validate_correctness": Gate(min_quality=75.0),
    "generate_guidance": Gate(min_quality=80.0),
}
# Below this many examples a share says nothing: one example is more than the tolerance's half.
SMALL_SAMPLE = 20
PASS, FAIL, TOO_SMALL = "pass", "fail", "too small to judge"
ACCEPT, WARN, REJECT = "accept", "warn", "reject"


@dataclass(frozen=True)
class Check:
    """One check: what was found (as a number and in words), what was wanted, the verdict, what to collect to pass."""

    name: str
    value: float
    found: str
    target: str
    verdict: str
    reason: str = ""
    advice: str = ""


NOTHING = Check("examples", 0, "none", "at least 1", FAIL, "examples=0 < 1", "collect some examples first")


@dataclass(frozen=True)
class GateReport:
    """The outcome for one batch of one signature.

    `collect` is the least that would make all of its checks pass but the quality of what is there; None: nothing would.
    """

    signature: str
    examples: int
    strict: bool
    checks: tuple[Check, ...]
    collect: Shortage | None = None
    dropped: tuple[Rejection, ...] = ()

    @property
    def reasons(self) -> list[str]:
        """Why it is not simply accepted, e.g. `quality_score=65.0 < 70.0`."""
        return [check.reason for check in self.checks if check.verdict == FAIL]

    @property
    def verdict(self) -> str:
        """accept, warn (failed checks, not strict) or reject (failed checks, strict)."""
        failed = REJECT if self.strict else WARN
        return failed if self.reasons else ACCEPT

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON holds it."""
        checks = [asdict(check) for check in self.checks]
        head = {"signature": self.signature, "examples": self.examples, "strict": self.strict}
        collect = asdict(self.collect) if self.collect is not None else None
        body = {**head, "verdict": self.verdict, "reasons": self.reasons, "checks": checks, "collect": collect}
        if not self.dropped:
            return body
        counts = Counter(rejection.reason for rejection in self.dropped)
        listed = [{"index": r.index, "reason": r.reason, "detail": r.detail} for r in self.dropped]
        return {**body, "dropped": dict(sorted(counts.items())), "dropped_examples": listed}


def gate_of(signature: Signature) -> Gate:
    """The signature's own gate, else the table's, else the defaults."""
    return signature.gate or GATES.get(signature.name, Gate())


def above_minimum(signature: Signature, examples: Sequence[Example]) -> list[Example]:
    """The examples whose quality reaches the gate's minimum."""
    return [e for e in examples if (e.metadata.quality_score or 0.0) >= gate_of(signature).min_quality]


def below_minimum(signature: Signature, examples: Sequence[Example]) -> list[Rejection]:
    """The others, each with the reason `quality_below_gate`."""
    from flywheel.data.examples import Rejection

    least = gate_of(signature).min_quality
    return [
        Rejection("quality_below_gate", f"{e.metadata.quality_score or 0.0:.1f} < {least:.1f}", "", n, e.to_dict())
        for n, e in enumerate(examples)
        if (e.metadata.quality_score or 0.0) < least
    ]


def evaluate(signature: Signature, examples: Sequence[Example], *, strict: bool) -> GateReport:
    """Check a batch; the examples must have quality scores."""
    gate = gate_of(signature)
    checks = tuple(_checks(signature, gate, examples)) if examples else (NOTHING,)
    short = shortage(signature, gate, above_minimum(signature, examples), SMALL_SAMPLE)
    return GateReport(signature.name, len(examples), strict, checks, short)


def rebalance(signature: Signature, examples: Sequence[Example]) -> tuple[list[Example], list[Rejection]]:
    """The largest part of the batch that passes, in its order, and the rest with reasons; all of it where none does."""
    from flywheel.data.examples import Rejection
    from flywheel.data.rebalancing import cell_of, largest

    gate = gate_of(signature)
    kept = {id(e) for e in largest(signature, gate, above_minimum(signature, examples), SMALL_SAMPLE)}
    if not kept:
        return list(examples), []
    poor = below_minimum(signature, examples)
    known = {rejection.index for rejection in poor}
    surplus = [
        Rejection("surplus", str(cell_of(signature, gate, e)), "", n, e.to_dict())
        for n, e in enumerate(examples)
        if id(e) not in kept and n not in known
    ]
    return [e for e in examples if id(e) in kept], sorted([*poor, *surplus], key=lambda rejection: rejection.index)


def _checks(signature: Signature, gate: Gate, examples: Sequence[Example]) -> Iterator[Check]:
    yield _quality(gate, examples)
    for level, share in gate.difficulty.items():
        count = sum(e.metadata.difficulty == level for e in examples)
        yield _share(f"difficulty_{level}", count, len(examples), share, gate.tolerance, level)
    if gate.check_label and signature.label is not None:
        count = sum(bool(e.outputs[signature.label]) for e in examples)
        share, what = signature.label_share, f"{signature.label}=true"
        yield _share("completeness", count, len(examples), share, gate.tolerance, what)
    yield _categories(gate, examples)
    yield _source(gate, examples)


def _quality(gate: Gate, examples: Sequence[Example]) -> Check:
    scores = [e.metadata.quality_score or 0.0 for e in examples]
    lowest, below = min(scores), sum(score < gate.min_quality for score in scores)
    seen = "quality_score", lowest, f"lowest {lowest:.1f}", f"each at least {gate.min_quality:.1f}"
    if not below:
        return Check(*seen, PASS)
    reason = f"quality_score={lowest:.1f} < {gate.min_quality:.1f}"
    return Check(*seen, FAIL, reason, f"drop or mend the {below} example(s) below it")


def _share(name: str, count: int, total: int, target: float, tolerance: float, what: str) -> Check:
    """A share within tolerance of its target, half an example being no deviation at all."""
    value = count / total
    low, high = max(0.0, target - tolerance), min(1.0, target + tolerance)
    seen = name, round(value, 4), f"{count} of {total}, {value:.0%}", f"{100 * low:.0f}-{high:.0%}"
    least, most = allowed(low, high, total)
    if least <= count <= most:
        return Check(*seen, PASS)
    if total < SMALL_SAMPLE:
        return Check(*seen, TOO_SMALL, "", f"{SMALL_SAMPLE - total} more examples to judge it")
    reason = f"{name}={value:.2f} < {low:.2f}" if value < low else f"{name}={value:.2f} > {high:.2f}"
    return Check(*seen, FAIL, reason, _to_reach(count, total, low, high, what))


def _to_reach(count: int, total: int, low: float, high: float, what: str) -> str:
    """How to bring a share within its bounds: by more examples, where more of them can do it."""
    if count < low * total:
        more = math.ceil((low * total - count) / (1 - low)) if low < 1 else 0
        return f"{more} more {what} examples" if low < 1 else f"only {what} examples"
    more = math.ceil((count - high * total) / high) if high > 0 else 0
    return f"{more} more examples other than {what}" if high > 0 else f"no {what} examples at all"


def _categories(gate: Gate, examples: Sequence[Example]) -> Check:
    count = len({e.metadata.category for e in examples} - {None})
    seen = "categories", count, str(count), f"at least {gate.min_categories}"
    if count >= gate.min_categories:
        return Check(*seen, PASS)
    advice = f"examples of {gate.min_categories - count} more categories"
    return Check(*seen, FAIL, f"categories={count} < {gate.min_categories}", advice)


def _source(gate: Gate, examples: Sequence[Example]) -> Check:
    counts, total = Counter(e.metadata.source or "unknown" for e in examples), len(examples)
    source, count = min(counts.items(), key=lambda item: (-item[1], item[0]))
    value, limit = count / total, gate.max_source_share
    seen = (
        "sources",
        round(value, 4),
        f"{one_line(source, 12)} {count} of {total}, {value:.0%}",
        f"at most {limit:.0%} from one",
    )
    if count <= allowed(0.0, limit, total, slack=0.0)[1]:
        return Check(*seen, PASS)
    if total < SMALL_SAMPLE:
        return Check(*seen, TOO_SMALL, "", f"{SMALL_SAMPLE - total} more examples to judge it")
    others = f"sources other than {source}"
    more = math.ceil(count / limit - total) if limit > 0 else 0
    advice = f"{more} more examples from {others}" if limit > 0 else f"only {others}"
    return Check(*seen, FAIL, f"source_{source}={value:.2f} > {limit:.2f}", advice)


def describe(report: GateReport) -> Iterator[str]:
    """The report in lines for people, the last of them for programs too."""
    yield f"{report.signature}: {report.examples} examples"
    marks = {PASS: "pass", FAIL: "FAIL", TOO_SMALL: "few"}
    for check in report.checks:
        yield f"  {marks[check.verdict]:4}  {check.name:18} {check.found:26} {check.target}"
        if check.advice:
            yield f"        {'to pass' if check.verdict == FAIL else TOO_SMALL}: {check.advice}"
    for reason, count in sorted(Counter(rejection.reason for rejection in report.dropped).items()):
        yield f"  dropped  {count} {reason}"
    yield from _advice(report)
    yield f"quality_gates: {report.verdict}" + (f", reason: {'; '.join(report.reasons)}" if report.reasons else "")


def _advice(report: GateReport) -> Iterator[str]:
    failed = {check.name for check in report.checks if check.verdict == FAIL}
    if failed and report.collect is None:
        yield "  collect  another batch: no further examples make this one pass"
    elif failed - {"quality_score", "examples"} and report.collect is not None and report.collect.examples:
        after = "instead of those below the least quality, " if "quality_score" in failed else ""
        yield from textwrap.wrap(
            f"{after}{report.collect}", 80, initial_indent="  collect  ", subsequent_indent=" " * 11
        )


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__ or "")
    where = "files or folders of examples; - reads them from stdin, as JSON or JSONL"
    parser.add_argument("--input", required=True, nargs="+", metavar="PATH", help=where)
    parser.add_argument("--signature", metavar="NAME", help="judge only this signature (default: all that are found)")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--strict", action="store_true", help="a failed check rejects the batch (for production)")
    mode.add_argument("--no-strict", dest="strict", action="store_false", help="warn but accept (the default)")
    part = "judge the largest part of the batch that passes, and say what it leaves out"
    parser.add_argument("--rebalance", action="store_true", help=part)
    target = "with --rebalance: folder for that part, and for the rest as rejected.jsonl"
    parser.add_argument("--output", metavar="DIR", help=target)
    parser.add_argument("--report", metavar="FILE", help="also write the JSON report here")
    parser.add_argument("--format", choices=("json", "text"), default="json", help="of the report on stdout")
    cli.add_signature_file(parser)
    return parser


def _load(args: argparse.Namespace, table: Mapping[str, Signature], only: Signature | None) -> Loaded:
    from flywheel.data.loading import load_examples

    loaded = load_examples([Path(path) for path in args.input], table, only)
    if loaded.rejected:
        counts = Counter(rejection.reason for rejection in loaded.rejected)
        why = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
        cli.say(f"left out {len(loaded.rejected)} malformed example(s): {why}; data_validator.py lists them")
    return loaded


def _write_rebalanced(folder: Path, kept: Mapping[str, Sequence[Example]], dropped: Sequence[Rejection]) -> None:
    from flywheel.base.files import write_atomic
    from flywheel.base.paths import private_folder
    from flywheel.data.examples import REJECTED_FILE, write_examples

    private_folder(folder)
    for name, examples in kept.items():
        write_examples(folder / f"{name}.json", examples)
    write_atomic(folder / REJECTED_FILE, "".join(rejection.to_json_line() for rejection in dropped))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring for exit codes."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.output and not args.rebalance:
        parser.error("--output is for --rebalance; --report writes the report")

    from flywheel.base.files import to_json, write_atomic
    from flywheel.data.scoring import score_missing

    table = all_signatures(args.signature_file)
    only = one(table, args.signature) if args.signature else None
    loaded = _load(args, table, only)
    wanted = [only] if only else chosen(table, list(loaded.examples)) if loaded.examples else []
    if not wanted:
        cli.say(f"no examples to judge in {len(loaded.files)} file(s)")
    reports, kept = [], {}
    for signature in wanted:
        examples = score_missing(signature, loaded.examples.get(signature.name, []))
        dropped: list[Rejection] = []
        if args.rebalance:
            examples, dropped = rebalance(signature, examples)
        kept[signature.name] = examples
        reports.append(replace(evaluate(signature, examples, strict=args.strict), dropped=tuple(dropped)))
        for line in describe(reports[-1]):
            (cli.say if args.format == "json" else cli.emit)(visible(line))
    if args.output:
        _write_rebalanced(Path(args.output), kept, [rejection for report in reports for rejection in report.dropped])
    text = to_json([report.to_dict() for report in reports])
    if args.report:
        write_atomic(Path(args.report), text)
    if args.format == "json":
        cli.emit(text.rstrip())
    refused = any(report.verdict == REJECT or report.examples == 0 for report in reports)
    return NO if refused or not reports else OK


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
