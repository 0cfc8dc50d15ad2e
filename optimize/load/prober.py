"""Probes of one live engine: a level of load for as long as its verdict takes, on an engine that is idle before."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from objectives import MemoryParts, RequestRecord
from optimize.capacity import Enough, ProbeRun, Requests
from optimize.engine.base import Engine
from optimize.load.arrivals import Arrivals, Burst, ClosedLoop
from optimize.load.audit import Audit, audit_of
from optimize.load.clients import Clients, OngoingLoad
from optimize.load.first_answers import TOKENS, FirstAnswers
from optimize.load.generator import LoadControl, Traffic
from optimize.load.levels import at_level
from optimize.load.pace import Limits
from optimize.load.window import Silence

_WATCH_S, _LOOKING_SHARE = 0.5, 0.1
_SAME_S, _SLACK_S = 1e-3, 0.05
_NOBODY = Burst(0)


@dataclass(frozen=True, slots=True)
class ProbeLoad:
    """The load of one probe; times are seconds since the first probe of the search began.

    Attributes:
        level: Requests per second, or users.
        records: Its requests that were due while the load ran; those that were given up have failed.
        start_s: When the load began, and all users had come.
        end_s: When it ended.
        drained_s: When its requests had been answered, or were given up.
        audit: Of the client.
        memory: Of the engine when it ended; see `optimize.engine.base.Engine.memory`.
    """

    level: float
    records: Sequence[RequestRecord]
    start_s: float
    end_s: float
    drained_s: float
    audit: Audit
    memory: MemoryParts | None


class LiveProber:
    """Applies levels of load to a live engine, as `optimize.capacity.Prober`.

    Args:
        clients: The senders.
        engine: The live engine; its death ends a probe at once.
        traffic: The requests; the level of its arrivals does not count.
        control: Phases, pace and clock; windows play no part.
        patience_s: How long an answer may take by the SLO, and is waited for once a load has ended; None, without such
            a limit, waits as for the answers of a window, and those that take longer have failed.

    Attributes:
        loads: The probes so far.
        began_at: The clock when the first of them began.
        first_answer_s: How long the engine took for its very first answers.
    """

    def __init__(
        self, clients: Clients, engine: Engine, traffic: Traffic, control: LoadControl, patience_s: float | None
    ) -> None:  # fmt: skip
        self._clients, self._engine, self._traffic, self._control = clients, engine, traffic, control
        self._limits, self._patience_s = Limits(traffic.load, control.pace), patience_s
        self.loads: list[ProbeLoad] = []
        self.began_at = 0.0
        self.first_answer_s = 0.0

    def await_first_answers(self) -> None:
        """Have the engine compile what it needs, where that has not been done.

        Raises:
            EngineFailure, TransientFault, ConfigError: as `optimize.load.first_answers.FirstAnswers`.
        """
        control, began = self._control, self._control.clock.now()
        if control.first_answers:
            control.phase("first answers")
            first = FirstAnswers(self._clients, self._engine, self._limits, self._silence, control.clock)
            first.wait(self._traffic.asking(TOKENS, first.timeout_s))
        self.first_answer_s = control.clock.now() - began

    def __call__(self, level: float, enough: Enough, most_s: float) -> ProbeRun:
        """Load the engine at a level; see `optimize.capacity.Prober`.

        Raises:
            EngineFailure: the engine died.
            TransientFault: a client process ended.
        """
        self._engine.reset()  # it waits for the requests of the last probe that were given up, too
        self._control.phase(f"probing {level:.3g} {'users' if self._in_users else 'requests/s'}")
        arrivals, seed = self._arrivals(level), self._traffic.seed + len(self.loads)
        request = replace(self._traffic, seed=seed).asking(self._traffic.workload.max_tokens, self._limits.request_s)
        schedule = DueTimes(arrivals, seed)
        with self._clients.loading(self._engine.endpoint, request) as run:
            run.follow(arrivals, 0.0)
            came_s = self._until(run, lambda _: False, arrivals.ramp_s) if isinstance(arrivals, ClosedLoop) else 0.0

            def is_enough(now: float) -> bool:
                return enough(schedule.requests(run.records, now).since(came_s), now - came_s)

            end_s = self._until(run, is_enough, came_s + most_s)
            run.follow(_NOBODY)
            drained_s = self._until(run, lambda _: run.oldest_due_s() >= end_s, end_s + self._wait_s(run))
        return self._ended(run, level, schedule, (came_s, end_s, drained_s))

    def _arrivals(self, level: float) -> Arrivals:
        """The load at a level. Users come one after another, over the time in which each of them is answered once.

        If all came at once, they would wait for each other, and go on in step for many answers. By Little's law so many
        users are answered once in their number divided by the rate, of which the highest so far is taken.
        """
        arrivals = at_level(self._traffic.arrivals, level)
        rate_per_s = max((len(load.records) / (load.drained_s - load.start_s) for load in self.loads), default=0.0)
        if not isinstance(arrivals, ClosedLoop) or arrivals.ramp_s or not rate_per_s:
            return arrivals
        return replace(arrivals, ramp_s=arrivals.users / rate_per_s)

    @property
    def _in_users(self) -> bool:
        return isinstance(self._traffic.arrivals, ClosedLoop)

    def _silence(self, run: OngoingLoad) -> Silence:
        return Silence(self._limits, None, lambda since_s: self._control.effort(run.began + since_s))

    def _wait_s(self, run: OngoingLoad) -> float:
        return self._limits.drain_s(run.records) if self._patience_s is None else self._patience_s

    def _until(self, run: OngoingLoad, done: Callable[[float], bool], limit_s: float) -> float:
        """Wait for `done(now)` or the limit; returns the second at which it ended."""
        while True:
            run.update()
            now = run.clock()
            if done(now) or now >= limit_s:
                return now
            self._engine.check()
            looking_s = run.clock() - now
            self._control.clock.sleep(min(max(_WATCH_S, looking_s / _LOOKING_SHARE), max(0.0, limit_s - now)))

    def _ended(self, run: OngoingLoad, level: float, schedule: DueTimes, times: tuple[float, float, float]) -> ProbeRun:
        """Keep the load, and return what the probe has shown."""
        start_s, end_s, drained_s = times
        records = [r for r in (*run.records, *run.unanswered) if start_s <= r.due_s < end_s]
        until_s = max(0.0, end_s - _SLACK_S)  # what was due in the last moment may not have been sent before the end
        audited = [r for r in records if r.due_s < until_s]
        audit = audit_of(run, audited, schedule.scheduled(until_s), start_s, end_s)
        self.began_at = self.began_at or run.began
        shift_s = run.began - self.began_at
        shifted = [_later(r, shift_s) for r in sorted(records, key=lambda r: r.done_s)]
        start, end, drained = (shift_s + second for second in times)
        self.loads.append(ProbeLoad(level, shifted, start, end, drained, audit, self._engine.memory()))
        requests = Requests.of(self._judged(records)).since(start_s)
        return ProbeRun(requests, end_s - start_s, not audit.problems(self._traffic.load.guard), start_s)

    def _judged(self, records: Sequence[RequestRecord]) -> Sequence[RequestRecord]:
        """The records as the SLO sees them: an answer that was given up only because it was too late is no error."""
        if self._patience_s is None:
            return records
        late_s = self._patience_s
        return [replace(r, error=None) if r.error == "timeout" and r.latency_s > late_s else r for r in records]


class DueTimes:
    """When the requests of one load were due, those in flight too.

    Args:
        arrivals: The load, which begins at second 0.
        seed: Of random arrivals.
    """

    def __init__(self, arrivals: Arrivals, seed: int) -> None:
        self._arrivals = arrivals
        self._schedule = iter(()) if isinstance(arrivals, ClosedLoop) else arrivals.due_times_s(seed)
        self._times: list[float] = []
        self._next = next(self._schedule, None)

    def scheduled(self, until_s: float) -> int | None:
        """How many requests the schedule places before a second; None in a closed loop."""
        return None if isinstance(self._arrivals, ClosedLoop) else len(self._until(until_s))

    def requests(self, records: Sequence[RequestRecord], now: float) -> Requests:
        """Requests that were due before a second: those that have ended, and those in flight.

        Args:
            records: Those that have ended, in any order.
            now: The second.
        """
        return Requests.of(records, self._in_flight(records, now))

    def _in_flight(self, records: Sequence[RequestRecord], now: float) -> Iterator[float]:
        ended = iter(sorted(r.due_s for r in records))
        next_ended = next(ended, None)
        for due_s in self._due(records, now):
            if next_ended is not None and next_ended <= due_s + _SAME_S:
                next_ended = next(ended, None)
            else:
                yield due_s

    def _due(self, records: Sequence[RequestRecord], now: float) -> list[float]:
        arrivals = self._arrivals
        if not isinstance(arrivals, ClosedLoop):
            return self._until(now)
        following = (r.done_s + arrivals.think_s for r in records)
        first = [due_s for due_s in map(arrivals.first_due_s, range(arrivals.users)) if due_s <= now]
        return sorted(first + [due_s for due_s in following if due_s < now])

    def _until(self, until_s: float) -> list[float]:
        while self._next is not None and self._next < until_s:
            self._times.append(self._next)
            self._next = next(self._schedule, None)
        return list(itertools.takewhile(lambda due_s: due_s < until_s, self._times))


def _later(record: RequestRecord, seconds: float) -> RequestRecord:
    """The record on a clock that began so many seconds earlier."""
    first, answer = record.first_token_s, record.first_answer_s
    return replace(
        record, due_s=record.due_s + seconds, sent_s=record.sent_s + seconds, done_s=record.done_s + seconds,
        first_token_s=None if first is None else first + seconds,
        first_answer_s=None if answer is None else answer + seconds,
    )  # fmt: skip
