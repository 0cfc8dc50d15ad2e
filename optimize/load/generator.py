"""Drives a load against a live engine: warm-up, window, and on until the window's last request is answered."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from objectives import RequestRecord
from optimize.config.measuring import Load
from optimize.engine.base import Engine, RequestConfig
from optimize.load import steady_state
from optimize.load.arrivals import Arrivals, ClosedLoop, OpenLoop, Poisson
from optimize.load.audit import Audit, audit_of
from optimize.load.client_pool import LoadRequest
from optimize.load.clients import Clients, OngoingLoad
from optimize.load.clock import Clock, MonotonicClock
from optimize.load.first_answers import TOKENS, FirstAnswers
from optimize.load.pace import Effort, Limits, Pace, pace_of
from optimize.load.window import PilesUp, Precise, Silence, Window
from optimize.workload.workload import Workload

_LEAD_S = 0.2

Phase = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Traffic:
    """The requests sent to an engine, and for how long.

    Attributes:
        workload: Prompts, sent in a seeded order, over and over.
        request: Decoding settings.
        arrivals: When requests are due.
        load: Lengths of warm-up and window, time limits.
        seed: Of the order of prompts and of random arrivals.
        later: Rows of the workload that are sent after the others: their answers are known.
    """

    workload: Workload
    request: RequestConfig
    arrivals: Arrivals
    load: Load
    seed: int = 0
    later: Collection[int] = ()

    def asking(self, max_tokens: int, timeout_s: float) -> LoadRequest:
        """The requests of its loads, with a bound on the tokens of every answer and the seconds to wait for it."""
        return LoadRequest(
            self.workload, self.request, max_tokens, timeout_s, self.seed, self.later, self.load.honour_retry_after
        )


@dataclass(frozen=True, slots=True)
class LoadControl:
    """How a load is watched, and when its window closes.

    Attributes:
        phase: Called with "first answers", "warm-up" and "measuring" as they begin.
        first_answers: Whether kernels may have to be compiled first.
        give_up_s: How long the load may go on without a single answer; None waits as long as for the first answers.
        pace: The baseline's, which the limits follow; None measures as long as it takes.
        effort: What the engine did since a time of the clock, for one that gives no answer.
        precise: Asked now and then whether a window that is long enough may close.
        clock: Times the load; the clients must use the same one.
    """

    phase: Phase = lambda _: None
    first_answers: bool = True
    give_up_s: float | None = None
    pace: Pace | None = None
    effort: Callable[[float], Effort] = lambda _: Effort()
    precise: Precise = lambda _: True
    clock: Clock = field(default_factory=MonotonicClock)


@dataclass(frozen=True, slots=True)
class LoadResult:
    """Records in order of completion, and the window within them; times are seconds since the load began.

    Attributes:
        records: Every request that ended, warm-up included.
        window_start_s: Start of the measured window.
        window_end_s: End of the measured window.
        began_at: The clock at second 0, to line telemetry up.
        first_answer_s: How long the engine took for its very first answers, before second 0.
        drained_s: When the window's last request had been answered.
        audit: Of the client, over the window.
        drift: How the speed changed within the window, in words, where the arrivals do not explain it.
        overload: How the arrivals outrun the engine, in words: the load has no steady state.
        cut_short: Why the window was closed early; None where it was not.
        pace: How fast the engine answered in the window.
    """

    records: list[RequestRecord]
    window_start_s: float
    window_end_s: float
    began_at: float
    first_answer_s: float
    drained_s: float
    audit: Audit
    drift: str | None
    overload: str | None
    cut_short: str | None = None
    pace: Pace | None = None


def run_load(clients: Clients, engine: Engine, traffic: Traffic, control: LoadControl | None = None) -> LoadResult:
    """Run one load to its end.

    The load goes on while the requests due within the window drain, so that none of them is measured on an engine that
    is running empty.

    Args:
        clients: The senders.
        engine: The live engine; its death ends the load at once.
        traffic: The requests.
        control: When the window closes; by default, as soon as it is long enough.

    Raises:
        EngineFailure: the engine died, refuses such requests, gave no answer during warm-up, or fewer than
            `MIN_ANSWERS` to the requests of the longest window.
        TransientFault: a client process ended, or the endpoint throttles.
        ConfigError: the endpoint refuses the key.
    """
    return _Generator(clients, engine, traffic, control or LoadControl()).run()


class _Generator:
    def __init__(self, clients: Clients, engine: Engine, traffic: Traffic, control: LoadControl) -> None:
        self._clients, self._engine, self._traffic, self._control = clients, engine, traffic, control
        self._load, self._clock = traffic.load, control.clock
        self._limits = Limits(traffic.load, control.pace, *_rhythm(traffic))

    def run(self) -> LoadResult:
        control, began = self._control, self._clock.now()
        if control.first_answers:
            self._first_answers()
            self._engine.reset()  # memory that compiling took for a moment, or cached, is none of the load's
        first_answer_s = self._clock.now() - began
        request = self._traffic.asking(self._traffic.workload.max_tokens, self._limits.request_s)
        with self._clients.loading(self._engine.endpoint, request) as run:
            window = Window(run, self._engine, self._limits, self._silence(run, control.give_up_s), self._clock)
            start_s, end_s = self._measure(window)
            drained_s = run.clock()
        return self._result(window, start_s, end_s, first_answer_s, drained_s)

    def _result(
        self, window: Window, start_s: float, end_s: float, first_answer_s: float, drained_s: float
    ) -> LoadResult:
        run = window.run
        late = [r for r in run.unanswered if start_s <= r.due_s < end_s]
        due = [r for r in run.records if start_s <= r.due_s < end_s] + late
        drift, overload = self._unsteady(run, due, start_s, end_s)
        return LoadResult(
            sorted([*run.records, *late], key=lambda r: r.done_s), start_s, end_s, run.began, first_answer_s, drained_s,
            audit=audit_of(run, due, self._scheduled(window.profile_start_s, start_s, end_s), start_s, end_s),
            drift=drift, overload=overload, cut_short=window.cut_short,
            pace=pace_of(due, end_s - start_s, self._load),
        )  # fmt: skip

    def _silence(self, run: OngoingLoad, first_s: float | None = None) -> Silence:
        return Silence(self._limits, first_s, lambda since_s: self._control.effort(run.began + since_s))

    def _first_answers(self) -> None:
        self._control.phase("first answers")
        first = FirstAnswers(self._clients, self._engine, self._limits, self._silence, self._clock)
        first.wait(self._traffic.asking(TOKENS, first.timeout_s))

    def _measure(self, window: Window) -> tuple[float, float]:
        """Warm up, measure, drain; returns the window."""
        arrivals = self._traffic.arrivals
        length_s = arrivals.duration_s
        window.run.follow(arrivals if length_s is None else Poisson(_first_rate(arrivals)), start_s=0.0)
        self._control.phase("warm-up")
        window.warm_up()
        start_s = window.opening_s()
        self._control.phase("measuring")
        if length_s is None:
            end_s = window.measure(start_s, self._control.precise, self._piles_up(window.run))
        else:
            start_s = window.profile_start_s = window.run.clock() + _LEAD_S
            window.run.follow(arrivals, start_s)
            end_s = start_s + length_s
            window.until(lambda now: now >= end_s, end_s)
        window.drain(start_s, end_s)
        return start_s, end_s

    def _piles_up(self, run: OngoingLoad) -> PilesUp:
        """Whether an open loop asks for more than the engine serves; users who wait for their answers never do."""
        if isinstance(self._traffic.arrivals, ClosedLoop):
            return lambda *_: False

        def piles_up(start_s: float, now: float) -> bool:
            # Of a conversation the schedule has the first turn alone.
            ended = sum(r.turn == 1 and start_s <= r.done_s < now for r in run.records)
            return steady_state.backlog(self._scheduled(0.0, start_s, now) or 0, ended) is not None

        return piles_up

    def _scheduled(self, began_s: float, start_s: float, end_s: float) -> int | None:
        """How many requests, or conversations, the schedule placed in the window; None in a closed loop."""
        arrivals = self._traffic.arrivals
        if isinstance(arrivals, ClosedLoop):
            return None
        times = (began_s + due for due in arrivals.due_times_s(self._traffic.seed))
        return sum(due >= start_s for due in itertools.takewhile(lambda due: due < end_s, times))

    def _unsteady(
        self, run: OngoingLoad, due: Sequence[RequestRecord], start_s: float, end_s: float
    ) -> tuple[str | None, str | None]:
        """`LoadResult.drift` and `LoadResult.overload`."""
        arrivals, significance = self._traffic.arrivals, self._load.guard.drift_p
        if arrivals.duration_s is not None or significance == 0:
            return None, None  # a profile of changing rate is not meant to be steady
        change = steady_state.drift(due, steady_state.in_flight(due, start_s, end_s), significance)
        overload = None
        if not isinstance(arrivals, ClosedLoop):  # whose users wait for their answers: no queue grows
            rises = change is not None and change.second_s > change.first_s
            ended = sum(start_s <= r.done_s < end_s for r in run.records)
            overload = str(change) if rises else steady_state.backlog(len(due), ended)
        drift = f"{change} (load.guard.drift_p={significance:g})" if change and not overload else None
        return drift, overload


def _first_rate(arrivals: Arrivals) -> float:
    assert not isinstance(arrivals, ClosedLoop)
    open_loop: OpenLoop = arrivals
    return open_loop.first_rate_per_s


def _rhythm(traffic: Traffic) -> tuple[float, float]:
    """Mean turns of a conversation, and mean seconds of the pauses between them; one and none without conversations."""
    talks, arrivals = traffic.workload.conversations, traffic.arrivals
    if talks is None:
        return 1.0, 0.0
    return talks.mean_turns, talks.mean_pause_s(arrivals.think_s if isinstance(arrivals, ClosedLoop) else 0.0)
