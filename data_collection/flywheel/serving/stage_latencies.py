"""How long each arm's calls took in the present stage: histograms for percentiles, which no decision rests on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from flywheel.serving.histogram import Histogram

if TYPE_CHECKING:
    from collections.abc import Mapping

PERCENTILES = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class StageLatencies:
    """Histograms of latencies in ms by variant, of one stage (counted from 1; 0 before the first look)."""

    stage: int = 0
    arms: Mapping[str, Histogram] = field(default_factory=dict)

    def plus(self, stage: int, found: Mapping[str, Histogram]) -> Self:
        """These latencies and a look's; another stage begins anew."""
        known = self.arms if stage == self.stage else {}
        arms = {name: Histogram() for name in sorted({*known, *found})}
        for part in (known, found):
            for name, histogram in part.items():
                arms[name].merge(histogram)
        return type(self)(stage, arms)

    def figures(self, variants: tuple[str, ...]) -> dict[str, float | None]:
        """`latency_ms_p95_candidate` and so on, in ms, each within 1 %; None of an arm without latencies."""
        found = {}
        for variant in variants:
            histogram = self.arms.get(variant, Histogram())
            for percent in PERCENTILES:
                value = histogram.quantile(percent / 100)
                found[f"latency_ms_p{percent}_{variant}"] = None if value is None else round(value, 3)
        return found

    def to_object(self) -> dict[str, Any]:
        """For JSON."""
        return {"stage": self.stage, "arms": {name: item.to_object() for name, item in self.arms.items()}}

    @classmethod
    def from_object(cls, value: Mapping[str, Any]) -> Self:
        """What `to_object` gave; ValueError for anything else."""
        try:
            arms = {name: Histogram.from_object(item) for name, item in value["arms"].items()}
            stage = value["stage"]
        except (KeyError, AttributeError, TypeError) as error:
            msg = f"latencies: {error!r}"
            raise ValueError(msg) from error
        if type(stage) is not int or stage < 0:
            msg = f"latencies: stage {stage!r}"
            raise ValueError(msg)
        return cls(stage, arms)
