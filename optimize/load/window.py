"""The phases of one load (warm-up, measured window, drain) and the rules that end each."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from objectives import RequestRecord
from optimize.engine.base import Engine
from optimize.errors import EngineFailure, FailureKind, OptimizeError
from optimize.load import steady_state
from optimize.load.clients import OngoingLoad
from optimize.load.clock import Clock
from optimize.load.pace import Effort, Limits, is_stalled
from optimize.load.refusals import fault_of

_WATCH_S = 0.1
_LOOKING_SHARE = 0.1  # of one core at most: looking at the records must not take the cores from the load
MIN_ANSWERS = 5
"""With fewer answers in the longest window allowed, a configuration is too slow to be measured at all."""
_FAILURES_S = 15.0


@dataclass(frozen=True, slots=True)
class Glimpse:
    """A window that is still open.

    Attributes:
        records: Every request that ended so far, warm-up included.
        start_s: Start of the window.
        end_s: Now.
    """

    records: Sequence[RequestRecord]
    start_s: float
    end_s: float


Precise = Callable[[Glimpse], bool]
"""Whether a window that is long enough may close."""
PilesUp = Callable[[float, float], bool]
"""Whether requests pile up between two seconds of the load, so that no window would ever hold its answers."""


class Window:
    """The phases of one load.

    Args:
        run: The load under way.
        engine: The engine under load; its death ends the phase at once.
        limits: Lengths and limits of the phases.
        silence: How long the load may go on without an answer.
        clock: Times the waits.

    Attributes:
        profile_start_s: Second of the load at which the arrivals' own clock stands at 0.
        cut_short: Why the window was closed early; None where it was not.
    """

    def __init__(self, run: OngoingLoad, engine: Engine, limits: Limits, silence: Silence, clock: Clock) -> None:
        self.run, self._engine, self._limits, self._silence, self._clock = run, engine, limits, silence, clock
        self._load = limits.load
        self.profile_start_s = 0.0
        self.cut_short: str | None = None

    def until(self, done: Callable[[float], bool], limit_s: float = math.inf) -> float:
        """Wait for `done(now)`, the limit or a load that is given up; returns the second at which it ended."""
        while True:
            self.run.update()
            now = self.run.clock()
            if done(now) or now >= limit_s or self._silence.is_too_long(self.run.records, now):
                return now
            self._engine.check()
            looking_s = self.run.clock() - now
            self._clock.sleep(min(max(_WATCH_S, looking_s / _LOOKING_SHARE), max(0.0, limit_s - now)))

    def warm_up(self) -> None:
        """Wait until enough requests have ended to look at them, and the turns of conversations are mixed.

        Raises:
            EngineFailure: no request was answered.
            TransientFault, ConfigError: the endpoint throttles, or refuses the key.
        """
        load, records = self._load, self.run.records

        def is_warm(now: float) -> bool:
            enough = now >= load.warmup_s and len(records) >= load.warmup_requests and self._any_answer()
            return (enough and now >= self._limits.mixing_s(records)) or (
                bool(records) and now >= self._limits.warmup_s(records)
            )

        now = self.until(is_warm)
        if not self._any_answer():
            raise self._too_slow(0, now, "warm-up")

    def opening_s(self) -> float:
        """When the window opens: with the first request of the steady state, but not before the shortest warm-up, nor
        before the turns of conversations are mixed.

        A load that has not settled by the end of the longest warm-up is measured from then on, and `LoadResult` says
        whether it did. After a fixed number of iterations the steady state is not looked for.
        """
        if self._load.iterations.measured:
            return self.run.clock()
        openings: list[float] = []

        def steady(now: float) -> bool:
            since_s = self._steady_since_s()
            if since_s is not None:
                mixed_s = min(now, self._limits.mixing_s(self.run.records))  # the longest warm-up may have ended first
                openings.append(max(since_s, self._load.warmup_s, mixed_s))
            return bool(openings)

        end_s = self.until(steady, self._limits.warmup_s(self.run.records))
        return openings[0] if openings else end_s

    def _steady_since_s(self) -> float | None:
        records, until_s = self.run.records, self.run.oldest_due_s()
        in_flight = steady_state.in_flight(records, self._load.warmup_s / 2, until_s)
        return steady_state.steady_since_s(records, until_s, in_flight)

    def measure(self, start_s: float, precise: Precise, piles_up: PilesUp) -> float:
        """Wait until the window may close; returns its end."""
        load, answers = self._load, _Answers(self.run.records, start_s)

        def may_close(now: float) -> bool:
            is_long = now - start_s >= self._limits.precise_s
            if self._limits.has_enough(answers.count(), now - start_s):
                return is_long or precise(Glimpse(self.run.records, start_s, now))
            return is_long and piles_up(start_s, now)

        end_s = self.until(may_close, start_s + self._limits.window_s)
        if load.iterations.measured and (count := answers.count()) < load.window_requests:
            self.cut_short = f"{count} of {load.window_requests} requests in {self._limits.window_s:g} s"
        return end_s

    def drain(self, start_s: float, end_s: float) -> None:
        """Wait until no request due in the window is unanswered; one that outlasts the limit counts with its wait.

        Raises:
            EngineFailure: fewer than `MIN_ANSWERS` requests due in the window were answered.
            TransientFault, ConfigError: the endpoint throttles, or refuses the key.
        """
        self.until(lambda _: self.run.oldest_due_s() >= end_s, end_s + self._limits.drain_s(self.run.records))
        answers = _Answers(self.run.records, start_s, end_s).count()
        if answers < MIN_ANSWERS:
            raise self._too_slow(answers, end_s - start_s, "window")

    def _any_answer(self) -> bool:
        return any(r.error is None for r in self.run.records)

    def _too_slow(self, answers: int, seconds: float, phase: str) -> OptimizeError:
        """Why there are too few answers; not the engine's failure where it was not let answer."""
        if (fault := fault_of(self.run.records)) is not None:
            return fault
        text = f"{answers} answers in {seconds:.0f} s of {phase}: {self._slowness()}"
        failed = [r for r in self.run.records if r.error is not None]
        if failed:
            text += f"; {len(failed)} requests failed, the last as {failed[-1].error} {failed[-1].text[:200]}".rstrip()
        return EngineFailure(FailureKind.TOO_SLOW, text)

    def _slowness(self) -> str:
        pace, bound_s = self._limits.pace, self._load.window_max_s
        if bound_s is not None:
            return f"too slow, or failing, to be measured (load.window_max_s={bound_s:g})"
        if pace is None:
            return "too slow, or failing, to be measured"
        return f"the baseline gave {pace.answers} in {pace.window_s:.0f} s"


