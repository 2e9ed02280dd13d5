"""One call to a module, measured, and recorded as evidence and training data when it ends."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Protocol, Self

from flywheel.serving.records import BASELINE_VERSION, NO_TOKENS, Interaction
from flywheel.serving.routing import BASELINE, WITHDRAWN

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from flywheel.serving.router import Choice, Router

_ENVELOPE = "program.json"


class Sink(Protocol):
    """What takes the records, such as a telemetry Recorder."""

    def record(self, interaction: Interaction) -> None:
        """Take one record; must not raise and must not wait."""


def module_version(choice: Choice) -> str | dict[str, str]:
    """The version as records have it: {"Optimized": "v20251104_120000"} for our envelopes and all candidates."""
    path = PurePath(choice.module)
    if path.name == _ENVELOPE:
        return {"Optimized": path.parent.name}
    if choice.variant in {BASELINE, WITHDRAWN}:
        return BASELINE_VERSION
    return {"Optimized": path.stem}


class Call:
    """A context manager around the module's work; it catches nothing.

    Set `output`, `tokens`, `quality` (0 .. 1, higher is better), `cost_usd`, `model` and `metadata` as they become
    known, and `error` for a failure that raised nothing. An exception is recorded by its type alone, since its text
    may hold the user's words. Latency is milliseconds from entering to leaving.
    """

    def __init__(
        self,
        router: Router,
        choice: Choice,
        signature: str,
        unit_id: object,
        *,
        input: Mapping[str, Any] | None = None,  # noqa: A002 - the record's own word
        module_name: str | None = None,
        model: str = "",
    ) -> None:
        self.choice = choice
        self.output: Mapping[str, Any] = {}
        self.tokens = NO_TOKENS
        self.quality: float | None = None
        self.cost_usd = 0.0
        self.model = model
        self.error: str | None = None
        self.metadata: dict[str, str] = {}
        self._signature = signature
        self._module_name = module_name or signature
        self._unit_id = unit_id if isinstance(unit_id, str) else None
        self._input = input or {}
        self._router = router
        self._timestamp_ms = 0
        self._started = 0.0

    def __enter__(self) -> Self:
        self._timestamp_ms = self._router.now_ms()
        self._started = self._router.clock()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        latency_ms = (self._router.clock() - self._started) * 1000
        if kind is not None:
            self.error = kind.__name__
        if self._router.telemetry is not None:
            self._router.telemetry.record(self._interaction(latency_ms))

    def _interaction(self, latency_ms: float) -> Interaction:
        drawn = self.choice.experiment_id is not None
        return Interaction(
            module_name=self._module_name,
            module_version=module_version(self.choice),
            signature=self._signature,
            input=self._input,
            output=self.output,
            timestamp_ms=self._timestamp_ms,
            latency_ms=latency_ms,
            tokens=self.tokens,
            cost_usd=self.cost_usd,
            model=self.model,
            success=self.error is None,
            error=self.error,
            metadata={"propensity": f"{self.choice.propensity:g}", **self.metadata} if drawn else self.metadata,
            experiment_id=self.choice.experiment_id,
            variant=self.choice.variant if drawn else None,
            unit_id=self._unit_id,
            quality_score=self.quality,
        )
