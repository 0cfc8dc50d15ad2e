"""Drives a load against a live engine: warm-up, window, and on until the window's last request is answered."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from objectives import RequestRecord
from optimize.config.measuring import Load
from optimize.engine.base import Engine, RequestConfig
from optimize.errors import EngineFailure, FailureKind
from optimize.load import steady_state as steady
from optimize.load.arrivals import Arrivals, Burst, ClosedLoop, OpenLoop, Poisson
from optimize.load.audit import Audit, audit_of
from optimize.load.client_pool import ClientPool, LoadRequest, LoadRun
from optimize.load.workload import Workload

_WATCH_S, _FIRST_WATCH_S = 0.1, 0.02
_FIRST_TOKENS, _FIRST_TOGETHER = 4, 4
_LEAD_S = 0.2
_LOOKING_SHARE = 0.1  # of one core at most: looking must not take the cores from the load
MIN_ANSWERS = 5
"""With fewer answers in the longest window allowed, a configuration is too slow to be measured at all."""

Phase = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Traffic:
    """What is asked of an engine, and for how long.

    Attributes:
        workload: Prompts, sent in a seeded order, again and again.
        request: Decoding settings.
        arrivals: When requests are due.
        load: Lengths of warm-up and window, time limits.
        seed: Of the order of prompts and of random arrivals.
        later: Rows of the workload that are asked after the others: their answers are known.
    """

    workload: Workload
    request: RequestConfig
    arrivals: Arrivals
    load: Load
    seed: int = 0
    later: Collection[int] = ()


@dataclass(frozen=True, slots=True)
class LoadResult:
    """Records in order of completion, and the window within them; times are seconds since the load began.

    Attributes:
        records: Every request that ended, warm-up included.
        window_start_s: Start of the measured window.
        window_end_s: End of the measured window.
        began_at: `time.monotonic()` at second 0, to line telemetry up.
        first_answer_s: How long the engine took for its very first answers, before second 0.
        drained_s: When the window's last request had been answered.
        audit: Of the client, over the window.
        drift: How the speed changed within the window, in words, which nothing that was asked explains.
        overload: How more is asked than is served, in words: the load has no steady state.
        cut_short: Why the window was closed early; None where it was not.
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


@dataclass(frozen=True, slots=True)
class Glimpse:
    """A window that is still open.

    Attributes:
        records: Every request that ended so far, warm-up included.
        start_s: Start of the window.
        end_s: Now.
        began_at: `time.monotonic()` at second 0.
    """

    records: Sequence[RequestRecord]
    start_s: float
    end_s: float
    began_at: float


Precise = Callable[[Glimpse], bool]
"""Whether a window that could close may close."""
Hopeless = Callable[[Glimpse], str | None]
"""Why a window need not be measured any longer, if so."""


def run_load(
    clients: ClientPool, engine: Engine, traffic: Traffic, phase: Phase = lambda _: None, first_answers: bool = True,
    give_up_s: float | None = None, precise: Precise = lambda _: True, hopeless: Hopeless = lambda _: None,
) -> LoadResult:  # fmt: skip
    """Run one load to its end.

    Requests due within the window keep their company until the last of them is answered: the load goes on while they
    drain, so that none of them is measured on an emptying engine.

    Args:
        clients: The client processes.
        engine: The live engine; its death ends the load at once.
        traffic: What is asked.
        phase: Told of "first answers", "warm-up" and "measuring" as they begin.
        first_answers: Whether kernels may have to be compiled first.
        give_up_s: How long the load may go on without a single answer; None waits as long as for the first answers.
        precise: Asked now and then whether a window that could close may close.
        hopeless: Asked from `load.window_look_s` on whether it may close before that.

    Raises:
        EngineFailure: the engine died, refuses such requests, gave no answer during warm-up, or fewer than
            `MIN_ANSWERS` to the requests of `load.window_max_s`.
        TransientFault: a client process ended.
    """
    run = _Run(clients, engine, traffic, phase, precise, hopeless)
    return run.run(first_answers, traffic.load.first_answer_max_s if give_up_s is None else give_up_s)


