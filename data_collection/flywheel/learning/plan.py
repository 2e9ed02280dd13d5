"""The plan of a run: what each stage will ask of the model at most, in calls, tokens and US dollars.

Calls follow from the splits and the settings. Prompts are rendered and measured; what a token is was counted by the
model, in earlier runs or in the preflight call. Answers are as long as in earlier runs, else as the dataset's labels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flywheel.base.plans import FILE_NAME, RunPlan, SignaturePlan, StagePlan
from flywheel.learning.adapters import adapter_of
from flywheel.learning.assignment import baseline_of
from flywheel.learning.budget import Budget, keep_back, less_spent, share_out
from flywheel.learning.calls import read_calls, totals_of
from flywheel.learning.cycle import QUICK_ITEMS
from flywheel.learning.extent import extent_of
from flywheel.learning.floor import floor_calls
from flywheel.learning.judging import planned_calls as judge_calls
from flywheel.learning.optimizers import stage_calls
from flywheel.learning.past_calls import LONGEST_TOKEN, SHORTEST_TOKEN, PastCalls, past_calls
from flywheel.learning.prices import price_of
from flywheel.learning.prompt_sizes import PromptSizes, measure
from flywheel.learning.retest import fresh_examples
from flywheel.learning.stages import FLOOR, JUDGE, PROPOSAL, RETEST, TEST, VAL, Asked
from flywheel.learning.trials import LABELED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flywheel.base.prices import Price
    from flywheel.learning.assignment import Assignment
    from flywheel.learning.cycle import Terms
    from flywheel.learning.ledger import Ledger
    from flywheel.learning.preflight import Proven

# Where nothing was measured: English text, and what proposals were like when they were looked at.
CHARACTERS_PER_TOKEN, PROPOSAL_OUTPUT_TOKENS = 4.0, 300.0
# Rough seconds a call, where none was timed; the embedded model's was measured on two cores.
EMBEDDED_SECONDS, HOSTED_SECONDS = 3.5, 3.0


@dataclass(frozen=True)
class Tokens:
    """Mean tokens of a stage's calls: of prompts as the baseline has them and with all demonstrations; of answers."""

    plain: float
    full: float
    output: float


@dataclass(frozen=True)
class Known:
    """What is known before a run begins: calls of earlier runs, and the preflight call of this one."""

    past: PastCalls = field(default_factory=PastCalls)
    proven: Proven | None = None

    def characters_per_token(self, signature: str) -> tuple[float, str]:
        """How many characters of a prompt make a token of this model, and who says so."""
        if signature in self.past.characters_per_token:
            return self.past.characters_per_token[signature], "as counted in earlier runs"
        ratio = self.proven.characters_per_token if self.proven else None
        if ratio is not None and SHORTEST_TOKEN <= ratio <= LONGEST_TOKEN:
            return ratio, "as counted in the preflight call"
        return CHARACTERS_PER_TOKEN, "assumed"

    def tokens(self, signature: str, stage: str, sizes: PromptSizes) -> Tokens:
        """What a call of this stage takes."""
        ratio, _ = self.characters_per_token(signature)
        assumed = PROPOSAL_OUTPUT_TOKENS if stage == PROPOSAL else sizes.answer / ratio
        output = self.past.output_tokens.get((signature, stage), assumed)
        return Tokens(sizes.baseline / ratio, sizes.full / ratio, output)

    def seconds(self, *, embedded: bool) -> float:
        """About how long a call takes."""
        if self.past.latency_ms is not None:
            return self.past.latency_ms / 1000
        return EMBEDDED_SECONDS if embedded else HOSTED_SECONDS


@dataclass(frozen=True)
class Funded:
    """A plan, and how the budget is shared by it."""

    plan: RunPlan
    budget: Budget


def fund(assignments: Sequence[Assignment], terms: Terms, ledger: Ledger, proven: Proven | None) -> Funded:
    """Plan the run, and have the ledger's gate keep back what the tests need.

    A resumed run keeps the plan that it began with. What its signatures had spent when it was cut short is taken
    off their shares.
    """
    folder = terms.results.parent
    if (folder / FILE_NAME).is_file():
        plan = RunPlan.read(folder / FILE_NAME)
    else:
        plan = plan_run(assignments, terms, Known(past_calls(folder, terms.choice.name), proven))
        plan.write(folder)
    names = {one.signature.name for one in assignments}
    calls = list(read_calls(ledger.path))
    others = totals_of(call for call in calls if call.signature not in names)
    rest = plan.model_copy(update={"signatures": {n: p for n, p in plan.signatures.items() if n in names}})
    budget = less_spent(share_out(rest, others.calls, others.cost_usd or 0.0), calls)
    keep_back(ledger.gate, budget)
    return Funded(plan, budget)


