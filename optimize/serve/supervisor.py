"""Keeps one engine up: detects its failure, starts a replacement, and records every restart.

Two threads watch the live engine. One polls its processes and detects a death within a twentieth of a second; the
other probes its HTTP side. A standby, where there is one, takes over before the failed engine is cleared away.
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
from optimize.serve.instance import Instance, InstanceFailure, cause_of
from optimize.serve.launchers import LauncherPool
from optimize.serve.probe import Probe
from optimize.serve.restart_log import Restart, RestartLog
from optimize.serve.warmup import warm_up

_CHECK_S = 0.05
Say = Callable[[str], None]


class Supervisor:
    """Keeps one configuration up; a context manager that stops every engine at the end.

    Args:
        config: The configuration that is served.
        launchers: Start its engines; two of them where a standby is configured.
        settings: Probes, back-off, standby.
        folder: Folder of the engines' logs and `restarts.jsonl`.
        say: Receives one line for every restart.
        cgroups: Folders of the control groups that every engine joins.
    """

    def __init__(
        self, config: EngineConfig, launchers: LauncherPool, settings: Serve, folder: Path,
        say: Say = lambda _: None, cgroups: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self._config, self._launchers, self._settings, self._folder = config, launchers, settings, folder
        self._say, self._cgroups = say, tuple(cgroups)
        self.restarts = RestartLog(folder / "restarts.jsonl")
        self._backoff = Backoff(
            settings.backoff_first_s, settings.backoff_factor, settings.backoff_max_s, settings.healthy_s
        )  # fmt: skip
        self._consecutive_restarts, self._launched = 0, 0
        self._current: Instance | None = None
        self._standby: Instance | None = None
        self._healthy_at = 0.0
        self._unresponsive: tuple[int, EngineFailure] | None = None
        self._metrics: Mapping[str, float] = {}
        self.missed_probes: deque[float] = deque(maxlen=1000)
        """Unix times at which a probe found the engine unhealthy."""
        self._listeners: list[Callable[[], None]] = []
        self._closing, self._wake, self._lock = threading.Event(), threading.Event(), threading.Lock()
        self._threads: list[threading.Thread] = []

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
    def standby_ready(self) -> bool:
        return self._standby is not None

    @property
    def metrics(self) -> Mapping[str, float]:
        """Figures of the engine's /metrics at the last healthy probe."""
        return self._metrics

    @property
    def pids(self) -> list[int]:
        """Processes of all engines, including the standby's."""
        with self._lock:
            instances = [i for i in (self._current, self._standby) if i is not None]
        return [pid for i in instances for pid in i.engine.pids]

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call `listener`, from any thread, whenever `current` or `metrics` has changed."""
        self._listeners.append(listener)

    def check_now(self) -> None:
        """Check the engine at once, e.g. after a request that was not answered."""
        self._wake.set()

    # -- start and stop

    def __enter__(self) -> Supervisor:
        """Start the first engine.

        Raises:
            EngineFailure, TransientFault: it does not start. A configuration that never ran is not retried.
        """
        self._install(self._launch(0))
        self._begin(self._watch)
        self._begin(self._probe)
        if self._settings.standby:
            self._begin(lambda: self._start_standby(1))
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._wake.set()
        for thread in self._threads:
            thread.join()
        for instance in (self._current, self._standby):
            if instance is not None:
                self._stop(instance)
        self._current = self._standby = None

    def wait_for_standby(self, timeout_s: float) -> bool:
        """Whether a standby is ready in time; True at once where none is configured."""
        deadline = time.monotonic() + timeout_s
        while self._settings.standby and self._standby is None:
            if time.monotonic() > deadline or self._closing.wait(_CHECK_S):
                return False
        return True

    def _begin(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _launch(self, slot: int) -> Instance:
        with self._lock:
            self._launched += 1
            generation = self._launched
        log = self._folder / f"engine-{generation:04d}.log"
        engine = self._launchers.launch(slot, self._config, log, self._cgroups)
        return Instance(engine, slot, generation, log, time.monotonic(), Probe(engine, self._settings))

    def _install(self, instance: Instance) -> None:
        with self._lock:
            self._healthy_at = time.monotonic()
            self._current = instance
        self._notify()

    def _notify(self) -> None:
        for listener in self._listeners:
            listener()

    @staticmethod
    def _stop(instance: Instance) -> None:
        instance.probe.close()
        instance.engine.stop()

    # -- detection

    def _watch(self) -> None:
        while not self._closing.is_set():
            self._wake.wait(_CHECK_S)
            self._wake.clear()
            current = self._current
            if current is not None and (symptom := self._symptom(current)) is not None:
                self._replace(current, symptom)
            self._replace_dead_standby()

    def _symptom(self, current: Instance) -> EngineFailure | str | None:
        """The engine's fault, if it has one."""
        unresponsive = self._unresponsive
        if unresponsive is not None and unresponsive[0] == current.generation:
            return unresponsive[1]
        return current.engine.broken()

    def _probe(self) -> None:
        while not self._closing.wait(self._settings.probe_s):
            current = self._current
            if current is None:
                continue
            result = current.probe.run()
            if result.failure is not None:
                self._unresponsive = (current.generation, result.failure)
                self._wake.set()
            elif result.healthy:
                self._healthy_at = time.monotonic()
                self._metrics = result.metrics
                self._notify()
            if not result.healthy:
                self.missed_probes.append(time.time())

    # -- replacement

    def _replace(self, failed: Instance, symptom: EngineFailure | str) -> None:
        """Replace a failed engine by the standby, or by a restart."""
        detected, detected_at = time.monotonic(), time.time()
        unseen_s = detected - self._healthy_at
        with self._lock:
            self._current, standby, self._standby = None, self._standby, None
        self._notify()
        if standby is not None:
            self._install(standby)
        takeover_s = time.monotonic() - detected
        error = cause_of(failed, symptom)
        self._stop(failed)
        failure = InstanceFailure(failed, error, detected, detected_at, unseen_s)
        if standby is not None:
            self._record(failure, "standby", takeover_s, 1, 0.0)
            self._begin(lambda: self._start_standby(failed.slot))
            return
        self._restart(failure)

    def _restart(self, failure: InstanceFailure) -> None:
        """Start again, with growing pauses, until it succeeds or the supervisor closes."""
        lifetime_s = failure.detected - failure.instance.since
        self._consecutive_restarts = self._backoff.consecutive(self._consecutive_restarts, lifetime_s)
        attempt = 0
        while not self._closing.is_set():
            pause_s, attempt = self._backoff.pause_s(self._consecutive_restarts), attempt + 1
            if self._closing.wait(pause_s):
                return
            self._consecutive_restarts += 1
            try:
                instance = self._launch(failure.instance.slot)
            except (EngineFailure, TransientFault) as error:
                down_s = time.monotonic() - failure.detected
                self._record(failure.with_error(error), "failed", down_s, attempt, pause_s)
                continue
            self._install(instance)
            how = "warm" if instance.engine.warm else "cold"
            self._record(failure, how, time.monotonic() - failure.detected, attempt, pause_s)
            return

    def _start_standby(self, slot: int) -> None:
        """Start a standby; retried, with growing pauses, until it is ready."""
        failures = 0
        while not self._closing.wait(self._backoff.pause_s(failures)):
            try:
                instance = self._launch(slot)
            except (EngineFailure, TransientFault) as error:
                failures += 1
                self._say(f"the standby did not start: {error}")
                continue
            warm_up(instance.engine.endpoint)
            with self._lock:
                self._standby = instance
            return

    def _replace_dead_standby(self) -> None:
        standby = self._standby
        if standby is None or (symptom := standby.engine.broken()) is None:
            return
        with self._lock:
            self._standby = None
        self._say(f"the standby died ({symptom}): starting another")
        self._stop(standby)
        self._begin(lambda: self._start_standby(standby.slot))

    def _record(self, failure: InstanceFailure, how: str, down_s: float, attempt: int, backoff_s: float) -> None:
        instance, error = failure.instance, failure.error
        restart = Restart(
            generation=instance.generation, cause=error.kind.value if isinstance(error, EngineFailure) else "transient",
            reason=str(error), how=how, detected_at=failure.detected_at, unseen_s=failure.unseen_s, down_s=down_s,
            attempt=attempt, backoff_s=backoff_s, log=instance.log.name,
        )  # fmt: skip
        self.restarts.write(restart)
        self._say(f"engine {restart.generation} failed ({restart.reason}); {how} after {down_s:.2f} s")
