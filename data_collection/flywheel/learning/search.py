"""The search of one signature: each optimizer asked for, and which of their programs meets the test."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from dspy.utils.exceptions import LMError

from flywheel.base.errors import ModelError
from flywheel.base.files import PRIVATE_FILE, to_json
from flywheel.base.paths import private_folder
from flywheel.learning.contenders import Contender, choose, sentence
from flywheel.learning.examination import ask
from flywheel.learning.examples import all_to_dspy
from flywheel.learning.feedback import build_feedback
from flywheel.learning.lm import context_of, failure_kind
from flywheel.learning.metrics import build_metric
from flywheel.learning.optimizers import OPTIMIZERS, Compiled, Task, Trial, dspy_kept_quiet, planned_calls, run
from flywheel.learning.pairs import group_of
from flywheel.learning.search_account import ModelFailing, Proposals, SearchAccount
from flywheel.learning.spending import spent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import dspy

    from flywheel.learning.assignment import Assignment
    from flywheel.learning.plateau import Decision
    from flywheel.learning.session import Session

JOURNAL = "search.jsonl"
REFLECTION_TEMPERATURE = 1.0


class _Journal:
    """search.jsonl in the signature's result folder: every decision of the search; nowhere without a folder."""

    def __init__(self, session: Session) -> None:
        self._path = private_folder(session.folder) / JOURNAL if session.folder is not None else None
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def note(self, event: str, **facts: Any) -> None:
        """Append a line."""
        if self._path is not None:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
            with os.fdopen(os.open(self._path, flags, PRIVATE_FILE), "w") as stream:
                stream.write(to_json({"event": event, **facts}, indent=None))


def search(baseline: dspy.Module, assignment: Assignment, session: Session) -> Compiled:
    """Search from the baseline by each optimizer, telling of every trial; the program that meets the test.

    A limit ends the search that runs and leaves out those that would follow: see `Compiled.stopped`.

    Raises:
        ModelError: the model fails.
    """
    signature, settings = assignment.signature, session.settings
    finishing = 2 * len(assignment.split("test"))

    def proposed() -> None:
        session.progress.step(f"instructions are proposed, {spent(session.model.account)}")

    account, journal = SearchAccount(session.model.account, finishing, settings.threads, proposed), _Journal(session)
    model = session.model.copy(account=account)
    task = _task(baseline, assignment, session, account)
    session.progress.phase(f"optimize {signature.name}", planned_calls(len(task.train), len(task.val), settings))
    found: list[Compiled] = []
    try:
        with dspy_kept_quiet(session.log), context_of(model):
            for name in settings.optimizers:
                found.append(_searched(name, task, session, journal))
                if found[-1].stopped is not None:
                    account.settle()
                    break
    except (ModelFailing, LMError) as problem:
        # DSPy itself raises what fails a proposal of instructions; its words may repeat a key or a prompt.
        what = (
            str(problem) if isinstance(problem, ModelFailing) else f"a call failed for good by {failure_kind(problem)}"
        )
        msg = f"{session.model.model}: {what}; nothing was decided, and what was answered is in the run's cache"
        raise ModelError(msg) from None
    finally:
        account.close()
    # One that was stopped before its first trial has found nothing to compare.
    able = [one for one in found if one.stopped is None or one.trials] or found[:1]
    chosen = able[0] if len(able) == 1 else _chosen(able, assignment, session, journal)
    return replace(chosen, searched=replace(chosen.searched, stopped=found[-1].stopped))


def _task(baseline: dspy.Module, assignment: Assignment, session: Session, account: SearchAccount) -> Task:
    signature = assignment.signature
    train, val = (all_to_dspy(assignment.split(name), signature) for name in ("train", "val"))
    reflection = session.reflection or session.model
    return Task(
        program=baseline,
        train=train,
        val=val,
        metric=build_metric(signature),
        settings=session.settings,
        feedback=build_feedback(signature),
        groups=[group_of(example) for example in assignment.split("val")],
        reflection=reflection.copy(account=Proposals(account), temperature=REFLECTION_TEMPERATURE),
    )


def _searched(name: str, task: Task, session: Session, journal: _Journal) -> Compiled:
    done: list[Trial] = []

    def stepped(measure: Callable[..., Any]) -> Callable[..., Any]:
        def metric(*args: Any) -> Any:
            best = f", best {done[-1].best:.1f}" if done else ""
            tried = f"{name}: trial {len(done) + 1}/{OPTIMIZERS[name].trials(task.settings)}"
            session.progress.step(f"{tried}{best}, {spent(session.model.account)}")
            return measure(*args)

        return metric

    def decided(decision: Decision) -> None:
        journal.note("plateau", optimizer=name, **asdict(decision))

    def settle(question: str, answer: Callable[[], bool]) -> bool:
        replay = session.model.account.ledger.replay
        return bool(replay.decided(session.model.account.signature, f"{name}: {question}", answer))

    feedback = stepped(task.feedback) if task.feedback else None
    told = replace(task, settle=settle, metric=stepped(task.metric), feedback=feedback)
    compiled = run(name, told, done.append, decided)
    journal.note("ended", **asdict(compiled.searched), trials_saved=compiled.searched.trials_saved)
    session.progress.line(f"{name}: {compiled.searched.told}")
    return compiled


def _chosen(found: Sequence[Compiled], assignment: Assignment, session: Session, journal: _Journal) -> Compiled:
    """The program that meets the test, chosen on the validation split; its limit is that of any search."""
    signature, val = assignment.signature, assignment.split("val")
    contenders = []
    for compiled in found:
        answered = ask(compiled.program, val, signature, session, f"val-{compiled.optimizer}")
        contenders.append(Contender(compiled.optimizer, [item.score for item in answered.scored], answered.usage))
    ranked = choose(contenders, [group_of(example) for example in val], session.settings.seed)
    journal.note("choice", contenders=[asdict(one) for one in ranked])
    session.progress.line(f"{signature.name}: {sentence(ranked)}")
    return next(compiled for compiled, one in zip(found, ranked, strict=True) if one.chosen)
