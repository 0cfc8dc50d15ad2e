"""What became of a trial. Infeasible is not failed: a configuration that cannot run is a result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from objectives import Estimate
from optimize.errors import FailureKind


@dataclass(frozen=True, slots=True)
class Completed:
    """Measured. `estimates`: metric -> figure, all metrics that apply."""

    estimates: Mapping[str, Estimate]


@dataclass(frozen=True, slots=True)
class Infeasible:
    """Cannot run, or not to be measured: told to the sampler as a violated constraint."""

    kind: FailureKind
    reason: str
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """Went wrong for a reason that says nothing about the configuration."""

    reason: str


Outcome = Completed | Infeasible | Failed


ROLE, BASELINE, SEARCH, CONFIRMATION = "role", "baseline", "search", "confirmation"
