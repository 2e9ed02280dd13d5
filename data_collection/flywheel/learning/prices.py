"""What a model costs, known beforehand: by an operator's table, else by the price list that comes with DSPy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dspy.clients.call_result import usage_dict
from dspy.clients.model_metadata import model_info, rate, source_info

from flywheel.base.prices import MILLION, Price

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flywheel.learning.choice import ModelChoice

OWN_TABLE = "the operator's price table"
OWN_MACHINE = "runs on this machine"
UNKNOWN = "unknown price"


@dataclass(frozen=True)
class Priced:
    """A model's price, None where nobody knows it, and who says so."""

    price: Price | None
    source: str


def price_of(choice: ModelChoice) -> Priced:
    """What the model costs."""
    if choice.price is not None:
        return Priced(choice.price, OWN_TABLE)
    if choice.embedded:
        return Priced(Price(input=0.0, output=0.0), OWN_MACHINE)
    provider, _, name = choice.name.partition("/")
    info = model_info(provider, name)
    usd = [_per_million(info, key) for key in ("input_cost_per_token", "output_cost_per_token")]
    if usd[0] is None or usd[1] is None:
        return Priced(None, f"{UNKNOWN}: DSPy's list does not have {choice.name}; --prices can tell it")
    price = Price(
        input=usd[0],
        output=usd[1],
        cached_input=_per_million(info, "cache_read_input_token_cost"),
        cache_write=_per_million(info, "cache_creation_input_token_cost"),
    )
    return Priced(price, f"DSPy's price list {source_info()['snapshot_version']}")


def _per_million(info: Mapping[str, Any], key: str) -> float | None:
    usd = rate(info, key)
    return None if usd is None else round(usd * MILLION, 6)


@dataclass(frozen=True)
class Taken:
    """The tokens that an answer took the first time, whether or not it came from the run's cache now.

    `prompt_cache_read` and `prompt_cache_write` are the parts of `input_tokens` that the provider's own prompt cache
    gave and took. `told` is False where the server said nothing.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    prompt_cache_read: int = 0
    prompt_cache_write: int = 0
    told: bool = False


NOTHING_TAKEN = Taken()


def taken(entry: Mapping[str, Any], model: str) -> Taken:
    """What an entry of DSPy's history took; it has no usage of its own where the answer came from the cache."""
    usage: Mapping[str, Any] = entry["usage"]
    if not usage and hasattr(entry["response"], "usage") and hasattr(entry["response"], "message"):
        usage = usage_dict(entry["response"], model.partition("/")[0])
    details = usage.get("prompt_tokens_details") or {}
    counts = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return Taken(
        input_tokens=counts[0] or 0,
        output_tokens=counts[1] or 0,
        prompt_cache_read=details.get("cached_tokens") or 0,
        prompt_cache_write=details.get("cache_creation_tokens") or 0,
        told=None not in counts,
    )


def cost_of(entry: Mapping[str, Any], model: str, price: Price | None) -> float | None:
    """US dollars of an answer the first time it was given: by `price`, else by DSPy's own reckoning; None: unknown."""
    if price is None:
        cost: float | None = entry["cost"]
        return cost
    counts = taken(entry, model)
    free = price.input == price.output == 0
    if not counts.told:
        return 0.0 if free else None
    return price.usd(counts.input_tokens, counts.output_tokens, counts.prompt_cache_read, counts.prompt_cache_write)
