"""Stored datasets, and signatures optimized on them by whatever executor, for tests that compare figures."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tests.loopback import Skilled
from tests.oracle import Oracle

import synthetic_data_generator
from flywheel.base.progress import PlainProgress
from flywheel.data.additions import add_examples
from flywheel.data.publishing import Batch
from flywheel.data.signatures import BUILT_IN
from flywheel.data.store import load
from flywheel.learning.assignment import Assignment
from flywheel.learning.choice import ModelChoice
from flywheel.learning.cycle import Terms, run_all
from flywheel.learning.expense import Allowance
from flywheel.learning.ledger import Ledger, Limits
from flywheel.learning.optimizers import Settings
from flywheel.learning.verdict import Rule

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.loopback import LoopbackModel

    from flywheel.learning.cycle import Executor

TABLE = {signature.name: signature for signature in BUILT_IN}
FIGURES = ("baseline_score", "optimized_score", "improvement_percent", "improvement_ci", "verdict", "n_test", "trials")


def stored(datasets: Path, names: Sequence[str], target: int = 20) -> None:
    """Generate and store so many examples for each signature."""
    signatures = [TABLE[name] for name in names]
    generated = synthetic_data_generator.generate(signatures, target, "tests", lambda _: None)
    for signature in signatures:
        batch = Batch("test", "", datetime(2026, 1, 1, tzinfo=UTC))
        add_examples(datasets, signature, generated.examples[signature.name], batch, onto_latest=True)


def clever(datasets: Path) -> Skilled:
    """A model that demonstrations make much better."""
    oracle = Oracle(datasets)
    return Skilled(oracle, oracle.opposite, base=0.1, per_demo=0.45, demos_count=2, hint_bonus=0.0)


def learned(
    executor: Executor,
    folder: Path,
    datasets: Path,
    names: Sequence[str],
    model: LoopbackModel,
    told: Callable[[str], None] = lambda _: None,
) -> dict[str, dict[str, Any]]:
    """The figures of the signatures' stored examples, learned by the executor with three calls under way at most."""
    assignments = []
    for name in names:
        metadata, examples = load(datasets, name)
        assignments.append(Assignment(TABLE[name], examples, metadata.version, metadata.content_hash, None, datasets))
    terms = Terms(
        choice=ModelChoice("openai/loopback", "test", model.url),
        settings=Settings(trials=3, candidates=3, bootstrapped_demos=2, labeled_demos=2, threads=2),
        rule=Rule(allow_synthetic_test=True),
        allowance=Allowance(1.5, 500),
        quick=None,
        require_power=False,
        hours=1,
        results=folder / "optimization_results",
        programs=folder / "programs",
        run_id="run_20260101_000000",
    )
    terms.results.mkdir(parents=True)
    figures: dict[str, dict[str, Any]] = {}
    with Ledger(folder / "calls.jsonl", Limits(concurrency=3)) as ledger:
        assert run_all(assignments, terms, ledger, PlainProgress(told), figures.__setitem__, executor) is None
    return figures


def compared(figures: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What must be the same wherever it was learned."""
    return {name: {figure: facts.get(figure) for figure in FIGURES} for name, facts in figures.items()}
