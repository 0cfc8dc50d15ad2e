"""One configuration that is evaluated: its notes, the limits of its load, and what its load has shown. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from optimize.config.measuring import Guard
from optimize.decision.constraints import Limit, hopeless_after_s
from optimize.decision.futility import Futility
from optimize.engine.base import TrialConfig
from optimize.errors import EngineFailure, FailureKind, TransientFault
from optimize.evaluation.telemetry import PERIOD_S
from optimize.ledger import TrialRecord
from optimize.load.generator import LoadResult
from optimize.load.pace import Effort, Pace
from optimize.outcome import Evaluation, Outcome, Role


@dataclass
class Notes:
    """Notes on one evaluation, kept whatever its outcome is; the attributes are those of `Evaluation`."""

    answers_key: str
    seconds: dict[str, float] = field(default_factory=dict)
    audit: dict[str, Any] = field(default_factory=dict)
    disturbances: list[str] = field(default_factory=list)
    repeats: list[str] = field(default_factory=list)
    cut_short: str = ""
    paired: dict[str, Any] = field(default_factory=dict)
    pace: dict[str, Any] = field(default_factory=dict)
    capacity: dict[str, Any] = field(default_factory=dict)
    new_engine: bool = True
    dtype: str = ""

    def take(self, result: LoadResult, disturbances: Sequence[str], guard: Guard) -> None:
        """Note how a load was measured, in place of the one before."""
        drift = [result.drift] if result.drift else []
        self.disturbances = [*disturbances, *result.audit.stalls(guard), *drift]
        self.audit, self.cut_short = asdict(result.audit), result.cut_short or ""
        self.pace = asdict(replace(result.pace, disturbed=bool(self.disturbances))) if result.pace else {}

    def evaluation(self, outcome: Outcome) -> Evaluation:
        return Evaluation(outcome, **vars(self))


@dataclass(frozen=True)
class Task:
    """One configuration to evaluate; `record` is read only."""

    config: TrialConfig
    record: TrialRecord
    futility: Futility | None
    notes: Notes
    phases: list[str] = field(default_factory=list)

    @property
    def pace(self) -> Pace | None:
        """What its limits follow; None where it is measured as long as it takes."""
        return None if self.record.baseline else Pace.from_dict(self.record.pace)

    def give_up_s(self, limits: Sequence[Limit]) -> float | None:
        """How long it may go on without a single answer; None where no limit on latency says so.

        A limit that the baseline itself breaks is no reason to give up before three of its answers.
        """
        hopeless_s = hopeless_after_s(limits)
        if self.record.baseline or self.record.role is Role.MEASUREMENT or hopeless_s is None:
            return None
        return hopeless_s if self.pace is None else max(hopeless_s, 3 * self.pace.answer_s)


def effort_in(series: Mapping[str, Sequence[tuple[float, float]]]) -> Effort:
    """What the engine did from second 0 of its samples on."""
    tokens = [value for at_s, value in series.get("generated_tokens", ()) if at_s >= 0]
    cores = [value for at_s, value in series.get("cpu_cores", ()) if at_s >= 0]
    return Effort(tokens[-1] - tokens[0] if tokens else 0.0, PERIOD_S * sum(cores) if cores else None)


def phases_s(result: LoadResult) -> dict[str, float]:
    """Phase of a load -> seconds that it took."""
    return {
        "first_answer": result.first_answer_s,
        "warmup": result.window_start_s,
        "window": result.window_end_s - result.window_start_s,
        "drain": result.drained_s - result.window_end_s,
    }


def require_settled(result: LoadResult, client_problems: Sequence[str]) -> None:
    """Raises TransientFault of a client that was too slow, and EngineFailure of a load without a steady state."""
    if client_problems:
        raise TransientFault(f"the client was too slow for valid figures: {'; '.join(client_problems)}")
    if result.overload:
        raise EngineFailure(FailureKind.UNSETTLED, f"{result.overload}: this load does not settle")
