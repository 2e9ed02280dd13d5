"""Asking Prometheus' HTTP API for the raw samples of counters, and trusting nothing that it answers."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flywheel.base.errors import FlywheelError
from flywheel.base.http import get_json
from flywheel.base.retry import DeliveryError

if TYPE_CHECKING:
    from collections.abc import Mapping

TOKEN_VARIABLE = "PROMETHEUS_TOKEN"  # noqa: S105 - its name, not its value
LARGEST_ANSWER = 64 << 20
MOST_SERIES = 20_000


class UnansweredError(FlywheelError):
    """Prometheus gave no usable answer this time; nothing is lost, since counters keep what they counted."""


class CorruptError(FlywheelError):
    """Prometheus answered with what no counter can hold."""


@dataclass(frozen=True, slots=True)
class Series:
    """One series: its labels, and its samples as (milliseconds since the epoch, value), oldest first."""

    labels: Mapping[str, str]
    samples: tuple[tuple[int, float], ...]

    @property
    def target(self) -> str:
        """What restarts at once: the scraped process where labels name it, else the series but for its bucket."""
        if "instance" in self.labels:
            return f"{self.labels.get('job', '')}\n{self.labels['instance']}"
        return "\n".join(f"{name}={value}" for name, value in sorted(self.labels.items()) if name != "le")


def ask(url: str, query: str, at_ms: int, timeout_seconds: float) -> list[Series]:
    """The range vector that the query has at a moment.

    Raises:
        UnansweredError: no answer, an error, or not the form of a range vector; the message says which.
        CorruptError: a value that is no finite number >= 0.
    """
    token = os.environ.get(TOKEN_VARIABLE)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    parameters = {"query": query, "time": f"{at_ms / 1000:.3f}", "timeout": f"{math.ceil(timeout_seconds * 1000)}ms"}
    try:
        answer = get_json(f"{url.rstrip('/')}/api/v1/query", parameters, headers, timeout_seconds, LARGEST_ANSWER)
    except DeliveryError as error:
        msg = f"Prometheus {error}"
        raise UnansweredError(msg) from error
    try:
        return _series(answer)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        msg = f"Prometheus answered in an unknown form ({type(error).__name__})"
        raise UnansweredError(msg) from error


def _series(answer: Any) -> list[Series]:
    if answer["status"] != "success" or answer.get("warnings"):
        raise UnansweredError("Prometheus answered with an error or a partial result")
    data = answer["data"]
    if data["resultType"] != "matrix":
        raise UnansweredError("Prometheus answered with no range vector; does the query end in [{window}]?")
    found = data["result"]
    if len(found) > MOST_SERIES:
        msg = f"Prometheus has more than {MOST_SERIES} series for a query"
        raise UnansweredError(msg)
    return [Series(_labels(item["metric"]), _samples(item["values"])) for item in found]


def _labels(value: dict[str, Any]) -> dict[str, str]:
    if not all(type(text) is str for text in value.values()):
        raise TypeError("labels")
    return value


def _samples(values: list[Any]) -> tuple[tuple[int, float], ...]:
    samples = tuple((round(float(moment) * 1000), float(text)) for moment, text in values)
    for _, number in samples:
        if not 0 <= number < math.inf:
            msg = f"Prometheus has {number!r} where a counter should be"
            raise CorruptError(msg)
    return tuple(sorted(samples))