class _Run:
    def __init__(
        self, clients: ClientPool, engine: Engine, traffic: Traffic, phase: Phase, precise: Precise, hopeless: Hopeless
    ) -> None:
        self._clients, self._engine, self._traffic = clients, engine, traffic
        self._load, self._phase, self._precise, self._hopeless = traffic.load, phase, precise, hopeless

    def run(self, first_answers: bool, patience_s: float) -> LoadResult:
        began = time.monotonic()
        if first_answers:
            self._first_answers()
            self._engine.reset()  # what compiling took for a moment, or has cached, is none of the load's
        first_answer_s = time.monotonic() - began
        asked = self._asked(self._traffic.workload.max_tokens, self._load.request_timeout_s)
        with self._clients.loading(self._engine.endpoint, asked) as flow:
            window = _Window(flow, self._engine, self._load, patience_s)
            start_s, end_s = self._measure(window)
            drained_s = flow.clock()
        due = [r for r in (*flow.records, *flow.unanswered) if start_s <= r.due_s < end_s]
        late = [r for r in flow.unanswered if start_s <= r.due_s < end_s]
        records = sorted([*flow.records, *late], key=lambda r: r.done_s)
        drift, overload = self._unsteady(flow.records, due, start_s, end_s)
        return LoadResult(
            records, start_s, end_s, flow.began, first_answer_s, drained_s,
            audit=audit_of(flow, due, self._due(window.profile_start_s, start_s, end_s), start_s, end_s),
            drift=drift, overload=overload, cut_short=window.cut_short,
        )  # fmt: skip

    def _asked(self, max_tokens: int, timeout_s: float) -> LoadRequest:
        traffic = self._traffic
        return LoadRequest(traffic.workload, traffic.request, max_tokens, timeout_s, traffic.seed, traffic.later)

    def _first_answers(self) -> None:
        """Wait for short answers, to one request and then to several at once.

        The first request of its kind may compile kernels, for longer than any warm-up; and torch compiles twice, for
        one sequence and for any number of them.
        """
        self._phase("first answers")
        limit_s = self._load.first_answer_max_s
        for together in (1, _FIRST_TOGETHER):
            with self._clients.loading(self._engine.endpoint, self._asked(_FIRST_TOKENS, limit_s), processes=1) as flow:
                flow.follow(Burst(together))
                while len(flow.records) < together:
                    self._engine.check()
                    time.sleep(_FIRST_WATCH_S)
                    flow.update()
            if all(r.error is not None for r in flow.records):
                _refuse(flow.records[-1], limit_s)

    def _measure(self, window: _Window) -> tuple[float, float]:
        """Warm up, measure, drain; returns the window."""
        arrivals = self._traffic.arrivals
        length_s = arrivals.duration_s
        window.flow.follow(arrivals if length_s is None else Poisson(_first_rate(arrivals)), start_s=0.0)
        self._phase("warm-up")
        window.warm_up()
        start_s = window.settle()
        self._phase("measuring")
        if length_s is None:
            end_s = window.measure(start_s, self._precise, self._hopeless)
        else:
            start_s = window.profile_start_s = window.flow.clock() + _LEAD_S
            window.flow.follow(arrivals, start_s)
            end_s = start_s + length_s
            window.until(lambda now: now >= end_s, end_s)
        window.drain(start_s, end_s)
        return start_s, end_s

    def _due(self, began_s: float, start_s: float, end_s: float) -> int | None:
        """How many requests the schedule placed in the window; None in a closed loop."""
        arrivals = self._traffic.arrivals
        if isinstance(arrivals, ClosedLoop):
            return None
        times = (began_s + due for due in arrivals.due_times_s(self._traffic.seed))
        return sum(due >= start_s for due in itertools.takewhile(lambda due: due < end_s, times))

    def _unsteady(
        self, records: Sequence[RequestRecord], due: Sequence[RequestRecord], start_s: float, end_s: float
    ) -> tuple[str | None, str | None]:
        """`LoadResult.drift` and `LoadResult.overload`."""
        arrivals, significance = self._traffic.arrivals, self._load.guard.drift_p
        if arrivals.duration_s is not None or significance == 0:
            return None, None  # a profile of changing rate is not meant to be steady
        found = steady.drift(due, steady.in_flight(due, start_s, end_s), significance)
        overload = None
        if not isinstance(arrivals, ClosedLoop):  # whose users wait for their answers: no queue grows
            rises = found is not None and found.second_s > found.first_s
            ended = sum(start_s <= r.done_s < end_s for r in records)
            overload = str(found) if rises else steady.backlog(len(due), ended)
        drift = f"{found} (load.guard.drift_p={significance:g})" if found and not overload else None
        return drift, overload


