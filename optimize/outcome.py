"""The result of a trial. Infeasible is not failed: a configuration that cannot run is a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from objectives import Estimate
from optimize.errors import FailureKind

ROLE = "role"
"""Optuna's user attribute that holds a trial's `Role`."""


class Role(StrEnum):
    """Why a configuration is measured; stored by value."""

    BASELINE = "baseline"
    SEARCH = "search"
    CONFIRMATION = "confirmation"
    MEASUREMENT = "measurement"
    TABLE = "table"
    CERTIFICATION = "certification"


class State(StrEnum):
    """Where a trial stands; stored by value."""

    RUNNING = "running"
    COMPLETED = "completed"
    INFEASIBLE = "infeasible"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Completed:
    """Measured. `estimates`: metric -> figure, all metrics that apply."""

    estimates: Mapping[str, Estimate]


@dataclass(frozen=True, slots=True)
class Infeasible:
    """The configuration cannot run or cannot be measured: told to the sampler as a violated constraint."""

    kind: FailureKind
    reason: str
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """The trial went wrong for a reason that says nothing about the configuration.

    Attributes:
        reason: What went wrong.
        disturbed: Whether the machine was disturbed, so that it may go well once nobody else computes.
    """

    reason: str
    disturbed: bool = False


Outcome = Completed | Infeasible | Failed


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result of evaluating one configuration, together with how it was measured.

    Attributes:
        outcome: The figures, or why there are none.
        answers_key: What the answers depend on; see `optimize.evaluation.answers`. Empty where nothing was started.
        seconds: Phase -> seconds it took; the phases are those of `optimize.ledger.TrialRecord`.
        audit: The client's own figures over the window; see `optimize.load.audit.Audit`.
        disturbances: What disturbed the machine during the window, in words.
        repeats: Why earlier measurements of the configuration were rejected, in words.
        cut_short: Why the measurement ended early; empty where it did not.
        paired: Quality metric -> comparison with the baseline on common rows (`objectives.segments.Paired`).
        new_engine: Whether the trial needed an engine of its own, rather than the one that was live.
        dtype: Format and data type, see `optimize.evaluation.data_type`; empty where recipe and flags say all.
        pace: How fast the engine answered in the window; see `optimize.load.pace.Pace`.
        capacity: The probes of a search for a capacity, `optimize.capacity.Capacity` as a mapping, and its "slo"; empty
            where the load was none.
    """

    outcome: Outcome
    answers_key: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    audit: Mapping[str, Any] = field(default_factory=dict)
    disturbances: Sequence[str] = ()
    repeats: Sequence[str] = ()
    cut_short: str = ""
    paired: Mapping[str, Any] = field(default_factory=dict)
    new_engine: bool = True
    dtype: str = ""
    pace: Mapping[str, Any] = field(default_factory=dict)
    capacity: Mapping[str, Any] = field(default_factory=dict)
