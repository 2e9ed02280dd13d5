"""prices.json: what models cost, where no price list knows it or an operator knows better.

    {"openai/my-model": {"input": 0.25, "output": 1.0, "cached_input": 0.025}}

Figures are US dollars per million tokens; a model of one's own machine costs 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError

from flywheel.base.errors import BadInputError
from flywheel.base.files import read_json_object

if TYPE_CHECKING:
    from pathlib import Path

MILLION = 1_000_000
MOST_USD = 1_000_000.0


class Price(BaseModel):
    """US dollars per million tokens.

    `cached_input` is for prompt tokens that the provider read from its prompt cache, `cache_write` for those that it
    wrote there; both are `input` where not told.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    input: float = Field(ge=0, le=MOST_USD)
    output: float = Field(ge=0, le=MOST_USD)
    cached_input: float | None = Field(default=None, ge=0, le=MOST_USD)
    cache_write: float | None = Field(default=None, ge=0, le=MOST_USD)

    def usd(self, input_tokens: float, output_tokens: float, cache_read: float = 0, cache_write: float = 0) -> float:
        """What a call costs; tokens read from the prompt cache and written to it are part of `input_tokens`."""
        read = self.input if self.cached_input is None else self.cached_input
        written = self.input if self.cache_write is None else self.cache_write
        plain = input_tokens - cache_read - cache_write
        total = plain * self.input + cache_read * read + cache_write * written + output_tokens * self.output
        return total / MILLION


class PriceTable(RootModel[dict[str, Price]]):
    """Prices by DSPy model name, such as `openai/gpt-5`."""

    model_config = ConfigDict(frozen=True)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The table in `path`.

        Raises:
            BadInputError: it cannot be read, or holds what is no price; the message names the value.
            DamagedError: it is no JSON object.
        """
        expected = 'prices such as {"openai/my-model": {"input": 0.25, "output": 1.0}}'
        try:
            return cls.model_validate(read_json_object(path, expected))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ": ".join(str(part) for part in first["loc"])
            msg = f"{path}: {where}: {first['input']!r}: {first['msg']} (US dollars per million tokens)"
            raise BadInputError(msg) from error
