"""Keeps an engine up: notices its end, starts another, and writes down each time what happened.

Two threads look at the living engine: one at its processes, which tells a death within a twentieth of a second; one
asks it, which tells whether it answers. A standby, where there is one, takes over before the dead engine is cleared
away.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from optimize.config.serve import Serve
from optimize.engine.base import Endpoint, EngineConfig
from optimize.errors import EngineFailure, TransientFault
from optimize.serve.backoff import Backoff
from optimize.serve.instance import End, Running, cause_of
from optimize.serve.launchers import Starters
from optimize.serve.probe import Probe
from optimize.serve.restart_log import Restart, RestartLog
from optimize.serve.warmup import warm_up

_CHECK_S = 0.05
Say = Callable[[str], None]


class Supervisor:
    """One configuration, kept up; a context manager that stops every engine at the end.

    Args:
        config: What is served.
        starters: Start it; two of them where a standby is wanted.
        settings: Probes, back-off, standby.
        folder: For the engines' logs and `restarts.jsonl`.
        say: Told of every restart, in one line.
    """

    def __init__(
        self, config: EngineConfig, starters: Starters, settings: Serve, folder: Path, say: Say = lambda _: None
    ) -> None:
        self._config, self._starters, self._settings, self._folder, self._say = config, starters, settings, folder, say
        self.restarts = RestartLog(folder / "restarts.jsonl")
        self._backoff = Backoff(
            settings.backoff_first_s, settings.backoff_factor, settings.backoff_max_s, settings.healthy_s
        )  # fmt: skip
        self._in_a_row, self._launched = 0, 0
        self._current: Running | None = None
        self._standby: Running | None = None
        self._seen_well_at = 0.0
        self._unresponsive: tuple[int, EngineFailure] | None = None
        self._figures: Mapping[str, float] = {}
        self.missed: deque[float] = deque(maxlen=1000)
        """Unix times at which a probe was given up."""
        self._listeners: list[Callable[[], None]] = []
        self._closing, self._wake, self._lock = threading.Event(), threading.Event(), threading.Lock()
        self._threads: list[threading.Thread] = []

    # -- what others see

    @property
    def current(self) -> Running | None:
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
    def figures(self) -> Mapping[str, float]:
        """What the engine last said of itself."""
        return self._figures

    @property
    def pids(self) -> list[int]:
        """Processes of all engines, the standby's too."""
        with self._lock:
            running = [r for r in (self._current, self._standby) if r is not None]
        return [pid for r in running for pid in r.engine.pids]

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call `listener`, from whatever thread, whenever `current` or `figures` have changed."""
        self._listeners.append(listener)

    def look_now(self) -> None:
        """Somebody was not answered: look at the engine at once."""
        self._wake.set()

    # -- life

    def __enter__(self) -> Supervisor:
        """Start the first engine.

        Raises:
            EngineFailure, TransientFault: it does not start; a configuration that never ran is not tried again.
        """
        self._install(self._launch(0))
        self._begin(self._watch)
        self._begin(self._probe)
        if self._settings.standby:
            self._begin(lambda: self._fill_standby(1))
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._wake.set()
        for thread in self._threads:
            thread.join()
        for running in (self._current, self._standby):
            if running is not None:
                self._stop(running)
        self._current = self._standby = None

    def wait_for_standby(self, timeout_s: float) -> bool:
        """Whether a standby is ready in time; True at once where none is wanted."""
        deadline = time.monotonic() + timeout_s
        while self._settings.standby and self._standby is None:
            if time.monotonic() > deadline or self._closing.wait(_CHECK_S):
                return False
        return True

    def _begin(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _launch(self, slot: int) -> Running:
        with self._lock:
            self._launched += 1
            log = self._folder / f"engine-{self._launched:04d}.log"
        engine = self._starters.launch(slot, self._config, log)
        return Running(engine, slot, self._launched, log, time.monotonic(), Probe(engine, self._settings))

    def _install(self, running: Running) -> None:
        with self._lock:
            self._seen_well_at = time.monotonic()
            self._current = running
        self._notify()

    def _notify(self) -> None:
        for listener in self._listeners:
            listener()

    @staticmethod
    def _stop(running: Running) -> None:
        running.probe.close()
        running.engine.stop()

    # -- the two looks

    def _watch(self) -> None:
        while not self._closing.is_set():
            self._wake.wait(_CHECK_S)
            self._wake.clear()
            current = self._current
            if current is not None and (found := self._found(current)) is not None:
                self._replace(current, found)
            self._mend_standby()

    def _found(self, current: Running) -> EngineFailure | str | None:
        """What is wrong with the engine, if anything."""
        unresponsive = self._unresponsive
        if unresponsive is not None and unresponsive[0] == current.generation:
            return unresponsive[1]
        return current.engine.broken()

    def _probe(self) -> None:
        while not self._closing.wait(self._settings.probe_s):
            current = self._current
            if current is None:
                continue
            look = current.probe.look()
            if look.failure is not None:
                self._unresponsive = (current.generation, look.failure)
                self._wake.set()
            elif look.well:
                self._seen_well_at = time.monotonic()
                self._figures = look.figures
                self._notify()
            if not look.well:
                self.missed.append(time.time())

    # -- replacing

    def _replace(self, old: Running, found: EngineFailure | str) -> None:
        """Put another engine in the place of one that failed."""
        detected, detected_at = time.monotonic(), time.time()
        unseen_s = detected - self._seen_well_at
        with self._lock:
            self._current, spare, self._standby = None, self._standby, None
        self._notify()
        if spare is not None:
            self._install(spare)
        taken_over_s = time.monotonic() - detected
        failure = cause_of(old, found)
        self._stop(old)
        end = End(old, failure, detected, detected_at, unseen_s)
        if spare is not None:
            self._record(end, "standby", taken_over_s, 1, 0.0)
            self._begin(lambda: self._fill_standby(old.slot))
            return
        self._restart(end)

    def _restart(self, end: End) -> None:
        """Start again, with growing pauses, until it works or we are closed."""
        self._in_a_row = self._backoff.in_a_row(self._in_a_row, end.detected - end.running.since)
        attempt = 0
        while not self._closing.is_set():
            pause_s, attempt = self._backoff.pause_s(self._in_a_row), attempt + 1
            if self._closing.wait(pause_s):
                return
            self._in_a_row += 1
            try:
                running = self._launch(end.running.slot)
            except (EngineFailure, TransientFault) as error:
                self._record(end.because(error), "failed", time.monotonic() - end.detected, attempt, pause_s)
                continue
            self._install(running)
            how = "warm" if running.engine.warm else "cold"
            self._record(end, how, time.monotonic() - end.detected, attempt, pause_s)
            return

    def _fill_standby(self, slot: int) -> None:
        """Have a second engine ready; tried again, with growing pauses, until it is."""
        failures = 0
        while not self._closing.wait(self._backoff.pause_s(failures)):
            try:
                running = self._launch(slot)
            except (EngineFailure, TransientFault) as error:
                failures += 1
                self._say(f"the standby did not start: {error}")
                continue
            warm_up(running.engine.endpoint)
            with self._lock:
                self._standby = running
            return

    def _mend_standby(self) -> None:
        standby = self._standby
        if standby is None or (broken := standby.engine.broken()) is None:
            return
        with self._lock:
            self._standby = None
        self._say(f"the standby died ({broken}): another one is started")
        self._stop(standby)
        self._begin(lambda: self._fill_standby(standby.slot))

    def _record(self, end: End, how: str, down_s: float, attempt: int, backoff_s: float) -> None:
        kind = end.failure.kind.value if isinstance(end.failure, EngineFailure) else "transient"
        restart = Restart(
            generation=end.running.generation, cause=kind, reason=str(end.failure), how=how,
            detected_at=end.detected_at, unseen_s=end.unseen_s, down_s=down_s, attempt=attempt, backoff_s=backoff_s,
            log=end.running.log.name,
        )  # fmt: skip
        self.restarts.write(restart)
        self._say(f"engine {restart.generation} failed ({restart.reason}); {how} after {down_s:.2f} s")
