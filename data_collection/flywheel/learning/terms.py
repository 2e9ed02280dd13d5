"""A run's settings as the terms on which its signatures are optimized."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from flywheel.base.run_settings import ALL
from flywheel.learning.choice import choose_judge
from flywheel.learning.cycle import Terms
from flywheel.learning.expense import Allowance
from flywheel.learning.optimizers import Settings
from flywheel.learning.verdict import Rule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from flywheel.base.past import Past
    from flywheel.base.run_settings import Options
    from flywheel.learning.choice import ModelChoice

# No further trial of a quick search starts later than this.
QUICK_SECONDS = 200.0


def terms_of(
    options: Options,
    choice: ModelChoice,
    results: Path,
    *,
    begin: Callable[[str, Path, Path], str],
    past: Mapping[str, Sequence[Past]],
) -> Terms:
    """The terms; `results` is a folder of the run's own, `begin` starts a rollout where one is asked for."""
    return Terms(
        choice=choice,
        settings=Settings(
            trials=options.trials,
            candidates=options.candidates,
            bootstrapped_demos=options.demos,
            labeled_demos=options.demos,
            threads=1 if choice.embedded else min(options.threads, options.max_concurrency),
            seed=options.seed,
            seconds=QUICK_SECONDS if options.quick else None,
            optimizers=options.optimizer,
            plateau_trials=options.plateau_trials,
        ),
        rule=Rule(options.min_improvement, options.decision == "point", options.allow_synthetic_test, options.seed),
        allowance=Allowance(options.max_cost_growth, options.max_latency_growth),
        quick=None if options.quick == ALL else options.quick,
        require_power=options.require_power,
        hours=options.timeout_hours,
        results=results,
        programs=Path(options.programs_dir),
        run_id=results.parent.name,
        retest=options.retest,
        floor=options.floor,
        reflection=choice.beside(options.reflection_model),
        roll_out=begin if options.start_ab else None,
        past=past,
        max_calls=options.max_calls,
        max_cost_usd=options.max_cost_usd,
        judge=choose_judge(
            options.judge, options.judge_api_base, choice, force=options.force_judge, prices=options.prices
        ),
        reveal=options.reveal_test,
    )
