"""A second engine of the configuration that is served, ready to take over at once."""

from __future__ import annotations

import threading
from functools import partial

from optimize.engine.base import EngineConfig
from optimize.serve.backoff import Backoff
from optimize.serve.instance import Instance, as_failure
from optimize.serve.reporter import Reporter
from optimize.serve.starter import Starter
from optimize.serve.warmup import warm_up


class Standby:
    """Starts a standby in the background, and another one whenever it is taken or dies.

    Args:
        starter: Starts and stops it.
        backoff: Pauses between starts that fail.
        reporter: Receives what happens to it.
        closing: Set when no other one is to be started.
    """

    def __init__(self, starter: Starter, backoff: Backoff, reporter: Reporter, closing: threading.Event) -> None:
        self._starter, self._backoff, self._reporter, self._closing = starter, backoff, reporter, closing
        self._instance: Instance | None = None
        self._config: EngineConfig | None = None
        self._lock = threading.Lock()
        self._starting: list[threading.Thread] = []

    @property
    def instance(self) -> Instance | None:
        """The engine that is ready; None while there is none."""
        return self._instance

    def begin(self, slot: int, config: EngineConfig) -> None:
        """Start one in a slot; it becomes ready in the background."""
        with self._lock:
            self._config = config
        thread = threading.Thread(target=self._start, args=(slot,), name="standby", daemon=True)
        self._starting = [*(t for t in self._starting if t.is_alive()), thread]
        thread.start()

    def take(self) -> Instance | None:
        """Hand over the engine that is ready, if there is one; the caller begins another."""
        with self._lock:
            instance, self._instance = self._instance, None
        return instance

    def follow(self, config: EngineConfig) -> Instance | None:
        """Serve another configuration from now on; returns the standby of the former one, for the caller to stop.

        One that is starting at the moment is stopped and started again as the new one.
        """
        with self._lock:
            instance, self._instance, self._config = self._instance, None, config
        if instance is not None:
            self.begin(instance.slot, config)
        return instance

    def replace_dead(self) -> None:
        """Start another one if it has died."""
        standby = self._instance
        if standby is None or (symptom := standby.engine.broken()) is None:
            return
        with self._lock:
            self._instance, config = None, self._config
        self._reporter.report(f"the standby died ({symptom}): starting another")
        self._starter.stop(standby)
        assert config is not None
        self.begin(standby.slot, config)

    def close(self) -> None:
        """Wait for starts that are under way, and stop the engine."""
        for thread in self._starting:
            thread.join()
        instance = self.take()
        if instance is not None:
            self._starter.stop(instance)

    def _start(self, slot: int) -> None:
        """Start it; retried, with growing pauses, until it is ready and still the one that is wanted."""
        failures = 0
        while not self._closing.wait(self._backoff.pause_s(failures)):
            config = self._config
            assert config is not None
            try:
                instance = self._starter.start(slot, config)
            except Exception as error:
                failures += 1
                self._reporter.report(f"the standby did not start: {as_failure(error)}")
                continue
            self._reporter.attempt("the warm-up of the standby", partial(warm_up, instance.engine.endpoint))
            if self._keep(instance, config):
                return
            self._starter.stop(instance)

    def _keep(self, instance: Instance, config: EngineConfig) -> bool:
        """Keep a new engine, unless another configuration took the place of its own while it started."""
        with self._lock:
            if self._config is config:
                self._instance = instance
            return self._config is config