class _Window:
    """The phases of one load, and what ends each."""

    def __init__(self, flow: LoadRun, engine: Engine, load: Load, patience_s: float) -> None:
        self.flow, self._engine, self._load, self._patience_s = flow, engine, load, patience_s
        self.profile_start_s = 0.0
        self.cut_short: str | None = None

    def until(self, done: Callable[[float], bool], limit_s: float) -> float:
        """Wait for `done(now)` or the limit while watching the engine; returns the time it ended."""
        while True:
            self.flow.update()
            now = self.flow.clock()
            if done(now) or now >= limit_s:
                return now
            self._engine.check()
            looking_s = self.flow.clock() - now
            time.sleep(min(max(_WATCH_S, looking_s / _LOOKING_SHARE), max(0.0, limit_s - now)))

    def warm_up(self) -> None:
        """Until enough requests have ended to look at them."""
        load, records = self._load, self.flow.records
        self.until(
            lambda now: now >= load.warmup_s and len(records) >= load.warmup_requests and self._any_answer(),
            min(load.warmup_max_s, self._patience_s),
        )
        warm = self.until(lambda _: bool(records), self._patience_s)
        if not self._any_answer():
            raise self._hopeless(0, warm, "warm-up")

    def settle(self) -> float:
        """When the window opens: with the first request of the steady state, but not before the shortest warm-up.

        A load that does not settle in time is measured from then on; `LoadResult` tells what became of it. After a
        fixed number of iterations nobody asks whether it has settled.
        """
        if self._load.iterations.measured:
            return self.flow.clock()
        found: list[float] = []

        def settled(_: float) -> bool:
            since = self._steady_since_s()
            if since is not None:
                found.append(max(since, self._load.warmup_s))
            return bool(found)

        ended = self.until(settled, self._load.warmup_max_s)
        return found[0] if found else ended

    def _steady_since_s(self) -> float | None:
        records, until_s = self.flow.records, self.flow.oldest_due_s()
        return steady.steady_since_s(records, until_s, steady.in_flight(records, self._load.warmup_s / 2, until_s))

    def measure(self, start_s: float, precise: Precise, hopeless: Hopeless) -> float:
        """Until the window may close; returns its end."""
        load, answers = self._load, _Answers(self.flow.records, start_s)

        def enough(now: float) -> bool:
            count, glimpse = answers.count(), Glimpse(self.flow.records, start_s, now, self.flow.began)
            if now - start_s >= load.window_min_s and count >= load.window_requests:
                return precise(glimpse)
            if now - start_s >= load.window_look_s and count >= MIN_ANSWERS:
                self.cut_short = hopeless(glimpse)
            return self.cut_short is not None

        end_s = self.until(enough, start_s + load.window_max_s)
        if load.iterations.measured and (count := answers.count()) < load.window_requests:
            self.cut_short = f"{count} of {load.window_requests} requests in {load.window_max_s:g} s"
        return end_s

    def drain(self, start_s: float, end_s: float) -> None:
        """Go on until nothing due in the window is unanswered; what outlasts the limit counts with its wait so far."""
        self.until(lambda _: self.flow.oldest_due_s() >= end_s, end_s + self._load.drain_max_s)
        answers = _Answers(self.flow.records, start_s, end_s).count()
        if answers < MIN_ANSWERS:
            raise self._hopeless(answers, end_s - start_s, "window (load.window_max_s)")

    def _any_answer(self) -> bool:
        return any(r.error is None for r in self.flow.records)

    def _hopeless(self, answers: int, seconds: float, where: str) -> EngineFailure:
        text = f"{answers} answers in {seconds:.0f} s of {where}: too slow, or failing, to be measured"
        failed = [r for r in self.flow.records if r.error is not None]
        if failed:
            text += f"; {len(failed)} requests failed, the last as {failed[-1].error} {failed[-1].text[:200]}".rstrip()
        return EngineFailure(FailureKind.TOO_SLOW, text)


class _Answers:
    """Counts answers to the requests due in a window, each record looked at once however often it is asked."""

    def __init__(self, records: Sequence[RequestRecord], start_s: float, end_s: float = float("inf")) -> None:
        self._records, self._start_s, self._end_s = records, start_s, end_s
        self._seen = self._found = 0

    def count(self) -> int:
        for record in itertools.islice(self._records, self._seen, None):
            self._found += record.error is None and self._start_s <= record.due_s < self._end_s
        self._seen = len(self._records)
        return self._found


def _first_rate(arrivals: Arrivals) -> float:
    assert not isinstance(arrivals, ClosedLoop)
    open_loop: OpenLoop = arrivals
    return open_loop.first_rate_per_s


def _refuse(record: RequestRecord, limit_s: float) -> None:
    """Give up where the answer shows that no other will come; other errors may pass."""
    if record.error == "timeout":
        raise EngineFailure(FailureKind.TOO_SLOW, f"no first answer within {limit_s:.0f} s (load.first_answer_max_s)")
    if record.error == "refused":
        raise EngineFailure(FailureKind.REFUSED, f"the engine refuses such requests: {record.text[:300]}")
