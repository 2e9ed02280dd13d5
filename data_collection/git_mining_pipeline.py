#!/usr/bin/env python3
"""Collect training examples from a repository's history, without any model.

Every label follows from the commits: what a message asks for, what a diff adds, what was withheld from it, what a
fix found and left behind.

Usage:
    python git_mining_pipeline.py --target 30 --since-days 90 --output /tmp/git_mined_data

Writes <output>/<signature>.json for each signature and <output>/reports/mining_report.json. The summary is one line
of JSON on stdout; progress goes to stderr.

Exit codes: 0 at least one example, 1 none, 2 bad input (no repository, unknown signature, ...).
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.base import clock
from flywheel.base.cli import add_signatures, emit, names, parser, positive_int, run, say, whole_number
from flywheel.base.errors import NO, OK
from flywheel.base.paths import DATASETS, private_folder

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from flywheel.data.examples import Example
    from flywheel.data.git import Commit, Repository
    from flywheel.data.mining import Candidate, Filters, Tally
    from flywheel.data.scenario import Scenario
    from flywheel.data.signatures.types import Signature

TARGET = 30
SINCE_DAYS = 90
# More days than any history has: all of it.
ALL_DAYS = 36_500
MIN_MESSAGE_LENGTH = 15
# How many times the target to gather before choosing: more gives a better balance and takes longer.
POOL_FACTOR = 12
PROGRESS_SECONDS = 2.0
REPORT = "mining_report.json"

SKIP_REASONS = {
    "merge_commit": "merge commits (--include-merge-commits takes them)",
    "message_too_short": "messages too short (--min-commit-message-length)",
    "message_says_nothing": "messages that say nothing",
    "version_bump": "version bumps",
    "revert": "reverts",
    "reverted": "reverted later",
    "type_not_wanted": "of other types (--types)",
    "similar_message": "same message as another",
    "same_change": "same change as another",
    "no_wanted_files": "no wanted files (--include, --exclude; generated and vendored ones never count)",
    "too_many_files": "too many files",
    "diff_too_big": "diff too big",
    "binary_or_mode_only": "nothing but binary files or modes",
}


@dataclass(frozen=True)
class MiningOptions:
    """What to mine and how much; `target` counts examples of each signature, `repo_path` None is where one stands."""

    target: int = TARGET
    since_days: int = SINCE_DAYS
    repo_path: str | None = None
    min_message_length: int = MIN_MESSAGE_LENGTH
    include_merges: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    max_commits: int | None = None
    keep_authors: bool = False
    key_folder: Path = field(default_factory=DATASETS.resolve)


@dataclass(frozen=True)
class MiningResult:
    """What was found: examples by signature, counts of commits and reasons, and why a target was missed."""

    examples: Mapping[str, list[Example]]
    target: int
    commits: int
    mined: int
    skipped: Mapping[str, int]
    dropped: Mapping[str, int]
    shortfalls: Mapping[str, str]
    notes: tuple[str, ...] = ()

    @property
    def collected(self) -> dict[str, int]:
        """How many examples each signature got."""
        return {name: len(found) for name, found in self.examples.items()}


class Pace:
    """Passes a line on at most every PROGRESS_SECONDS, the first one after that time."""

    def __init__(self, progress: Callable[[str], None]) -> None:
        self._progress = progress
        self._last = time.monotonic()

    def __call__(self, line: str) -> None:
        """Say the line, if it is time."""
        if time.monotonic() - self._last >= PROGRESS_SECONDS:
            self._last = time.monotonic()
            self._progress(line)


class Pool:
    """Examples by signature, each id once, up to POOL_FACTOR times the target."""

    def __init__(self, signatures: Sequence[Signature], target: int, dropped: Counter[str]) -> None:
        self._signatures = signatures
        self._limit = target * POOL_FACTOR
        self._dropped = dropped
        self._ids: set[str] = set()
        self.examples: dict[str, list[Example]] = defaultdict(list)

    @property
    def is_full(self) -> bool:
        """Every signature has as many as it may have."""
        return all(len(self.examples[s.name]) >= self._limit for s in self._signatures)

    def add(self, scenario: Scenario) -> None:
        """Project the scenario to every signature that still takes examples."""
        for signature in self._signatures:
            if len(self.examples[signature.name]) < self._limit:
                self._project(signature, scenario)

    def _project(self, signature: Signature, scenario: Scenario) -> None:
        from flywheel.data.examples import example_id
        from flywheel.data.projection import project_all
        from flywheel.data.schema import problems

        for example in project_all(signature, (scenario,)):
            identity = example_id(signature.name, example.inputs, example.outputs)
            if next(problems(signature, example.inputs, example.outputs), None) is not None:
                self._dropped["schema"] += 1
            elif identity not in self._ids:
                self._ids.add(identity)
                self.examples[signature.name].append(example)


def _provenance(options: MiningOptions) -> Callable[[Commit], Mapping[str, Any]]:
    from flywheel.data.authors import author_key, pseudonym
    from flywheel.data.mining import provenance

    key = b"" if options.keep_authors else author_key(options.key_folder)
    mined_at = clock.iso(clock.now())

    def of(commit: Commit) -> Mapping[str, Any]:
        author = f"{commit.author} <{commit.email}>" if options.keep_authors else pseudonym(commit.email, key)
        return provenance(commit, author, mined_at)

    return of


def _filters(options: MiningOptions) -> Filters:
    from flywheel.data.mining import Filters

    return Filters(
        since=None if options.since_days > ALL_DAYS else clock.now() - timedelta(days=options.since_days),
        max_commits=options.max_commits,
        min_message_length=options.min_message_length,
        include_merges=options.include_merges,
        include=options.include,
        exclude=options.exclude,
        types=options.types,
    )


def _screened(log: Iterable[Candidate], pace: Pace, tally: Tally) -> Iterator[Candidate]:
    for candidate in log:
        pace(f"read {tally.commits} commits")
        yield candidate


def _why_short(options: MiningOptions, tally: Tally, found: int) -> str:
    """Why fewer than the target were found, and what to do about it."""
    filtered = sum(tally.skipped.values())
    why = f"{tally.commits} commits in the last {options.since_days} days, {filtered} of them filtered out"
    if tally.skipped:
        told = [f"{count} {SKIP_REASONS.get(name, name)}" for name, count in tally.skipped.most_common(4)]
        why += f" ({'; '.join(told)})"
    if tally.dropped:
        why += f"; {sum(tally.dropped.values())} examples turned away for secrets, e-mail addresses or their form"
    return f"collected: {found} examples, target: {options.target}; {why}; raise --since-days or loosen the filters"


def _notes(repository: Repository) -> tuple[str, ...]:
    shallow = "shallow clone: its older commits are not there (git fetch --unshallow gets them)"
    return (shallow,) if repository.shallow else ()


def collect(options: MiningOptions, signatures: Sequence[Signature], progress: Callable[[str], None]) -> MiningResult:
    """Mine the repository for examples of the signatures; nothing is written but the key of the pseudonyms.

    Raises:
        FlywheelError: no usable repository, or git failed.
    """
    from flywheel.data.git import locate
    from flywheel.data.mining import Miner, Tally, candidates
    from flywheel.data.selection import select

    repository = locate(options.repo_path)
    repository.require_commits()
    filters, tally, pace = _filters(options), Tally(), Pace(progress)
    log = repository.log(filters.since, filters.max_commits)
    chosen = list(_screened(candidates(log, filters, tally), pace, tally))
    pool = Pool(signatures, options.target, tally.dropped)
    for scenario in Miner(filters, tally, _provenance(options)).scenarios(repository, chosen):
        pool.add(scenario)
        pace(f"mined {tally.mined} of {len(chosen)} commits")
        if pool.is_full:
            break
    found = {s.name: select(pool.examples[s.name], s, options.target) for s in signatures}
    short = {n: _why_short(options, tally, len(e)) for n, e in found.items() if len(e) < options.target}
    counts = (tally.commits, tally.mined, dict(tally.skipped), dict(tally.dropped))
    return MiningResult(found, options.target, *counts, shortfalls=short, notes=_notes(repository))


def report(result: MiningResult, options: MiningOptions, seconds: float) -> dict[str, Any]:
    """What reports/mining_report.json holds."""
    return {
        "created": clock.iso(clock.now()),
        "repository": str(Path(options.repo_path or ".").resolve()),
        "since_days": options.since_days,
        "target": result.target,
        "collected": result.collected,
        "commits": {"in_range": result.commits, "mined": result.mined, "skipped": result.skipped},
        "dropped": result.dropped,
        "shortfalls": result.shortfalls,
        "balance": {name: _balance(found) for name, found in result.examples.items()},
        "notes": list(result.notes),
        "seconds": round(seconds, 2),
    }


def _balance(examples: Sequence[Example]) -> dict[str, dict[str, int]]:
    difficulty: Counter[str] = Counter(example.metadata.difficulty or "" for example in examples)
    categories = Counter(example.metadata.category or "" for example in examples)
    return {"difficulty": dict(difficulty), "categories": dict(categories)}


def write(result: MiningResult, folder: Path, body: Mapping[str, Any]) -> None:
    """One file of examples for each signature, and the report; other files in the folder stay."""
    from flywheel.base.files import write_json
    from flywheel.data.examples import write_examples

    private_folder(folder)
    for name, examples in result.examples.items():
        write_examples(folder / f"{name}.json", examples)
    write_json(private_folder(folder / "reports") / REPORT, body)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    p = parser(__doc__ or "")
    p.add_argument("--output", required=True, metavar="DIR", help="folder to write to")
    p.add_argument("--target", type=positive_int, default=TARGET, metavar="N", help="examples of each signature")
    p.add_argument("--since-days", type=positive_int, default=SINCE_DAYS, metavar="DAYS", help="how far back to look")
    p.add_argument("--repo-path", metavar="DIR", help="repository to mine (default: the one you stand in)")
    add_signatures(p)
    p.add_argument("--min-commit-message-length", type=whole_number, default=MIN_MESSAGE_LENGTH, metavar="CHARS",
                   help="skip commits whose cleaned message is shorter")  # fmt: skip
    merges = p.add_mutually_exclusive_group()
    merges.add_argument("--exclude-merge-commits", dest="include_merges", action="store_const", const=False,
                        default=False, help="skip merge commits (as is done anyway)")  # fmt: skip
    merges.add_argument("--include-merge-commits", dest="include_merges", action="store_const", const=True,
                        help="mine merge commits too, each as its change against the first parent")  # fmt: skip
    p.add_argument("--include", nargs="+", metavar="PATTERN", help="only files that match, such as '*.py' or src/")
    p.add_argument("--exclude", nargs="+", metavar="PATTERN", help="no files that match")
    p.add_argument("--types", nargs="+", metavar="TYPE", help="only commits of these types, such as feature or bugfix")
    p.add_argument("--max-commits", type=positive_int, metavar="N", help="read at most the N newest commits")
    p.add_argument("--keep-authors", action="store_true", help="keep authors' names instead of pseudonyms")
    return p


def options_from(args: argparse.Namespace) -> MiningOptions:
    """The options that the command line asks for.

    Raises:
        BadInputError: an unknown commit type.
    """
    from flywheel.base.errors import BadInputError
    from flywheel.data.kinds import TYPE_NAMES, TYPES

    types = [TYPES.get(name.lower(), name) for name in names(args.types)]
    unknown = [name for name in types if name not in TYPE_NAMES]
    if unknown:
        msg = f"unknown commit type {', '.join(unknown)}; known: {', '.join(TYPE_NAMES)}"
        raise BadInputError(msg)
    return MiningOptions(
        args.target, args.since_days, args.repo_path, args.min_commit_message_length, args.include_merges,
        tuple(names(args.include)), tuple(names(args.exclude)), tuple(types), args.max_commits, args.keep_authors,
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring for exit codes."""
    args = build_parser().parse_args(argv)
    from flywheel.data.registry import all_signatures, chosen

    started = time.monotonic()
    options = options_from(args)
    result = collect(options, chosen(all_signatures(args.signature_file), args.signatures), say)
    body = report(result, options, time.monotonic() - started)
    folder = Path(args.output).expanduser().absolute()
    write(result, folder, body)
    for line in (*result.notes, *(f"{name}: {why}" for name, why in result.shortfalls.items())):
        say(line)
    from flywheel.base.files import to_json

    summary = {"output": str(folder), "collected": result.collected, "target": result.target, "commits": result.commits}
    emit(to_json(summary, indent=None).strip())
    return OK if any(result.examples.values()) else NO


if __name__ == "__main__":
    raise SystemExit(run(main))
