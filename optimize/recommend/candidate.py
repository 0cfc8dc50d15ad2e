"""A measured configuration, as a recommendation sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from objectives import Estimate


@dataclass(frozen=True)
class Candidate:
    """One measured configuration.

    Attributes:
        number: Trial number.
        params: Knob -> value.
        estimates: Metric -> figure.
        feasible: Whether it runs and keeps every bound.
        baseline: Whether it is the baseline.
        first: Metric -> what the search read, where `estimates` were measured again since; else empty.
    """

    number: int
    params: Mapping[str, Any]
    estimates: Mapping[str, Estimate]
    feasible: bool
    baseline: bool = False
    first: Mapping[str, Estimate] = field(default_factory=dict)
