"""Check examples against their signature's schema, score their quality, drop repeats.

Usage:
  python data_validator.py --input /tmp/raw_data --output /tmp/validated_data

Reads JSON arrays and JSONL files (a folder's *.json and *.jsonl), writes OUTPUT/<signature>.json with what passed,
OUTPUT/rejected.jsonl with every rejected example and its reason, and OUTPUT/reports/validation_report.json. The
report's counts also go to stdout as JSON.

Exit codes: 0 at least one example passed, 1 none did, 2 bad input.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.base import cli
from flywheel.base.errors import NO, OK
from flywheel.data.registry import all_signatures, chosen

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from flywheel.data.examples import Example, Rejection
    from flywheel.data.signatures.types import Signature

# Two examples whose normalised inputs are at least this alike (0-1) and have the same label are one; the newer goes.
FUZZY_THRESHOLD = 0.85
# An example without a difficulty gets one by the words of its inputs and outputs.
EASY_WORDS, MEDIUM_WORDS = 60, 160
UNCATEGORIZED = "uncategorized"
EXAMPLE_FILE_SUFFIX = ".json"


@dataclass(frozen=True)
class Validated:
    """What a validation found: accepted examples by signature, and every rejection."""

    accepted: dict[str, list[Example]]
    rejected: list[Rejection]
    reasons: dict[str, Counter[str]]

    def report(self) -> dict[str, Any]:
        """The counts, by signature and by reason."""
        by_signature = {
            name: {
                "accepted": len(self.accepted.get(name, [])),
                "rejected": dict(sorted(self.reasons.get(name, Counter()).items())),
                "mean_quality": _mean_quality(self.accepted.get(name, [])),
            }
            for name in sorted(self.accepted.keys() | self.reasons.keys())
        }
        total = dict(sorted(Counter(rejection.reason for rejection in self.rejected).items()))
        return {"signatures": by_signature, "rejected": total}


def _mean_quality(examples: Sequence[Example]) -> float | None:
    scores = [e.metadata.quality_score for e in examples if e.metadata.quality_score is not None]
    return round(sum(scores) / len(scores), 1) if scores else None


def assign_difficulty(example: Example) -> str:
    """easy, medium or hard by how much there is to read."""
    from flywheel.data.duplicates import text_of

    words = len(text_of([example.inputs, example.outputs]).split())
    return "easy" if words <= EASY_WORDS else "medium" if words <= MEDIUM_WORDS else "hard"


def normal_category(category: str | None) -> str:
    """`Bug Fix` -> `bug-fix`; none at all -> `uncategorized`."""
    return re.sub(r"[^a-z0-9]+", "-", (category or "").lower()).strip("-") or UNCATEGORIZED


def _completed(example: Example) -> Example:
    difficulty = example.metadata.difficulty or assign_difficulty(example)
    return example.with_metadata(difficulty=difficulty, category=normal_category(example.metadata.category))


def _unsound(signature: Signature, examples: Sequence[Example]) -> dict[int, tuple[str, str]]:
    """Positions of examples that hold a secret, or repeat or contradict an earlier one, with reason and detail."""
    from flywheel.base.redact import findings
    from flywheel.data.duplicates import input_text, label_of, near_pairs, repeats, text_of

    found: dict[int, tuple[str, str]] = {}
    for position, example in enumerate(examples):
        secrets = findings(text_of([example.inputs, example.outputs]))
        if secrets:
            found[position] = ("secret_detected", f"looks like: {', '.join(sorted(secrets))}")
    near = near_pairs([input_text(signature, e.inputs) for e in examples], FUZZY_THRESHOLD)
    for pair in near:
        older, newer = examples[pair.older], examples[pair.newer]
        standing = pair.older not in found and pair.newer not in found
        if standing and older.inputs == newer.inputs and label_of(signature, older) != label_of(signature, newer):
            found[pair.newer] = ("conflicting_label", "the same inputs stand earlier with another label")
    # What was turned away repeats nothing: a clean example must not go because an unsound one stood before it.
    sound = [pair for pair in near if pair.older not in found and pair.newer not in found]
    for position, pair in repeats(signature, examples, sound).items():
        found[position] = ("duplicate", f"{pair.ratio:.0%} like an earlier example of the same label")
    return found


def validate(paths: Sequence[Path], table: Mapping[str, Signature], only: Sequence[Signature] = ()) -> Validated:
    """Validate the examples in `paths`; with `only`, those of other signatures are left out.

    Raises:
        BadInputError: a missing path or a file that is not JSON.
    """
    from flywheel.data.examples import Rejection
    from flywheel.data.loading import load_examples
    from flywheel.data.scoring import score_missing

    loaded = load_examples(paths, table)
    # A signature of which nothing passed gets an empty file too: an earlier run's examples must not stay in its place.
    seen = [*loaded.examples, *(name for name in loaded.rejected_by_signature if name not in loaded.examples)]
    wanted = {signature.name for signature in only} or set(seen)
    accepted: dict[str, list[Example]] = {}
    for name in filter(wanted.__contains__, seen):
        examples = [_completed(example) for example in loaded.examples.get(name, [])]
        unsound = _unsound(table[name], examples)
        for position, (reason, detail) in unsound.items():
            file, index = loaded.origins[name][position]
            loaded.reject(name, Rejection(reason, detail, str(file), index, examples[position].to_dict()))
        kept = [example for position, example in enumerate(examples) if position not in unsound]
        accepted[name] = score_missing(table[name], kept)
    return Validated(accepted, loaded.rejected, loaded.rejected_by_signature)


def write(output: Path, validated: Validated) -> None:
    """Write accepted examples, rejects and the report under `output`; files of other names stay as they are."""
    from flywheel.base.files import write_atomic, write_json
    from flywheel.base.paths import private_folder
    from flywheel.data.examples import REJECTED_FILE, write_examples

    reports = private_folder(private_folder(output) / "reports")
    for name, examples in validated.accepted.items():
        write_examples(output / f"{name}{EXAMPLE_FILE_SUFFIX}", examples)
    write_atomic(output / REJECTED_FILE, "".join(rejection.to_json_line() for rejection in validated.rejected))
    write_json(reports / "validation_report.json", validated.report())


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__ or "")
    parser.add_argument(
        "--input", required=True, nargs="+", metavar="PATH", help="files or folders of examples, or -: stdin"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for what passed, rejects and report")
    cli.add_signatures(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring for exit codes."""
    args = build_parser().parse_args(argv)

    from flywheel.base.files import to_json

    table = all_signatures(args.signature_file)
    only = chosen(table, args.signatures) if args.signatures else []
    validated = validate([Path(path) for path in args.input], table, only)
    write(Path(args.output), validated)
    report = validated.report()
    for name, counts in report["signatures"].items():
        rejected = ", ".join(f"{n} {reason}" for reason, n in counts["rejected"].items()) or "none"
        cli.say(f"{name}: {counts['accepted']} accepted (mean quality {counts['mean_quality']}), rejected: {rejected}")
    cli.emit(to_json(report).rstrip())
    if not any(validated.accepted.values()):
        cli.say(f"no example passed; {args.output}/rejected.jsonl says why, example by example")
        return NO
    return OK


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
