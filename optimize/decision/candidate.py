"""A measured configuration, as a recommendation sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from objectives import Estimate
from objectives.segments import Paired

_RECIPE = "quantization"


@dataclass(frozen=True)
class Candidate:
    """One measured configuration.

    Attributes:
        number: Trial number.
        params: Knob -> value.
        estimates: Metric -> figure.
        feasible: Whether it runs and keeps every bound.
        baseline: Whether it is the baseline.
        paired: Quality metric -> comparison with the baseline on the rows that both answered.
        first: Metric -> figure that the search read, where `estimates` come from a confirmation; else empty.
        means: Metric -> the same mean of the rounds, with the interval for many engines at once instead of one further
            measurement; empty where `estimates` come from no confirmation.
        dtype: Format and data type that neither recipe nor flags name, e.g. "awq int4, float16"; empty for none.
    """

    number: int
    params: Mapping[str, Any]
    estimates: Mapping[str, Estimate]
    feasible: bool
    baseline: bool = False
    paired: Mapping[str, Paired] = field(default_factory=dict)
    first: Mapping[str, Estimate] = field(default_factory=dict)
    means: Mapping[str, Estimate] = field(default_factory=dict)
    dtype: str = ""

    @property
    def settings(self) -> dict[str, Any]:
        """Its knobs for people, with the data type beside the recipe: "published (bfloat16)"."""
        return {k: f"{v} ({self.dtype})" if self.dtype and k == _RECIPE else v for k, v in self.params.items()}

    @property
    def defaults(self) -> str:
        """What the baseline is called: "vLLM's defaults", with its data type where that is known."""
        return f"vLLM's defaults ({self.dtype})" if self.dtype else "vLLM's defaults"

    @property
    def ratios(self) -> dict[str, Estimate]:
        """Metric -> ratio to the baseline's that decisions go by, where the pairs have one."""
        return {name: p.judged for name, p in self.paired.items() if p.judged is not None}
