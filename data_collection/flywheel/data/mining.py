"""From a repository's history to scenarios: which commits count, and what each of them is good for."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flywheel.base.redact import EMAIL, findings
from flywheel.base.text import visible
from flywheel.data import commits, deliveries, repairs
from flywheel.data.sources import wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

    from flywheel.data.commits import Message
    from flywheel.data.deliveries import Work
    from flywheel.data.diffs import FileDiff
    from flywheel.data.git import Commit, Repository
    from flywheel.data.scenario import Scenario

MAX_FILES = 60
MAX_WAITING = 50
REVERTED_SUBJECT = re.compile(r'^Revert "(.+)"')


@dataclass(frozen=True)
class Filters:
    """Which commits to mine; `since` None means all of history, `types` empty means all types."""

    since: datetime | None = None
    max_commits: int | None = None
    min_message_length: int = 15
    include_merges: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    types: tuple[str, ...] = ()


@dataclass
class Tally:
    """What became of the commits in range: `skipped` counts reasons, `dropped` scenarios that were turned away."""

    commits: int = 0
    mined: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Candidate:
    """A commit whose diff is worth a look: to be mined, or (a fix with a poor message) only to know what it mended."""

    commit: Commit
    message: Message
    is_mined: bool


class _Screen:
    """The filters that need no diff, with what they remember of newer commits."""

    def __init__(self, filters: Filters) -> None:
        self._filters = filters
        self._reverted: set[str] = set()
        self._reverted_subjects: set[str] = set()
        self._seen: set[bytes] = set()

    def reason(self, commit: Commit, message: Message) -> str | None:
        """Why the commit is skipped; None when it is not."""
        subject = commit.message.partition("\n")[0].strip()
        if self._is_revert(commit, subject) or message.type == "revert":
            return "revert"
        if commit.sha[:7] in self._reverted or subject in self._reverted_subjects:
            return "reverted"
        if commit.is_merge and not self._filters.include_merges:
            return "merge_commit"
        return self._by_message(message) or self._by_files(commit)

    def _is_revert(self, commit: Commit, subject: str) -> bool:
        sha, quoted = commits.reverted_sha(commit.message), REVERTED_SUBJECT.match(subject)
        if sha:
            self._reverted.add(sha[:7])
        if quoted:
            self._reverted_subjects.add(quoted[1])
        return bool(sha or quoted)

    def _by_message(self, message: Message) -> str | None:
        filters = self._filters
        if commits.is_version_bump(message.subject):
            return "version_bump"
        told = " ".join((message.subject, message.body, *message.bullets)).strip()
        if len(told) < filters.min_message_length:
            return "message_too_short"
        if commits.says_nothing(message.subject) or len(message.subject.split()) < commits.MIN_WORDS:
            return "message_says_nothing"
        if filters.types and message.type not in filters.types:
            return "type_not_wanted"
        digest = hashlib.sha256(" ".join(told.lower().split()).encode("utf-8", "replace")).digest()
        if digest in self._seen:
            return "similar_message"
        self._seen.add(digest)
        return None

    def _by_files(self, commit: Commit) -> str | None:
        plain = [change for change in commit.changes if change.is_plain]
        if len(plain) > MAX_FILES:
            return "too_many_files"
        filters = self._filters
        if not any(wanted(change.path, filters.include, filters.exclude) for change in plain):
            return "no_wanted_files"
        return None


def candidates(log: Iterator[Commit], filters: Filters, tally: Tally) -> Iterator[Candidate]:
    """The commits (newest first) that pass every filter that needs no diff; the others are counted.

    Fixes among the others come too, not to be mined: code that they mended was not right before.
    """
    screen = _Screen(filters)
    for commit in log:
        tally.commits += 1
        message = commits.read(commit.message)
        reason = screen.reason(commit, message)
        if reason:
            tally.skipped[reason] += 1
        if reason is None or (message.type in repairs.FIX_TYPES and not commit.is_merge):
            yield Candidate(commit, message, reason is None)


def _kept(candidate: Candidate, files: tuple[FileDiff, ...], filters: Filters) -> tuple[FileDiff, ...]:
    plain = {change.path for change in candidate.commit.changes if change.is_plain}
    return tuple(f for f in files if f.hunks and f.path in plain and wanted(f.path, filters.include, filters.exclude))


def _patch_key(files: tuple[FileDiff, ...]) -> bytes:
    """Equal for two commits that change the same lines, as a cherry-pick and its original do."""
    changed = (line for file in files for hunk in file.hunks for line in hunk.lines if line[0] != " ")
    return hashlib.sha256("\n".join(changed).encode("utf-8", "replace")).digest()


def texts(scenario: Scenario) -> str:
    """Everything of the scenario that an example could show."""
    asked = [f"{r.text}\n{r.snippet}" for r in scenario.requirements]
    faults = [f"{d.text}\n{d.fix}" for d in scenario.defects]
    own = (scenario.intent, scenario.context, scenario.work_item, scenario.implementation)
    return "\n".join((*own, scenario.claim, scenario.code_sample, *asked, *faults))


class Miner:
    """Reads candidates newest first and yields their scenarios; counts in `tally` what it turns away."""

    def __init__(self, filters: Filters, tally: Tally, provenance: Callable[[Commit], Mapping[str, Any]]) -> None:
        self._filters = filters
        self._tally = tally
        self._provenance = provenance
        self._later = repairs.LaterFixes()
        self._patches: set[bytes] = set()
        self._waiting: list[Work] = []

    def scenarios(self, repository: Repository, chosen: list[Candidate]) -> Iterator[Scenario]:
        """The scenarios of every candidate, in the order given."""
        patches = repository.patches(candidate.commit for candidate in chosen)
        for candidate, (_, files) in zip(chosen, patches, strict=True):
            item = self._work(candidate, files) if candidate.is_mined else None
            if item is not None:
                self._tally.mined += 1
                yield from filter(self._is_clean, self._of(item))
            if candidate.message.type in repairs.FIX_TYPES:
                self._remember_fix(candidate, files)

    def _remember_fix(self, candidate: Candidate, files: tuple[FileDiff, ...] | None) -> None:
        if files is None:
            self._later.add_paths(change.path for change in candidate.commit.changes)
        else:
            self._later.add(files)

    def _work(self, candidate: Candidate, files: tuple[FileDiff, ...] | None) -> Work | None:
        if files is None:
            self._tally.skipped["diff_too_big"] += 1
            return None
        kept = _kept(candidate, files, self._filters)
        if not kept:
            self._tally.skipped["binary_or_mode_only"] += 1
            return None
        key = _patch_key(kept)
        if key in self._patches:
            self._tally.skipped["same_change"] += 1
            return None
        self._patches.add(key)
        return deliveries.work(candidate.commit, candidate.message, kept, self._provenance(candidate.commit))

    def _of(self, item: Work) -> Iterator[Scenario]:
        if scenario := deliveries.statement(item):
            yield scenario
        code = [*repairs.repairs(item, self._later), *repairs.mutated(item, self._later)]
        if item.facts:
            if scenario := deliveries.complete(item):
                yield scenario
            yield from deliveries.incomplete(item)
            self._waiting = [*self._waiting[-MAX_WAITING:], item]
        elif not code:
            yield from self._mismatch(item)
        yield from code

    def _mismatch(self, donor: Work) -> Iterator[Scenario]:
        """The donor shows nothing of its own, so that its text stands in one group only: that of the latest waiting.

        Taking the latest keeps the pairs the same when newer commits come before them.
        """
        if self._waiting and (scenario := deliveries.mismatch(self._waiting[-1], donor)):
            self._waiting.pop()
            yield scenario

    def _is_clean(self, scenario: Scenario) -> bool:
        found = findings(texts(scenario))
        if found:
            self._tally.dropped["email_address" if found == {EMAIL} else "secret"] += 1
        return not found


def provenance(commit: Commit, author: str, mined_at: str) -> dict[str, Any]:
    """Where an example comes from, as its metadata says it."""
    return {
        "commit_sha": commit.sha,
        "author": visible(author),
        "authored_at": commit.authored_at,
        "timestamp": mined_at,
    }
