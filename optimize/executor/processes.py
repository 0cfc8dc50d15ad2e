"""Workers on this machine: one process per place, so that no two measurements share processors or an interpreter."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import Any

from optimize.errors import ConfigError, OptimizeError
from optimize.executor.worker import Lost, Message, Rejected, Worker, WorkerSpec, respond
from optimize.redaction import redacted_streams, register_all

_SPAWN = multiprocessing.get_context("spawn")
_STOP_S = 20.0
_PR_SET_PDEATHSIG = 1
Make = Callable[[WorkerSpec], Worker]


class Processes:
    """A transport of processes and pipes.

    Args:
        specs: Specifications of the workers, by slot.
        make: Creates a worker in its process.
    """

    def __init__(self, specs: Sequence[WorkerSpec], make: Make = Worker) -> None:
        self._specs, self._make = specs, make
        self._running: dict[int, tuple[SpawnProcess, Connection]] = {}

    def start(self, slot: int) -> None:
        self.stop(slot)
        near, far = _SPAWN.Pipe()
        process = _SPAWN.Process(
            target=_serve, args=(far, self._specs[slot], self._make, os.getpid()), name=f"worker-{slot}", daemon=True
        )
        process.start()
        far.close()  # or the end of the process would not close the pipe
        self._running[slot] = (process, near)

    def send(self, slot: int, method: str, *arguments: Any) -> None:
        try:
            self._running[slot][1].send((method, arguments))
        except OSError:
            return  # it is gone, which the next `wait` reports

    def wait(self, timeout_s: float | None) -> list[tuple[int, Message]]:
        pipes = {pipe: slot for slot, (_, pipe) in self._running.items()}
        if not pipes:
            raise OptimizeError("no worker process is running")
        return [(pipes[pipe], self._receive(pipes[pipe])) for pipe in wait(list(pipes), timeout_s)]  # type: ignore[index]

    def _receive(self, slot: int) -> Message:
        process, pipe = self._running[slot]
        try:
            message: Message = pipe.recv()
        except (EOFError, OSError):
            process.join(_STOP_S)
            self.stop(slot)
            return Lost(f"process {process.pid} ended with code {process.exitcode}")
        if isinstance(message, Rejected):
            self.stop(slot)
        return message

    def stop(self, slot: int) -> None:
        if slot not in self._running:
            return
        process, pipe = self._running.pop(slot)
        process.terminate()
        process.join(_STOP_S)
        if process.is_alive():
            process.kill()
            process.join()
        pipe.close()

    def close(self) -> None:
        for process, _ in self._running.values():
            process.terminate()  # all at once: each takes its time to stop an engine
        for slot in list(self._running):
            self.stop(slot)


def _serve(pipe: Connection, spec: WorkerSpec, make: Make, parent: int) -> None:
    """Body of a worker's process, which hides the secrets that the driver hides."""
    register_all(spec.secrets)
    with redacted_streams():
        try:
            _answer(pipe, spec, make, parent)
        except Exception:  # here, where what is written hides secrets
            traceback.print_exc()
            sys.exit(1)


def _answer(pipe: Connection, spec: WorkerSpec, make: Make, parent: int) -> None:
    """Answer requests until the driver is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C at the terminal is the driver's to handle
    signal.signal(signal.SIGTERM, _end)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        return
    try:
        worker = make(spec)
    except ConfigError as error:
        pipe.send(Rejected(str(error), os.uname().nodename))
        return
    try:
        pipe.send(worker.ready())
        while True:
            method, arguments = pipe.recv()
            pipe.send(respond(worker, method, arguments))
    except (EOFError, BrokenPipeError):
        return
    finally:
        worker.close()


def _end(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # stopping an engine must not be interrupted by a second signal
    raise SystemExit(0)
