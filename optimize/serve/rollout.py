"""The life of a canary: its engine starts, is compared, and takes over or ends.

No client depends on the candidate before its verdict: if the serving engine dies meanwhile, it is replaced as without a
canary, and requests wait for that. If the candidate dies, it is rolled back.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from enum import Enum
from functools import partial

from optimize.canary.judge import Judge, Limits
from optimize.config.canary import Canary
from optimize.config.serve import Serve
from optimize.files import write_atomically
from optimize.formatting import percent
from optimize.serve.candidate import Candidate
from optimize.serve.front import Front
from optimize.serve.instance import Instance, as_failure
from optimize.serve.reporter import Reporter
from optimize.serve.supervisor import Supervisor
from optimize.serve.warmup import warm_up
from optimize.ticker import Ticker

_TICK_S, _STATUS_S = 0.1, 60.0


class State(Enum):
    """Where a canary stands, in this order."""

    STARTING = "starting"
    COMPARING = "comparing"
    PROMOTING = "promoting"
    DRAINING = "draining"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled back"


class Rollout:
    """A context manager within which a candidate is compared, in a thread of its own.

    Args:
        candidate: The candidate.
        supervisor: Keeps the serving engine up, and takes the candidate over if it is promoted.
        front: The front, which mirrors requests.
        settings: Share, borders and time limit.
        say: Receives a line for every step, and one a minute.
        clock: Monotonic clock in seconds.
    """

    def __init__(
        self, candidate: Candidate, supervisor: Supervisor, front: Front, settings: Serve,
        say: Callable[[str], None], clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._candidate, self._supervisor, self._front, self._settings = candidate, supervisor, front, settings
        self._reporter, self._clock = Reporter(say), clock
        self._judge = Judge(limits_of(settings.canary))
        self._instance: Instance | None = None
        self._since = self._report_at = self._drained_by = clock()
        self.state, self.reason = State.STARTING, ""
        self._steps = {
            State.STARTING: self._start, State.COMPARING: self._compare, State.PROMOTING: self._follow,
            State.DRAINING: self._drain,
        }  # fmt: skip
        self._ticker = Ticker(self.step, _TICK_S, "the canary", self._reporter.report)

    def __enter__(self) -> Rollout:
        self._reporter.report(
            f"canary: starting the {self._candidate.target.title}: {self._candidate.target.in_words()}"
        )
        self._ticker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ticker.stop()
        self._front.mirror.close()
        if self.state is State.COMPARING or (self.state is State.PROMOTING and self._supervisor.withdraw()):
            self._end_candidate()

    @property
    def instance(self) -> Instance | None:
        """The candidate's engine, while it is compared and afterwards if it is promoted."""
        return self._instance

    def step(self) -> None:
        """Look once, and do what is next."""
        step = self._steps.get(self.state)
        if step is not None:
            step()
        self._front.mirror.gauges = self._gauges()

    def _start(self) -> None:
        try:
            instance = self._supervisor.starter.start(self._candidate.slot, self._candidate.config)
        except Exception as error:  # of the configuration, the disk or the machine: what serves goes on serving
            return self._roll_back(f"it did not start: {as_failure(error)}")
        self._reporter.attempt("the warm-up of the candidate", partial(warm_up, instance.engine.endpoint))
        self._instance, self._since, self._report_at = instance, self._clock(), self._clock()
        self._front.mirror.open(instance.engine.endpoint)
        self.state = State.COMPARING
        share = percent(self._settings.canary.share)
        return self._reporter.report(
            f"canary: engine {instance.generation} gets a copy of every completion for {share} of the time; both "
            "engines share this machine, so clients may notice it"
        )

    def _compare(self) -> None:
        assert self._instance is not None
        symptom = self._instance.engine.broken()
        if symptom is not None:
            return self._roll_back(f"it died ({symptom})")
        verdict = self._judge.add(self._front.mirror.take())
        if verdict is not None and verdict.promote:
            return self._promote(verdict.reason)
        if verdict is not None:
            return self._roll_back(f"it is worse: {verdict.reason}")
        minutes = self._settings.canary.minutes
        if self._clock() - self._since >= minutes * 60:
            return self._roll_back(
                f"no verdict within {minutes:g} min (serve.canary.minutes): {self._judge.undecided()}"
            )
        if self._clock() - self._report_at >= _STATUS_S:
            self._report_at = self._clock()
            self._reporter.report(f"canary after {self._progress()}: {self._judge.in_words()}")
        return None

    # -- promotion

    def _promote(self, reason: str) -> None:
        assert self._instance is not None
        self.reason = reason
        self._front.mirror.close()
        self._supervisor.promote(self._instance, self._candidate.config)
        self.state = State.PROMOTING

    def _follow(self) -> None:
        """Wait for the supervisor to have the candidate serve."""
        if self._supervisor.promoting:
            return
        self._front.follow(dict(self._candidate.config.flags))
        self._drained_by = self._clock() + self._settings.drain_s
        self.state = State.DRAINING
        self._reporter.report(f"canary promoted after {self._progress()}: {self.reason}")

    def _drain(self) -> None:
        """End the former engine once it has answered what it had."""
        former = self._supervisor.former
        if former is not None and self._front.in_flight_on(former.generation) and self._clock() < self._drained_by:
            return
        self._supervisor.end_former()
        self._close(State.PROMOTED)
        self._reporter.report(
            f"canary: the former engine has ended; the next start of this server serves the candidate with "
            f"{self._candidate.words or 'the same words'}"
        )

    # -- the end

    def _roll_back(self, reason: str) -> None:
        self.reason = reason
        self._front.mirror.close()
        self._end_candidate()
        self._close(State.ROLLED_BACK)
        self._reporter.report(f"canary rolled back after {self._progress()}: {reason}")

    def _end_candidate(self) -> None:
        instance, self._instance = self._instance, None
        if instance is not None:
            self._supervisor.starter.stop(instance)

    def _close(self, state: State) -> None:
        self.state = state
        record = json.dumps(self._summary(), indent=1)
        write = partial(write_atomically, self._candidate.record, record + "\n")
        self._reporter.attempt("writing the verdict on the canary", write)

    def _summary(self) -> dict[str, object]:
        """The verdict for `canary.json`."""
        estimates = {name: dataclasses.asdict(e) for name, e in self._judge.estimates().items()}
        return {
            "verdict": self.state.value, "reason": self.reason, "candidate": dict(self._candidate.target.params),
            "serve_with": self._candidate.words, "seconds": self._clock() - self._since, "pairs": self._judge.pairs,
            **vars(self._front.mirror.counts), "estimates": estimates,
        }  # fmt: skip

    def _progress(self) -> str:
        counts, minutes = self._front.mirror.counts, (self._clock() - self._since) / 60
        dropped = f", {counts.canary_dropped} not mirrored for lack of room" if counts.canary_dropped else ""
        return f"{minutes:.1f} min, {self._judge.pairs} pairs of {counts.canary_mirrored} mirrored requests{dropped}"

    def _gauges(self) -> dict[str, float]:
        states = {f"canary_{state.name.lower()}": float(self.state is state) for state in State}
        figures = {
            f"canary_{name}{suffix}": value
            for name, e in self._judge.estimates().items()
            for suffix, value in (("", e.value), ("_low", e.low), ("_high", e.high))
        }
        return states | figures


def limits_of(canary: Canary) -> Limits:
    return Limits(canary.margin, canary.failures_max, canary.agreement_min, canary.alpha, canary.block_s)