def plan_run(assignments: Sequence[Assignment], terms: Terms, known: Known) -> RunPlan:
    """What the run will take at most, if no answer fails to parse (one that does is asked for twice)."""
    priced = price_of(terms.choice)
    plans = {one.signature.name: _plan(one, terms, known, priced.price) for one in assignments}
    calls = sum(plan.total.calls for plan in plans.values())
    return RunPlan(
        model=terms.choice.name,
        price=priced.price,
        price_source=priced.source,
        basis=_basis(plans, known),
        seconds=calls * known.seconds(embedded=terms.choice.embedded) / terms.settings.threads,
        max_calls=terms.max_calls,
        max_cost_usd=terms.max_cost_usd,
        signatures=plans,
    )


def _plan(assignment: Assignment, terms: Terms, known: Known, price: Price | None) -> SignaturePlan:
    signature, settings = assignment.signature, terms.settings
    train, val, test = (assignment.split(name) for name in ("train", "val", "test"))
    searched = terms.searches(signature.name) and extent_of(assignment).missing is None
    demos = max(settings.labeled_demos, settings.bootstrapped_demos)
    _, program = baseline_of(assignment)
    sizes = measure(program, signature, train, test or val or train, adapter_of(terms.choice.name), demos)
    asked = _asked(assignment, terms) if searched else {TEST: Asked(plain=min(QUICK_ITEMS, len(test)))}
    stages = {
        stage: _stage(one, known.tokens(signature.name, stage, sizes), price)
        for stage, one in asked.items()
        if one.calls
    }
    return SignaturePlan(
        train=len(train),
        val=len(val),
        test=len(test),
        searched=searched,
        prompt_characters=sizes.baseline,
        stages=stages,
    )


def _asked(assignment: Assignment, terms: Terms) -> dict[str, Asked]:
    """The calls of each stage of a signature that is searched."""
    settings = terms.settings
    train, val, test = (len(assignment.split(name)) for name in ("train", "val", "test"))
    again = fresh_examples(assignment, terms.waiting) if terms.retest else 0
    # What the search has evaluated on val in full is answered by the run's cache afterwards.
    unseen = val if settings.optimizers == (LABELED,) else 0
    return {
        RETEST: Asked(again, again),
        **stage_calls(train, val, settings),
        TEST: Asked(test, test),
        VAL: Asked(unseen, unseen),
        FLOOR: Asked(full=floor_calls(test, settings) if terms.floor else 0),
        JUDGE: Asked(full=judge_calls(assignment.signature, test) if terms.judge else 0),
    }


def _stage(asked: Asked, tokens: Tokens, price: Price | None) -> StagePlan:
    """A stage's calls in tokens and money; what the provider's prompt cache may save is not counted on."""
    inputs = asked.plain * tokens.plain + asked.full * tokens.full
    outputs = asked.calls * tokens.output
    return StagePlan(
        calls=asked.calls,
        input_tokens=round(inputs),
        output_tokens=round(outputs),
        cost_usd=None if price is None else price.usd(inputs, outputs),
    )


def _basis(plans: Mapping[str, SignaturePlan], known: Known) -> list[str]:
    """In sentences, what the figures rest on."""
    ratios = {name: known.characters_per_token(name) for name in plans}
    each = ", ".join(sorted({f"{ratio:.1f}" for ratio, _ in ratios.values()}))
    whose = ", ".join(sorted({who for _, who in ratios.values()}))
    runs = known.past.runs
    answers = (
        f"answers as long as in {runs} earlier run{'s' if runs > 1 else ''} with this model"
        if runs
        else "answers as long as the dataset's labels (a model that reasons writes more)"
    )
    return [
        "calls: the most that the searches may make; one that ends on a plateau makes fewer",
        f"tokens in: this dataset's own prompts with all demonstrations, at {each} characters a token ({whose})",
        f"tokens out: {answers}; proposals {PROPOSAL_OUTPUT_TOKENS:.0f} (assumed) where none were made before",
    ]
