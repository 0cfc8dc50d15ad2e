"""The client processes, and one load sent by all of them together."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from objectives import RequestRecord
from optimize.engine.base import Endpoint, RequestConfig
from optimize.errors import TransientFault
from optimize.files import python_path
from optimize.load.arrivals import Arrivals
from optimize.load.channel import Channel
from optimize.load.protocol import Bounds, ClientShare, Follow, Prompts, Report, Stop
from optimize.workload.workload import Workload

_STOP_S, _WAIT_S = 10.0, 0.005


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """The requests of a load.

    Attributes:
        workload: Prompts, sent in a seeded order or their own, over and over.
        request: Decoding settings of every request.
        max_tokens: Bound on every answer.
        timeout_s: Seconds after which a request counts as failed.
        seed: Seed of the order of prompts and of random arrivals.
        later: Rows that are sent after the others.
        honours_retry_after: Whether throttled requests are sent again; see `Bounds`.
    """

    workload: Workload
    request: RequestConfig
    max_tokens: int
    timeout_s: float
    seed: int
    later: Collection[int] = ()
    honours_retry_after: bool = False

    @property
    def bounds(self) -> Bounds:
        return Bounds(self.max_tokens, self.timeout_s, self.honours_retry_after)


def order_of(workload: Workload, seed: int, later: Collection[int] = ()) -> list[int]:
    """The order in which a load sends a workload, over and over; see `LoadRequest`.

    Returns:
        Its rows; of one of conversations their numbers, those last whose first turn is to come later.
    """
    talks, last = workload.conversations, frozenset(later)
    order = list(range(len(workload.prompts) if talks is None else len(talks.rows)))
    if not workload.in_order:
        random.Random(seed).shuffle(order)
        order.sort(key=lambda number: (number if talks is None else talks.rows[number][0]) in last)
    return order


def fixed_rows(workload: Workload, seed: int) -> list[int]:
    """The rows whose prompts are the same in every load, in the order in which a load sends them."""
    order, talks = order_of(workload, seed), workload.conversations
    if talks is None:
        return order
    fixed = frozenset(talks.fixed_rows)
    return [row for number in order for row in talks.rows[number] if row in fixed]


class ClientPool:
    """Client processes, each with an event loop of its own; a context manager that ends them.

    They start when first needed and stay, so that later loads start at once. Because the requests are timed in other
    processes, the work of this one (sampler, tracker) does not delay them.

    Args:
        size: Number of processes.
    """

    def __init__(self, size: int = 1) -> None:
        self.size = size
        self._processes: list[_ClientProcess] = []

    def __enter__(self) -> ClientPool:
        return self

    def __exit__(self, *_: object) -> None:
        while self._processes:
            self._processes.pop().end()

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes]

    def begin(self) -> None:
        """Start the missing processes without waiting for them."""
        self._processes += [_ClientProcess() for _ in range(self.size - len(self._processes))]

    def grow(self, limit: int) -> bool:
        """Double the processes from the next load on, up to a limit; returns whether there will be more."""
        before, self.size = self.size, max(self.size, min(2 * self.size, limit))
        return self.size > before

    @contextmanager
    def loading(self, endpoint: Endpoint, request: LoadRequest, processes: int | None = None) -> Iterator[LoadRun]:
        """A load that begins now, with nothing to send yet; unanswered requests are given up at its end.

        Raises:
            TransientFault: a client process ended.
        """
        self.begin()
        run = LoadRun(self._processes[: processes or self.size], endpoint, request)
        try:
            yield run
        finally:
            try:
                run.stop()
            except TransientFault:
                self.__exit__()  # so that the next load starts new ones
                raise


@dataclass
class LoadRun:
    """A load under way.

    Attributes:
        processes: The processes that send it.
        endpoint: The engine.
        request: The requests.
        records: Every request that has ended, in order of completion within each process.
        began: `time.monotonic()` at second 0.
        unanswered: Requests that were given up at the end.
        cpu: Per process: (second of the load, processor seconds so far) of every report.
    """

    processes: Sequence[_ClientProcess]
    endpoint: Endpoint
    request: LoadRequest
    records: list[RequestRecord] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    unanswered: list[RequestRecord] = field(default_factory=list)

    def __post_init__(self) -> None:
        request = self.request
        rows = order_of(request.workload, request.seed, request.later)
        self.cpu: list[list[tuple[float, float]]] = [[] for _ in self.processes]
        self._reports: list[Report | None] = [None] * len(self.processes)
        for index, process in enumerate(self.processes):
            process.load_prompts(request.workload)
            process.send(
                ClientShare(
                    self.endpoint, request.request, request.bounds, rows, index, len(self.processes), self.began
                )
            )  # fmt: skip

    def clock(self) -> float:
        """Seconds since the load began."""
        return time.monotonic() - self.began

    def follow(self, arrivals: Arrivals, start_s: float | None = None) -> None:
        """Send by these arrivals from a second of the load on (now), in place of others."""
        start_s = self.clock() if start_s is None else start_s
        for process in self.processes:
            process.send(Follow(arrivals, self.request.seed, start_s))

    def update(self) -> None:
        """Take in the reports of the processes."""
        for index, process in enumerate(self.processes):
            for report in process.receive():
                self.records += report.records
                self.cpu[index].append((report.at_s, report.cpu_s))
                self._reports[index] = report
                self.unanswered += report.unanswered or []

    def oldest_due_s(self) -> float:
        """Requests due before this second have all been answered, as far as is known."""
        return min((_answered_until(report) for report in self._reports), default=0.0)

    def stop(self) -> None:
        """End the load and wait for every process's last report."""
        for process in self.processes:
            process.send(Stop())
        deadline = time.monotonic() + _STOP_S
        while any(r is None or r.unanswered is None for r in self._reports):
            if time.monotonic() > deadline:
                raise TransientFault(f"a client process did not end its load within {_STOP_S:g} s")
            time.sleep(_WAIT_S)
            self.update()


def _answered_until(report: Report | None) -> float:
    if report is None:
        return 0.0
    return report.at_s if report.oldest_due_s is None else report.oldest_due_s


class _ClientProcess:
    """One client process."""

    def __init__(self) -> None:
        near, far = socket.socketpair()
        with far:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "optimize.load.client_process", str(far.fileno())],
                pass_fds=[far.fileno()],
                env={**os.environ, "PYTHONPATH": python_path()},
                stdin=subprocess.DEVNULL,
                process_group=0,  # a Ctrl-C at the terminal is the project's to handle
            )
        self._channel = Channel(near)
        self._prompts_of: Workload | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

    def load_prompts(self, workload: Workload) -> None:
        """Hand over the prompts, unless the process has them already."""
        if self._prompts_of is not workload:
            self.send(
                Prompts(
                    workload.prompts, workload.output_tokens, workload.limits, workload.fields, workload.conversations
                )
            )
            self._prompts_of = workload

    def send(self, message: object) -> None:
        try:
            self._channel.send(message)
        except OSError as error:
            raise self._gone() from error

    def receive(self) -> list[Report]:
        try:
            return self._channel.receive()
        except EOFError as error:
            raise self._gone() from error

    def end(self) -> None:
        self._channel.close()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _gone(self) -> TransientFault:
        return TransientFault(f"client process {self.pid} ended (exit code {self._process.poll()})")
