"""Which language model a run uses, and why; light to import, so that a missing one is told at once."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flywheel.base.errors import BadInputError, ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flywheel.base.prices import Price

EMBEDDED = "embedded/smollm2-135m"
# Newer ones than this refuse a temperature; DSPy's price list knows it.
ANTHROPIC_MODEL = "anthropic/claude-sonnet-4-6"
MODEL_VARIABLE = "FLYWHEEL_MODEL"
API_BASE_VARIABLE = "FLYWHEEL_API_BASE"
PRICES_VARIABLE = "FLYWHEEL_PRICES"
ALIAS = re.compile(r"[-:/@.]latest$")
KEY_VARIABLE = "ANTHROPIC_API_KEY"


@dataclass(frozen=True)
class ModelChoice:
    """A DSPy model name, where the choice came from, and the server to ask where it is not the provider's own.

    `prices` is an operator's table, by name.
    """

    name: str
    origin: str
    api_base: str | None = None
    prices: Mapping[str, Price] | None = None

    @property
    def embedded(self) -> bool:
        """Whether this is the model that comes with the system."""
        return self.name == EMBEDDED

    @property
    def alias(self) -> bool:
        """Whether the name is the provider's word for whatever is newest."""
        return ALIAS.search(self.name) is not None

    def beside(self, name: str | None) -> ModelChoice | None:
        """Another model to be used beside this one, at the same server where that is named; None without a name."""
        return replace(_named(name, f"beside {self.name}", self.api_base), prices=self.prices) if name else None

    @property
    def price(self) -> Price | None:
        """What the operator's table says that it costs."""
        return self.prices.get(self.name) if self.prices is not None else None

    def describe(self) -> str:
        """One line for people: which model, and why this one."""
        at = f" at {self.api_base}" if self.api_base else ""
        moves = "; warning: an alias, whose model may change under a deployed program" if self.alias else ""
        return f"model: {self.name}{at} ({self.origin}){moves}"


def choose_model(
    flag: str | None = None,
    environment: Mapping[str, str] = os.environ,
    *,
    api_base: str | None = None,
    require_model: bool = False,
    prices: str | None = None,
) -> ModelChoice:
    """--model, else FLYWHEEL_MODEL, else an Anthropic model where its key is set, else the embedded model.

    With an `api_base` (or FLYWHEEL_API_BASE) a bare name means `openai/<name>`: a server that speaks OpenAI's protocol.
    `prices` (or FLYWHEEL_PRICES) is the file of an operator's price table.

    Raises:
        ModelError: nothing was chosen and `require_model` forbids the embedded model as a fallback.
        BadInputError: an address without a model to ask there, or one that is no address; a table that is none.
    """
    choice = _chosen(flag, environment, api_base, require_model=require_model)
    table = prices or environment.get(PRICES_VARIABLE)
    return replace(choice, prices=_prices(table)) if table else choice


def _prices(table: str) -> Mapping[str, Price]:
    from flywheel.base.prices import PriceTable

    return PriceTable.read(Path(table)).root


def _chosen(
    flag: str | None, environment: Mapping[str, str], api_base: str | None, *, require_model: bool
) -> ModelChoice:
    base = api_base or environment.get(API_BASE_VARIABLE) or None
    if base is not None and not base.startswith(("http://", "https://")):
        msg = f"{base!r}: must start with http:// or https:// and end where /chat/completions would follow"
        raise BadInputError(msg)
    if base is not None and urlsplit(base).password is not None:
        msg = "an address with a password in it would be written into the run's files; give the key by its variable"
        raise BadInputError(msg)
    if flag or environment.get(MODEL_VARIABLE):
        name, origin = (flag, "--model") if flag else (environment[MODEL_VARIABLE], MODEL_VARIABLE)
        return _named(str(name), origin, base)
    if base is not None:
        msg = f"an API base without a model: name one by --model or {MODEL_VARIABLE}, such as openai/<name>"
        raise BadInputError(msg)
    if environment.get(KEY_VARIABLE):
        return ModelChoice(ANTHROPIC_MODEL, f"{KEY_VARIABLE} is set; --model chooses another")
    if require_model:
        msg = (
            f"no model: set {KEY_VARIABLE} or {MODEL_VARIABLE}, or pass --model (--model {EMBEDDED} for the small one)"
        )
        raise ModelError(msg)
    return ModelChoice(EMBEDDED, f"no --model, {MODEL_VARIABLE} or {KEY_VARIABLE}; small, weak and free")


def choose_judge(
    flag: str | None, api_base: str | None, examined: ModelChoice, *, force: bool, prices: str | None = None
) -> ModelChoice | None:
    """The model of --judge, or None where there is none; `prices` as for `choose_model`.

    Raises:
        BadInputError: it is the model under optimization, which may not judge itself unless forced to; or the address
            holds a login, which the run's summary would tell.
    """
    if flag is None:
        return None
    if api_base is not None and "@" in urlsplit(api_base).netloc:
        msg = "--judge-api-base: leave out user and password; give the key by its variable, such as OPENAI_API_KEY"
        raise BadInputError(msg)
    # Neither the model nor the server of the environment is meant for the judge.
    table = prices or os.environ.get(PRICES_VARIABLE)
    judge = replace(choose_model(flag, {}, api_base=api_base, prices=table), origin="--judge")
    if judge.name == examined.name and not force:
        msg = f"--judge {judge.name}: it is the model under optimization; name another, or insist by --force-judge"
        raise BadInputError(msg)
    return judge


def _named(name: str, origin: str, base: str | None) -> ModelChoice:
    if name in {EMBEDDED, "embedded"}:
        return ModelChoice(EMBEDDED, origin)
    if "/" not in name and base is not None:
        name = f"openai/{name}"
    if "/" not in name or name.endswith("/"):
        msg = f"model {name!r}: expected <provider>/<name>, such as {ANTHROPIC_MODEL}, or {EMBEDDED}"
        raise BadInputError(msg)
    return ModelChoice(name, origin, base)
