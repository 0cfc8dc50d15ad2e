"""Workers on a Ray cluster: an actor per slot, placed by resources. The only module that imports Ray."""

from __future__ import annotations

import logging
import os
import signal
import socket
import warnings
from collections.abc import Sequence
from typing import Any

from optimize.config.executor import Executor
from optimize.errors import ConfigError, OptimizeError, one_line
from optimize.executor.processes import Make, Processes
from optimize.executor.worker import Lost, Message, Rejected, Worker, WorkerSpec
from optimize.files import python_path

_CONNECT_S = 5.0
_STOP_S = 20.0
_ONLY = 0


class Remote:
    """Ray actor with a worker in a process of its own, as on one machine.

    Not in the actor's process, because Ray kills the children of one that ends: the reaper of an engine would be such
    a child, and without its reaper an engine lives on. This way a worker is killed, and the reaper, which sees that,
    ends the engine.
    """

    def __init__(self, spec: WorkerSpec, make: Make) -> None:
        self._processes = Processes([spec], make)
        self._processes.start(_ONLY)

    def ready(self) -> Message:
        return self._next()

    def answer(self, method: str, arguments: Sequence[Any]) -> Message:
        self._processes.send(_ONLY, method, *arguments)
        return self._next()

    def _next(self) -> Message:
        ((_, message),) = self._processes.wait(None)
        return message

    def close(self) -> None:
        self._processes.close()


class Actors:
    """A transport of Ray actors.

    Args:
        settings: Address of the cluster, and the resources of each worker.
        specs: Specifications of the workers, by slot.
        make: Creates a worker in its process.

    Raises:
        ConfigError: Ray is not installed, the cluster cannot be reached, or has no room for a single worker.
    """

    def __init__(self, settings: Executor, specs: Sequence[WorkerSpec], make: Make = Worker) -> None:
        self._settings, self.specs, self._make = settings, list(specs), make
        self._ray = connect(settings)
        self._actor = self._ray.remote(Remote)
        self._actors: dict[int, Any] = {}
        self._pending: dict[Any, int] = {}

    def start(self, slot: int) -> None:
        actor = self._actor.options(
            num_cpus=self._settings.cpus_per_engine, num_gpus=self._settings.gpus_per_engine or 0,
            resources=dict(self._settings.resources), scheduling_strategy="SPREAD", max_restarts=0,
        )  # fmt: skip
        self._actors[slot] = actor.remote(self.specs[slot], self._make)
        self._pending[self._actors[slot].ready.remote()] = slot

    def send(self, slot: int, method: str, *arguments: Any) -> None:
        self._pending[self._actors[slot].answer.remote(method, arguments)] = slot

    def wait(self, timeout_s: float | None) -> list[tuple[int, Message]]:
        if not self._pending:
            raise OptimizeError("no worker is running on the cluster")
        # All that are ready at once: each call looks at all workers.
        ended, _ = self._ray.wait(list(self._pending), num_returns=1, timeout=timeout_s)
        more, _ = self._ray.wait(list(self._pending), num_returns=len(self._pending), timeout=0)
        return [(self._pending[ref], self._message(ref)) for ref in dict.fromkeys([*ended, *more])]

    def _message(self, ref: Any) -> Message:
        slot = self._pending.pop(ref)
        try:
            message: Message = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            self._pending = {r: s for r, s in self._pending.items() if s != slot}
            self._kill(slot)
            return Lost(one_line(error, 200))
        if isinstance(message, Lost | Rejected):
            self._kill(slot)
        return message

    def stop(self, slot: int) -> None:
        self._pending = {r: s for r, s in self._pending.items() if s != slot}
        self._kill(slot)

    def _kill(self, slot: int) -> None:
        """End the actor's process, and with it the worker's; the engine's reaper sees that, and ends the engine."""
        if slot in self._actors:
            self._ray.kill(self._actors.pop(slot))

    def close(self) -> None:
        # Those that are idle end by themselves, and wait for their engines' end; those at work are killed.
        closing = [a.close.remote() for s, a in self._actors.items() if s not in self._pending.values()]
        if closing:
            self._ray.wait(closing, num_returns=len(closing), timeout=_STOP_S)
        for slot in list(self._actors):
            self._kill(slot)
        self._ray.shutdown()

    def room(self) -> int:
        """Number of workers that the cluster's nodes have room for."""
        return sum(self._fits(node["Resources"]) for node in self._ray.nodes() if node["Alive"])

    def _fits(self, available: dict[str, float]) -> int:
        required = {**self._settings.resources, "CPU": self._settings.cpus_per_engine}
        required["GPU"] = float(self._settings.gpus_per_engine or 0)
        return min(int(available.get(name, 0.0) // amount) for name, amount in required.items() if amount > 0)


def connect(settings: Executor) -> Any:
    """Ray, connected to the cluster.

    Raises:
        ConfigError: it is not installed, or the cluster cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import ray
    except ImportError as error:
        raise ConfigError(
            f"executor=ray needs Ray, which is not installed ({error}): install this project's extra 'ray', or choose "
            "executor=local"
        ) from None
    _check_reachable(settings.address)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ray.init(
                address=settings.address, log_to_driver=False, logging_level=logging.CRITICAL,
                runtime_env={"env_vars": {"PYTHONPATH": python_path()}},
            )  # fmt: skip
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise ConfigError(_unreachable(settings.address, one_line(error, 200))) from None
    finally:
        signal.signal(signal.SIGTERM, handler)  # Ray installs its own, which would leave engines behind
    return ray


def _check_reachable(address: str) -> None:
    """Try the port first: Ray takes minutes to give up on an address where nothing answers."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit() or not host:
        if address != "auto":
            raise ConfigError(f"executor.address={address!r} must be auto, host:port, or ray://host:port")
        return
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(_unreachable(address, str(error))) from None


def _unreachable(address: str, why: str) -> str:
    return (
        f"executor.address={address}: no Ray cluster answers there ({why}): start one (ray start --head), or correct "
        "the address"
    )
