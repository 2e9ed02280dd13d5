"""A run under way: its folder, what is known of each signature so far, and how far it has come."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from flywheel.base.cli import say
from flywheel.base.clock import iso, now, stamp
from flywheel.base.errors import BadInputError
from flywheel.base.files import write_atomic, write_json
from flywheel.base.paths import private_folder
from flywheel.ops.run_state import Admitted, RunState
from flywheel.ops.runs import FOLDERS, GATE_REPORTS, RunSpend, RunSummary, SignatureResult

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from flywheel.data.additions import Added


def new_run_folder(output: Path, moment: datetime) -> Path:
    """Make `run_YYYYMMDD_HHMMSS` and its subfolders; a taken id moves on by a second.

    Raises:
        BadInputError: the output folder cannot be used.
    """
    private_folder(output)
    while True:
        folder = output / f"run_{stamp(moment)}"
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            moment += timedelta(seconds=1)
            continue
        except OSError as error:
            msg = f"{folder}: cannot be created: {error.strerror}"
            raise BadInputError(msg) from error
        break
    for name in FOLDERS:
        (folder / name).mkdir(mode=0o700)
    return folder


@dataclass
class RunJournal:
    """A run under way: what is known of each signature so far, saved as it is learned."""

    folder: Path
    started: datetime
    config: dict[str, Any]
    facts: dict[str, dict[str, Any]]
    error: str | None = None
    spend: dict[str, Any] | None = None
    state: RunState = field(default_factory=RunState)

    @classmethod
    def begin(cls, output: Path, moment: datetime, config: dict[str, Any], signatures: Sequence[str]) -> Self:
        """Make the run's folder and its first summary."""
        journal = cls(new_run_folder(output, moment), moment, config, {name: {} for name in signatures})
        journal.advance()
        return journal

    @classmethod
    def reopen(cls, folder: Path, state: RunState) -> Self:
        """The journal of a run that was cut short, to go on with.

        Raises:
            BadInputError: the folder has no summary.
            DamagedError: it is not whole.
        """
        summary = RunSummary.read(folder)
        facts = {name: result.model_dump() for name, result in summary.signatures.items()}
        started = datetime.fromisoformat(summary.start_time)
        return cls(folder, started, summary.config, facts, state.problem, state=state)

    def go_on(self, moment: datetime) -> None:
        """The run goes on from now."""
        self.advance(resumed_at=(*self.state.resumed_at, iso(moment)))

    def advance(self, **changes: Any) -> None:
        """Write down how far the run has come, after what is known so far."""
        self.save()
        self.state = self.state.model_copy(update=changes)
        self.state.write(self.folder)

    def summary(self, *, ended: bool, broken_off: str | None = None) -> RunSummary:
        """The summary as of now; it claims success only once the run has ended, and by itself (not `broken_off`)."""
        evaluated = any(facts.get("baseline_score") is not None for facts in self.facts.values())
        return RunSummary(
            run_id=self.folder.name,
            start_time=iso(self.started),
            end_time=iso(now()) if ended else None,
            success=ended and evaluated and broken_off is None,
            error=broken_off or self.error,
            resumed_at=self.state.resumed_at,
            config=self.config,
            signatures={name: SignatureResult.model_validate(facts) for name, facts in self.facts.items()},
            spend=None if self.spend is None else RunSpend.model_validate(self.spend),
        )

    def save(self) -> None:
        """Write the summary as of now, so that a killed run leaves what it knew."""
        self.summary(ended=False).write(self.folder)

    def learned(self, name: str, facts: Mapping[str, Any]) -> None:
        """Take in a signature's figures and save them."""
        self.facts[name].update(facts)
        self.save()

    def found(self, sources: Mapping[str, Any], target: int, told: Callable[[str], None]) -> None:
        """All is collected: what each source has by signature (`examples`), and why it has less (`shortfalls`)."""
        for name, facts in self.facts.items():
            counts = {source: len(result.examples[name]) for source, result in sources.items()}
            short = [f"{source}: {r.shortfalls[name]}" for source, r in sources.items() if name in r.shortfalls]
            for reason in short:
                told(f"{name}: {reason}")
            facts.update(collected_by_source=counts, collected=sum(counts.values()), target=target)
            facts.update(shortfall="; ".join(short) or None)
        self.advance(collected=True)

    def gated(
        self, name: str, batch: tuple[int, Sequence[Any]], report: Any, strict: str, told: Callable[[str], None]
    ) -> bool:
        """Whether the signature's batch passes: how many examples are fit and which are too poor, and what gates say.

        `strict` is the verdict of strict mode.
        """
        (fit, poor), facts, folder = batch, self.facts[name], self.folder / GATE_REPORTS
        facts["rejected"].update(Counter(rejection.reason for rejection in poor))
        gates = {"verdict": report.verdict, "reasons": report.reasons, "strict_verdict": strict}
        facts.update(validated=fit, quality_gates=gates)
        write_json(folder / f"{name}.json", report.to_dict())
        write_atomic(folder / f"{name}.rejected.jsonl", "".join(item.to_json_line() for item in poor))
        if report.reasons:
            would = "" if self.config["strict"] else f" (strict mode: {strict})"
            told(f"{name}: quality_gates: {report.verdict}, reason: {'; '.join(report.reasons)}{would}")
        passed = report.verdict != "reject" and fit > 0
        if not passed:
            reason = report.reasons[0].replace("quality_score=", "quality=")
            self.error = self.error or f"Quality gates failed: {name} {reason}"
        return passed

    def added(self, name: str, added: Added) -> None:
        """The signature's batch is in its dataset: how many were new, and why others were refused."""
        facts, reasons = self.facts[name], dict(added.refused)
        facts["duplicates"] += reasons.pop("duplicate", 0)
        facts["rejected"].update(reasons)
        facts.update(new_examples=added.new)
        if added.metadata is not None:
            facts.update(dataset_version=added.metadata.version, dataset_examples=added.metadata.example_count)

    def admitted(self, name: str, on: Mapping[str, Any] | None) -> None:
        """The signature's data is where it belongs, and this is what it is worked on with; None: with nothing."""
        known = {**self.state.admitted, name: None if on is None else Admitted.model_validate(on)}
        self.advance(admitted=known, problem=self.error)

    def left(self) -> list[tuple[str, Admitted]]:
        """What is to be worked on still."""
        every = self.state.admitted.items()
        return [(name, on) for name, on in every if on is not None and name not in self.state.concluded]

    def concluded(self, name: str, facts: Mapping[str, Any]) -> None:
        """Take in a signature's figures; one that was evaluated is not worked on again."""
        self.facts[name].update(facts)
        evaluated = facts.get("baseline_score") is not None
        self.advance(concluded=(*self.state.concluded, *([name] if evaluated else [])))

    def end(self, broken_off: str | None) -> None:
        """After the last summary: the run came to its own end, unless a signature that has data was not evaluated."""
        if broken_off is not None:
            say(f"go on:   python optimization_orchestrator.py --resume {self.folder}")
            return
        self.state = self.state.model_copy(update={"finished": not self.left()})
        self.state.write(self.folder)
