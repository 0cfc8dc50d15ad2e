"""Keeps one engine up: detects its failure, starts a replacement, and records every restart.

Two threads watch the live engine. One polls its processes and detects a death within a twentieth of a second; the
other probes its HTTP side. A standby, where there is one, takes over before the failed engine is cleared away.

Both outlive every exception: a fault of the record, the disk or the terminal costs a line of the record, not the
supervision. Whoever asks for health is told of `supervised` too, so nothing is reported up that nobody watches.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from optimize.config.serve import Serve
from optimize.engine.base import Endpoint, EngineConfig
from optimize.errors import EngineFailure, TransientFault
from optimize.serve.backoff import Backoff
from optimize.serve.instance import Instance, InstanceFailure, as_failure, cause_of
from optimize.serve.launchers import LauncherPool
from optimize.serve.reporter import Reporter
from optimize.serve.restart_log import Restart, RestartLog
from optimize.serve.standby import Standby
from optimize.serve.starter import Starter
from optimize.serve.traffic_record import TrafficRecord
from optimize.ticker import Ticker

_CHECK_S = 0.05
_STALLED_S = 60.0
Say = Callable[[str], None]


class Supervisor:
    """Keeps one configuration up; a context manager that stops every engine at the end.

    Args:
        config: The configuration that is served.
        launchers: Start its engines; two of them where a standby is configured.
        settings: Probes, back-off, standby.
        folder: Folder of the engines' logs, `restarts.jsonl` and the record of the traffic.
        say: Receives one line for every restart.
        cgroups: Folders of the control groups that every engine joins.
    """

    def __init__(
        self, config: EngineConfig, launchers: LauncherPool, settings: Serve, folder: Path,
        say: Say = lambda _: None, cgroups: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self._config, self._settings, self._reporter = config, settings, Reporter(say)
        self.starter = Starter(launchers, settings, folder, self._reporter, cgroups)
        self.restarts, self._traffic = RestartLog(folder / "restarts.jsonl"), TrafficRecord(folder)
        self._backoff = Backoff(
            settings.backoff_first_s, settings.backoff_factor, settings.backoff_max_s, settings.healthy_s
        )  # fmt: skip
        self._consecutive_restarts = 0
        self._current: Instance | None = None
        self._successor: tuple[Instance, EngineConfig] | None = None
        self._former: Instance | None = None
        self._healthy_at = 0.0
        self._unresponsive: tuple[int, EngineFailure] | None = None
        self._metrics: Mapping[str, float] = {}
        self.missed_probes: deque[float] = deque(maxlen=1000)
        """`time.monotonic()` of the probes that found the engine unhealthy."""
        self._listeners: list[Callable[[], None]] = []
        self._failure: InstanceFailure | None = None
        self._closing, self._lock = threading.Event(), threading.Lock()
        self._watcher = Ticker(self._watch, _CHECK_S, "watching the engine", self._reporter.report)
        self._prober = Ticker(self._probe, settings.probe_s, "probing the engine", self._reporter.report)
        self._standby = Standby(self.starter, self._backoff, self._reporter, self._closing)

    # -- state

    @property
    def current(self) -> Instance | None:
        """The engine that serves; None while there is none."""
        return self._current

    @property
    def endpoint(self) -> Endpoint | None:
        current = self._current
        return None if current is None else current.engine.endpoint

    @property
    def supervised(self) -> bool:
        """Whether a failure of the engine would be detected now and an engine started in its place."""
        alive = self._watcher.is_alive and self._prober.is_alive
        return alive and (self._current is None or self._watcher.busy_s < _STALLED_S)

    @property
    def standby_ready(self) -> bool:
        return self._standby.instance is not None

    @property
    def metrics(self) -> Mapping[str, float]:
        """Figures of the engine's /metrics at the last healthy probe."""
        return self._metrics

    @property
    def pids(self) -> list[int]:
        """Processes of all engines, including the standby's."""
        with self._lock:
            instances = [i for i in (self._current, self._standby.instance) if i is not None]
        return [pid for i in instances for pid in i.engine.pids]

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call `listener`, from any thread, whenever `current` or `metrics` has changed."""
        self._listeners.append(listener)

    def check_now(self) -> None:
        """Check the engine at once, e.g. after a request that was not answered."""
        self._watcher.wake()

    # -- start and stop

    def __enter__(self) -> Supervisor:
        """Start the first engine.

        Raises:
            EngineFailure, TransientFault: it does not start. A configuration that never ran is not retried.
        """
        self._install(self.starter.start(0, self._config))
        self._watcher.start()
        self._prober.start()
        if self._settings.standby:
            self._standby.begin(1, self._config)
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._watcher.stop()
        self._prober.stop()
        self._standby.close()
        self.end_former()
        if self._current is not None:
            self.starter.stop(self._current)
        self._current = None
        self._reporter.attempt("recording the last restarts", self.restarts.flush)

    def wait_for_standby(self, timeout_s: float) -> bool:
        """Whether a standby is ready in time; True at once where none is configured."""
        deadline = time.monotonic() + timeout_s
        while self._settings.standby and not self.standby_ready:
            if time.monotonic() > deadline or self._closing.wait(_CHECK_S):
                return False
        return True

    def _install(self, instance: Instance) -> None:
        with self._lock:
            self._healthy_at = time.monotonic()
            self._current = instance
        self._notify()

    def _notify(self) -> None:
        for listener in self._listeners:
            self._reporter.attempt("telling of a change", listener)

    # -- succession

    def promote(self, successor: Instance, config: EngineConfig) -> None:
        """Have an engine of another configuration serve from the watch's next look on: it then is `current`.

        The engine that served until then goes on with the requests that it has, until `end_former`.
        """
        with self._lock:
            self._successor = successor, config
        self.check_now()

    @property
    def promoting(self) -> bool:
        """Whether a promotion waits for the watch."""
        return self._successor is not None

    @property
    def former(self) -> Instance | None:
        """The engine that served before the last promotion, until `end_former`."""
        return self._former

    def withdraw(self) -> bool:
        """Take a promotion back; False if the successor serves already."""
        with self._lock:
            pending, self._successor = self._successor is not None, None
        return pending

    def end_former(self) -> None:
        """Stop the engine that served before the last promotion, if there is one."""
        with self._lock:
            former, self._former = self._former, None
        if former is not None:
            self.starter.stop(former)

    def _succeed(self) -> None:
        """Complete a promotion that is wanted."""
        with self._lock:
            if self._successor is None:
                return
            (successor, self._config), self._successor = self._successor, None
            self._former, self._current = self._current, successor
            self._failure, self._consecutive_restarts = None, 0
            self._healthy_at = time.monotonic()
        self._notify()
        standby = self._standby.follow(self._config)
        if standby is not None:
            self.starter.stop(standby)

    # -- detection

    def _watch(self) -> None:
        """Look once: replace an engine that has failed, or go on with a replacement that was not completed."""
        self._succeed()
        current = self._current
        if current is None:
            self._restart()
        elif (symptom := self._symptom(current)) is not None:
            self._replace(current, symptom)
        self._standby.replace_dead()

    def _symptom(self, current: Instance) -> EngineFailure | str | None:
        """The engine's fault, if it has one."""
        unresponsive = self._unresponsive
        if unresponsive is not None and unresponsive[0] == current.generation:
            return unresponsive[1]
        return current.engine.broken()

    def _probe(self) -> None:
        current = self._current
        if current is None:
            return
        try:
            result = current.probe.run()
        except Exception:
            self.missed_probes.append(time.monotonic())
            raise
        if result.failure is not None:
            self._unresponsive = (current.generation, result.failure)
            self.check_now()
        if result.healthy:
            self._healthy_at, self._metrics = time.monotonic(), result.metrics
            self._notify()
            self._reporter.attempt("recording the traffic", lambda: self._traffic.take(result.exposition))
        else:
            self.missed_probes.append(time.monotonic())

    # -- replacement

    def _replace(self, failed: Instance, symptom: EngineFailure | str) -> None:
        """Replace a failed engine by the standby, or by a restart."""
        detected = time.monotonic()
        error = symptom if isinstance(symptom, EngineFailure) else TransientFault(symptom)
        failure = InstanceFailure(failed, error, detected, time.time(), detected - self._healthy_at)
        with self._lock:
            self._failure, self._current = failure, None
        standby = self._standby.take()
        self._notify()
        if standby is not None:
            self._install(standby)
        takeover_s = time.monotonic() - detected
        self._failure = failure = failure.with_error(cause_of(failed, symptom))
        self.starter.stop(failed)
        if standby is None:
            self._restart()
        else:
            self._record(failure, "standby", takeover_s, 1, 0.0)
            self._standby.begin(failed.slot, self._config)

    def _restart(self) -> None:
        """Start again, with growing pauses, until it succeeds or the supervisor closes."""
        failure = self._failure
        if failure is None:
            return
        lifetime_s = failure.detected - failure.instance.since
        self._consecutive_restarts = self._backoff.consecutive(self._consecutive_restarts, lifetime_s)
        attempt = 0
        while not self._closing.is_set():
            pause_s, attempt = self._backoff.pause_s(self._consecutive_restarts), attempt + 1
            if self._closing.wait(pause_s) or self._successor is not None:
                return
            self._consecutive_restarts += 1
            try:
                instance = self.starter.start(failure.instance.slot, self._config)
            except Exception as error:  # of the configuration, the disk or the machine: the next start may succeed
                down_s = time.monotonic() - failure.detected
                self._record(failure.with_error(as_failure(error)), "failed", down_s, attempt, pause_s)
                continue
            self._install(instance)
            how = "warm" if instance.engine.warm else "cold"
            self._record(failure, how, time.monotonic() - failure.detected, attempt, pause_s)
            return

    def _record(self, failure: InstanceFailure, how: str, down_s: float, attempt: int, backoff_s: float) -> None:
        instance, error = failure.instance, failure.error
        restart = Restart(
            generation=instance.generation, cause=error.kind.value if isinstance(error, EngineFailure) else "transient",
            reason=str(error), how=how, detected_at=failure.detected_at, unseen_s=failure.unseen_s, down_s=down_s,
            attempt=attempt, backoff_s=backoff_s, log=instance.log.name, detected_s=failure.detected,
        )  # fmt: skip
        self._reporter.attempt("recording a restart", lambda: self.restarts.write(restart))
        self._reporter.report(f"engine {restart.generation} failed ({restart.reason}); {how} after {down_s:.2f} s")
