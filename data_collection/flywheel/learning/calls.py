"""A call to a language model as calls.jsonl holds it, a line a call, and sums over calls."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from flywheel.base.errors import DamagedError
from flywheel.base.files import to_json, write_atomic

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Call:
    """One call, as its line in the ledger holds it.

    `cost_usd` is None when the price is not known. A cached call spends nothing and took no time worth telling:
    0 tokens, 0 USD, `latency_ms` None. `error` is the kind of failure, never the provider's words. `key` names the
    request, so that a resumed run knows what was asked before; None where it was not to be cached. `prompt_cache_read`
    and `prompt_cache_write` are the parts of `input_tokens` that the provider's own prompt cache gave and took.
    """

    time: str
    stage: str
    signature: str
    model: str
    input_tokens: int
    output_tokens: int
    cached: bool
    cost_usd: float | None
    latency_ms: float | None
    error: str | None
    key: str | None = None
    prompt_cache_read: int = 0
    prompt_cache_write: int = 0


@dataclass(frozen=True)
class Totals:
    """Sums over calls. `calls` went to the model, failed ones (`errors`) included; cached ones count apart.

    `cost_usd` is None when the price of any answered call is unknown.
    """

    calls: int = 0
    cached_calls: int = 0
    errors: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = 0.0
    prompt_cache_read: int = 0
    prompt_cache_write: int = 0

    @property
    def tokens(self) -> int:
        """Input and output tokens together."""
        return self.input_tokens + self.output_tokens

    def plus(self, call: Call) -> Totals:
        """These totals with one call more."""
        if call.cached:
            return replace(self, cached_calls=self.cached_calls + 1)
        if call.error is not None:
            return replace(self, calls=self.calls + 1, errors=self.errors + 1)
        known = self.cost_usd is not None and call.cost_usd is not None
        return replace(
            self,
            calls=self.calls + 1,
            input_tokens=self.input_tokens + call.input_tokens,
            output_tokens=self.output_tokens + call.output_tokens,
            cost_usd=(self.cost_usd or 0.0) + (call.cost_usd or 0.0) if known else None,
            prompt_cache_read=self.prompt_cache_read + call.prompt_cache_read,
            prompt_cache_write=self.prompt_cache_write + call.prompt_cache_write,
        )


def totals_of(calls: Iterable[Call], signature: str | None = None, stage: str | None = None) -> Totals:
    """The sums over `calls`, or over those of one signature or stage."""
    totals = Totals()
    for call in calls:
        if signature in {None, call.signature} and stage in {None, call.stage}:
            totals = totals.plus(call)
    return totals


def read_calls(path: Path) -> Iterator[Call]:
    """The calls in a ledger's file, of however many processes wrote it; none when there is no file.

    A torn last line (a process died while it wrote) is left out.

    Raises:
        DamagedError: another line is no call.
    """
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    whole = text[: text.rfind("\n") + 1]
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            yield Call(**json.loads(line))
        except (ValueError, TypeError) as error:
            msg = f"{path}, line {number}: not a call: {error}"
            raise DamagedError(msg) from error


def forget_failures(path: Path) -> int:
    """Let what failed for good be asked again when the run is resumed; how many calls that are. Nothing else writes."""
    calls = list(read_calls(path))
    failed = sum(call.error is not None and call.key is not None for call in calls)
    if failed:
        kept = [replace(call, key=None) if call.error is not None else call for call in calls]
        write_atomic(path, "".join(to_json(asdict(call), indent=None) for call in kept))
    return failed