class _Answers:
    """Counts answers to the requests due in a window; looks at each record once, however often it is asked."""

    def __init__(self, records: Sequence[RequestRecord], start_s: float, end_s: float = float("inf")) -> None:
        self._records, self._start_s, self._end_s = records, start_s, end_s
        self._looked_at = self._count = 0

    def count(self) -> int:
        for record in itertools.islice(self._records, self._looked_at, None):
            self._count += record.error is None and self._start_s <= record.due_s < self._end_s
        self._looked_at = len(self._records)
        return self._count


class Silence:
    """How long a load may go on without an answer.

    Args:
        limits: Of the load.
        first_s: The same until the first answer, whatever the engine does; None makes no difference.
        effort: What the engine did since a second of the load.
    """

    def __init__(self, limits: Limits, first_s: float | None, effort: Callable[[float], Effort]) -> None:
        self._limits, self._first_s, self._effort = limits, first_s, effort
        self._looked_at, self._failures, self._since_s = 0, 0, 0.0

    def is_too_long(self, records: Sequence[RequestRecord], now: float) -> bool:
        """Whether the load is to be given up: the engine gives no answer, or nothing but errors."""
        for record in itertools.islice(records, self._looked_at, None):
            self._failures = self._failures + 1 if record.error is not None else 0
            if record.error is None:
                self._since_s, self._first_s = now, None
        self._looked_at = len(records)
        silent_s = now - self._since_s
        if self._first_s is not None:
            return silent_s >= self._first_s
        if silent_s >= _FAILURES_S and self._failures >= self._limits.load.window_requests:
            return True
        limit_s = self._limits.silence_s
        return silent_s >= limit_s and is_stalled(silent_s, limit_s, self._effort(now - limit_s))
