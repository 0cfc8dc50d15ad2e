"""The loop's view of an executor: a resolved trial goes in, its evaluation comes out of one of several slots later."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Protocol, Self

from optimize.capacity import Capacity
from optimize.decision.futility import Futility
from optimize.engine.base import EngineConfig, TrialConfig
from optimize.errors import EngineFailure
from optimize.evaluation.answers import SentAnswers
from optimize.evaluation.references import References
from optimize.ledger import TrialRecord
from optimize.load.arrivals import Arrivals
from optimize.outcome import Evaluation
from optimize.plan import Plan


def nothing() -> None:
    """Do nothing: the default of `Job.hold`."""


@dataclass(frozen=True, slots=True)
class Job:
    """One trial to run.

    Attributes:
        config: The configuration, resolved.
        record: Its record so far.
        futility: Figures against which its search for the capacity may be given up; None searches to the end.
        answers: Earlier answers of the study by the same model and decoding, and those of the baseline.
        hold: Called before the load by an executor of one engine: from then on nothing may run in the background.
        references: The unquantized model's own answers, where these are what answers are scored against.
        arrivals: The load, where its level was found by the study; None for that of the configuration.
    """

    config: TrialConfig
    record: TrialRecord
    futility: Futility | None = None
    answers: SentAnswers = field(default_factory=SentAnswers)
    hold: Callable[[], None] = nothing
    references: References | None = None
    arrivals: Arrivals | None = None

    def planned(self, plan: Plan) -> Plan:
        """The plan with this job's load."""
        return plan if self.arrivals is None else replace(plan, arrivals=self.arrivals)


@dataclass(frozen=True, slots=True)
class Done:
    """A finished job.

    Attributes:
        slot: Where it ran.
        record: Its record, with the signature of the machine it ran on; not concluded yet.
        evaluation: The result, to be told.
        live: Whether an engine of its configuration still runs in the slot.
    """

    slot: int
    record: TrialRecord
    evaluation: Evaluation
    live: bool


class Executor(Protocol):
    """Runs jobs in one or more slots of one engine each; a context manager that leaves no engine behind.

    Entering it raises ConfigError where no slot can run an engine, before anything is written.
    """

    @property
    def machine(self) -> str:
        """Class of the machines of the slots."""

    @property
    def slots(self) -> int:
        """Most jobs at a time."""

    def describe(self) -> str:
        """Description for people; empty for an executor of one engine."""

    def idle(self) -> list[int]:
        """Free slots, those whose engine was used last first."""

    def effective(self, config: EngineConfig, names: Sequence[str]) -> dict[str, Any]:
        """Start an engine and read the values of its flags; the engine stays for the next job of its configuration.

        Raises:
            EngineFailure, TransientFault: as `Launcher.launch`.
        """

    def refusals(self, engines: Mapping[str, EngineConfig]) -> dict[str, EngineFailure]:
        """Name -> why its engine cannot run where the slots are, as `Launcher.refusals`."""

    def references(self) -> References:
        """Have the unquantized model answer for reference; its engine stays for the next job of its configuration.

        Raises:
            EngineFailure, TransientFault: as `optimize.evaluation.references.ask`.
        """

    def capacity(self, config: TrialConfig) -> Capacity:
        """Find what a configuration carries within the SLO; its engine stays for the next job of its configuration.

        Raises:
            EngineFailure, TransientFault, ConfigError: as `optimize.evaluation.auto_level.ask`.
        """

    def submit(self, slot: int, job: Job) -> None:
        """Run a job in a free slot."""

    def wait(self, timeout_s: float | None = None) -> Done | None:
        """The next job that is done; None if a slot became free otherwise, or time is over.

        Raises:
            OptimizeError: no slot is left, and none can be started.
        """

    def interrupt(self) -> None:
        """Drop the running jobs and their engines."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
