"""What a rollout is set to: its rule's constants and where its metrics come from, as JSON has them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any
from urllib.parse import urlsplit

from flywheel.base.errors import BadInputError
from flywheel.serving.rule import QUALITY, RolloutConfig

EXPERIMENT, VARIANT, WINDOW = "{experiment}", "{variant}", "{window}"
_OF_THE_ARM = 'experiment_id="{experiment}",variant="{variant}"'
QUERIES = ("calls", "errors", "latency_buckets", "latency_sum", "quality_sum", "quality_count")


@dataclass(frozen=True, slots=True)
class PrometheusSettings:
    """The Prometheus that keeps the metrics, and the PromQL that gives each counter's raw samples.

    `{experiment}`, `{variant}` (baseline | candidate) and `{window}` (a duration that reaches back to the last look)
    are filled in; each query must give a range vector of counters, such as `x_total{...}[{window}]`. `latency_buckets`
    are of a classic histogram (label `le`) over successful calls and timeouts; quality queries are optional, sum and
    number of scores within 0 .. 1. Samples younger than `lag_seconds` wait, until every scrape that began has ended.
    """

    url: str
    calls: str = f"dspy_calls_total{{{_OF_THE_ARM}}}[{{window}}]"
    errors: str = f'dspy_calls_total{{{_OF_THE_ARM},outcome!="success"}}[{{window}}]'
    latency_buckets: str = f"dspy_call_latency_seconds_bucket{{{_OF_THE_ARM}}}[{{window}}]"
    latency_sum: str = f"dspy_call_latency_seconds_sum{{{_OF_THE_ARM}}}[{{window}}]"
    quality_sum: str | None = None
    quality_count: str | None = None
    milliseconds_per_unit: float = 1000
    lag_seconds: float = 10
    timeout_seconds: float = 10

    def __post_init__(self) -> None:
        _check_url(self.url)
        for name in QUERIES:
            _check_query(name, getattr(self, name))
        if (self.quality_sum is None) != (self.quality_count is None):
            raise BadInputError("prometheus: quality_sum and quality_count belong together")
        for name in ("milliseconds_per_unit", "lag_seconds", "timeout_seconds"):
            value = getattr(self, name)
            if type(value) not in {int, float} or not 0 < value < math.inf:
                msg = f"prometheus: {name}: {value!r} is not a number > 0"
                raise BadInputError(msg)


def _check_url(url: object) -> None:
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
    except ValueError:
        parts = None
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
        msg = f"prometheus: url: {url!r} is no http:// or https:// address"
        raise BadInputError(msg)
    # It stands in the experiment's record and in `status`.
    if parts.username or parts.password or parts.query or parts.fragment:
        raise BadInputError("prometheus: url: holds a password or a query; a token goes into PROMETHEUS_TOKEN")


def _check_query(name: str, query: object) -> None:
    if query is None and name.startswith(QUALITY):
        return
    if not isinstance(query, str) or not all(part in query for part in (EXPERIMENT, VARIANT, WINDOW)):
        msg = f"prometheus: {name}: {query!r} lacks {EXPERIMENT}, {VARIANT} or [{WINDOW}]"
        raise BadInputError(msg)


def prometheus_from(value: object, url: str | None = None) -> PrometheusSettings:
    """The settings in a JSON object, `url` over the one in it.

    Raises:
        BadInputError: an unknown key, or a value that cannot be; it is named.
    """
    known = [field.name for field in fields(PrometheusSettings)]
    if not isinstance(value, dict) or not all(key in known for key in value):
        msg = f"prometheus: {value!r} has more than {', '.join(known)}"
        raise BadInputError(msg)
    body = value if url is None else {**value, "url": url}
    return PrometheusSettings(**{"url": None, **body})


def config_object(config: RolloutConfig) -> dict[str, Any]:
    """The config as JSON has it."""
    return asdict(config)


def config_from(value: dict[str, Any]) -> RolloutConfig:
    """The config in a JSON object; keys that are absent keep their defaults.

    Raises:
        BadInputError: an unknown key, or a value that cannot be; it is named.
    """
    known = [field.name for field in fields(RolloutConfig)]
    for key in value:
        if key not in known:
            msg = f"{key}: no setting of a rollout; there are {', '.join(known)}"
            raise BadInputError(msg)
    body: dict[str, Any] = {key: tuple(item) if isinstance(item, list) else item for key, item in value.items()}
    try:
        config = RolloutConfig(**body)
    except (TypeError, OverflowError) as error:
        msg = f"not the settings of a rollout: {error}"
        raise BadInputError(msg) from error
    if config.stages[-1] != 100:
        msg = f"stages: {list(config.stages)} do not end at 100"
        raise BadInputError(msg)
    return config
