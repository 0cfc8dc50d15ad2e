"""The loop's view of an executor: a resolved trial goes in, its evaluation comes out of one of several slots later."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self

from optimize.decision.futility import Futility
from optimize.engine.base import EngineConfig, TrialConfig
from optimize.evaluation.answers import SentAnswers
from optimize.ledger import TrialRecord
from optimize.outcome import Evaluation


def nothing() -> None:
    """Holds nothing back."""


@dataclass(frozen=True, slots=True)
class Job:
    """One trial to run.

    Attributes:
        config: The configuration, resolved.
        record: Its record so far.
        futility: What is known before it; None measures it in full.
        answers: What the study was answered before, by the same model and decoding, and by the baseline.
        hold: Called before the load by an executor of one engine: from then on nothing may run in the background.
    """

    config: TrialConfig
    record: TrialRecord
    futility: Futility | None = None
    answers: SentAnswers = field(default_factory=SentAnswers)
    hold: Callable[[], None] = nothing


@dataclass(frozen=True, slots=True)
class Done:
    """A finished job.

    Attributes:
        slot: Where it ran.
        record: Its record, with the signature of the machine it ran on; not concluded yet.
        evaluation: The result, to be told.
        live: Whether an engine of its configuration still runs there.
    """

    slot: int
    record: TrialRecord
    evaluation: Evaluation
    live: bool


class Executor(Protocol):
    """Runs jobs in one or more slots, each an engine's place; a context manager that leaves no engine behind.

    Entering raises ConfigError where no slot can serve, so that nothing is written before.
    """

    @property
    def machine(self) -> str:
        """The class of the machines that the slots are on."""

    @property
    def slots(self) -> int:
        """How many jobs it would run at a time, at most."""

    def describe(self) -> str:
        """For people; empty where there is nothing to say."""

    def idle(self) -> list[int]:
        """Slots that could take a job now, those whose engine was used last first."""

    def effective(self, config: EngineConfig, names: Sequence[str]) -> dict[str, Any]:
        """Start an engine and ask it what it runs with; the engine stays for the next job of its configuration.

        Raises:
            EngineFailure, TransientFault: as `Launcher.launch`.
        """

    def submit(self, slot: int, job: Job) -> None:
        """Run a job in an idle slot."""

    def wait(self, timeout_s: float | None = None) -> Done | None:
        """The next job that is done; None where something else changed (a slot came), or time is over.

        Raises:
            OptimizeError: no slot is left, and none will come.
        """

    def interrupt(self) -> None:
        """Drop what is running, engines included."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
