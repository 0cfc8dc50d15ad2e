"""The first answers of an engine, which may have to compile kernels for them; no figure counts them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from objectives import RequestRecord
from optimize.engine.base import Engine
from optimize.errors import EngineFailure, FailureKind
from optimize.load.arrivals import Burst
from optimize.load.client_pool import LoadRequest
from optimize.load.clients import Clients, OngoingLoad
from optimize.load.clock import Clock
from optimize.load.pace import Limits
from optimize.load.refusals import fault_of, refusal
from optimize.load.window import Silence

TOKENS = 4
"""Bound on each of these answers."""
_WATCH_S = 0.02
_TOGETHER = 4


class FirstAnswers:
    """Waits for short answers, to one request and then to several at once.

    The first request of its kind may compile kernels, for longer than any warm-up; and torch compiles twice, for one
    sequence and for any number of them. One request that is refused says nothing of the others: its prompt may be too
    long.

    Args:
        clients: The senders.
        engine: The live engine; its death ends the wait at once.
        limits: Of the load.
        silence: Makes the judge of how long a load may go on without an answer.
        clock: Times the waits; the clients must use the same one.
    """

    def __init__(
        self, clients: Clients, engine: Engine, limits: Limits, silence: Callable[[OngoingLoad], Silence], clock: Clock
    ) -> None:  # fmt: skip
        self._clients, self._engine, self._limits = clients, engine, limits
        self._silence, self._clock = silence, clock

    @property
    def timeout_s(self) -> float:
        """Time after which one of these requests counts as failed."""
        return self._limits.request_s if self._limits.pace is None else self._limits.silence_s

    def wait(self, request: LoadRequest) -> None:
        """Send the requests, and return once they are answered.

        Raises:
            EngineFailure: the engine died, refuses such requests, or gives no answer.
            TransientFault, ConfigError: the endpoint throttles, or refuses the key.
        """
        for together in (1, _TOGETHER):
            with self._clients.loading(self._engine.endpoint, request, processes=1) as run:
                run.follow(Burst(together))
                silence = self._silence(run)
                while len(run.records) < together:
                    if silence.is_too_long(run.records, run.clock()):
                        raise self._unanswered()
                    self._engine.check()
                    self._clock.sleep(_WATCH_S)
                    run.update()
            if all(r.error is not None for r in run.records):
                self._refuse(run.records)

    def _refuse(self, records: Sequence[RequestRecord]) -> None:
        """Give up where the answers show that no other will come; other errors may pass."""
        record = records[-1]
        if (fault := fault_of(records)) is not None:
            raise fault
        if record.error == "timeout":
            raise self._unanswered()
        if record.error == "refused" and len(records) > 1:
            raise refusal(record)

    def _unanswered(self) -> EngineFailure:
        return EngineFailure(
            FailureKind.TOO_SLOW, f"no first answer within {self._limits.silence_s:.0f} s (load.first_answer_max_s)"
        )
