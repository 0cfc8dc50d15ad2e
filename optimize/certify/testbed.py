"""The testbed of a certification: a supervised engine behind a front, and a load through it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from optimize.certify.recovery import recovered_s
from optimize.config.certify import Certify
from optimize.config.serve import Serve
from optimize.engine.base import Endpoint, EngineConfig, RequestConfig
from optimize.errors import OptimizeError, TransientFault
from optimize.load.arrivals import Burst, ClosedLoop
from optimize.load.client_pool import ClientPool, LoadRequest, LoadRun
from optimize.plan import Plan
from optimize.serve.front import Front, bind
from optimize.serve.launchers import LauncherPool, SupervisedLauncher
from optimize.serve.supervisor import Supervisor
from optimize.study.target import Target

_WARMUP_TOKENS, _WARMUP_S = 4, 120.0
_STANDBY_S = 180.0
_POLL_S = 0.05
_CAPACITY_WARM_S, _USERS_MAX = 2.0, 32


@dataclass(frozen=True)
class Setup:
    """The setup of one run.

    Attributes:
        engine: Configuration that is served.
        serve: Settings of its supervision.
        cgroups: Folders of the control groups that its engines join.
    """

    engine: EngineConfig
    serve: Serve
    cgroups: tuple[str, ...] = ()

    def with_flags(self, **flags: object) -> Setup:
        merged = tuple(sorted({**dict(self.engine.flags), **flags}.items()))
        return replace(self, engine=replace(self.engine, flags=merged))

    def with_serve(self, **settings: object) -> Setup:
        return replace(self, serve=replace(self.serve, **settings))  # type: ignore[arg-type]


@dataclass
class SupervisedEngine:
    """One supervised engine behind its front.

    Attributes:
        supervisor: Keeps it up.
        front: Its address.
        metrics: (`time.monotonic()`, the engine's metrics) at every healthy probe.
        processes: Processes of all its engines, as (id, time of creation).
    """

    supervisor: Supervisor
    front: Front
    metrics: list[tuple[float, Mapping[str, float]]] = field(default_factory=list)
    processes: set[tuple[int, float]] = field(default_factory=set)

    def record_metrics(self) -> None:
        """Append the supervisor's latest metrics, if they are new."""
        latest = self.supervisor.metrics
        if latest and (not self.metrics or latest is not self.metrics[-1][1]):
            self.metrics.append((time.monotonic(), latest))

    def record_processes(self) -> None:
        for pid in self.supervisor.pids:
            try:
                self.processes.add((pid, psutil.Process(pid).create_time()))
            except psutil.Error:
                continue

    def orphans(self) -> int:
        """Number of recorded processes that still live; to be called once everything was stopped."""
        return sum(_is_alive(pid, created) for pid, created in self.processes)


def _is_alive(pid: int, created: float) -> bool:
    try:
        process = psutil.Process(pid)
        return process.create_time() == created and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


@dataclass(frozen=True)
class Calibration:
    """Figures that are measured once and hold for all runs.

    Attributes:
        capacity_per_s: Answers per second through the front.
        fewest_blocks: Fewest blocks of KV cache that hold the longest sequence.
    """

    capacity_per_s: float
    fewest_blocks: float


class Testbed:
    """Everything that the runs of one certification share; a context manager.

    Args:
        plan: The plan, with the settings of `certify` and `serve` in its configuration.
        target: The configuration that is certified.
        make_launcher: Makes a launcher of its engines.
        folder: Folder for logs.
        say: Receives a line for every step.
    """

    def __init__(
        self, plan: Plan, target: Target, make_launcher: Callable[[], SupervisedLauncher], folder: Path,
        say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.plan, self.target, self.settings, self.say = plan, target, plan.config.certify, say
        self._folder = folder
        self.rate_per_s, self.fewest_blocks = 0.0, 0
        self._launchers = LauncherPool(make_launcher, 2 if self.settings.mitigations else 1)
        self.clients = ClientPool(plan.config.load.clients)
        self._stack = ExitStack()

    def __enter__(self) -> Testbed:
        self._stack.enter_context(self._launchers)
        self._stack.enter_context(self.clients)
        self.clients.begin()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def calibrate(self, calibration: Calibration) -> None:
        """Set the rate of arrivals and the smallest KV cache from what was measured first."""
        settings = self.settings
        self.rate_per_s = settings.rate_per_s or settings.rate_share * calibration.capacity_per_s
        self.fewest_blocks = int(calibration.fewest_blocks)

    def measure_calibration(self) -> Calibration:
        """Measure what the faults depend on."""
        with self.engine(self.setup(), "first") as engine:
            capacity = self.capacity_per_s(engine.front.endpoint)
            current = engine.supervisor.current
            assert current is not None
            block = int(current.engine.cache_settings()["block_size"])
            longest = current.engine.longest_sequence()
        # One more block than the longest sequence needs: vLLM keeps one for itself.
        return Calibration(capacity, float(-(-longest // block) + 1))

    def setup(self, **serve: object) -> Setup:
        """The configuration as it is, with some settings of its supervision replaced."""
        setup = Setup(self.target.config.engine, self.plan.config.serve)
        return setup.with_serve(standby=False, **serve)

    def load_request(self, timeout_s: float | None = None, request: RequestConfig | None = None) -> LoadRequest:
        config, workload = self.plan.config, self.plan.workload
        limit_s = self.settings.request_timeout_s if timeout_s is None else timeout_s
        return LoadRequest(
            workload, request or self.target.config.request, workload.max_tokens, limit_s, config.study.seed
        )  # fmt: skip

    @contextmanager
    def engine(self, setup: Setup, name: str) -> Iterator[SupervisedEngine]:
        """A supervised engine that is up and has compiled its kernels.

        Raises:
            EngineFailure, TransientFault: it does not start.
        """
        folder = self._folder / "runs" / name
        supervisor = Supervisor(setup.engine, self._launchers, setup.serve, folder, self.say, setup.cgroups)
        with ExitStack() as stack:
            sock = bind("127.0.0.1", 0)
            stack.callback(sock.close)
            front = stack.enter_context(Front(supervisor, setup.serve, dict(setup.engine.flags), None, sock))
            engine = SupervisedEngine(supervisor, front)
            supervisor.subscribe(engine.record_metrics)
            stack.enter_context(supervisor)
            self.warm_up(front.endpoint)
            if not supervisor.wait_for_standby(_STANDBY_S):
                raise TransientFault(f"no standby was ready within {_STANDBY_S:.0f} s")
            engine.record_processes()
            yield engine
            engine.record_processes()

    def warm_up(self, endpoint: Endpoint) -> None:
        """Have kernels compiled, for one request and for several at once."""
        request = replace(self.load_request(_WARMUP_S), max_tokens=_WARMUP_TOKENS)
        for count in (1, 4):
            with self.clients.loading(endpoint, request, processes=1) as load:
                load.follow(Burst(count))
                watch(load, lambda run=load, n=count: len(run.records) >= n, _WARMUP_S)  # type: ignore[misc]
            if all(r.error is not None for r in load.records):
                text = load.records[-1].text if load.records else "no answer"
                raise OptimizeError(f"the engine answers no request of this workload: {text[:200]}")

    def capacity_per_s(self, endpoint: Endpoint) -> float:
        """Answers per second under as many users as the engine runs sequences, at most 32, none of whom pauses.

        Measured for `capacity_s`, and beyond until there are as many answers as users: a slow engine has none before.
        """
        flags = dict(self.target.config.engine.flags)
        users = min(_USERS_MAX, int(flags.get("max_num_seqs") or _USERS_MAX))
        least_s = _CAPACITY_WARM_S + self.settings.capacity_s
        limit_s = least_s + self.settings.request_timeout_s
        with self.clients.loading(endpoint, self.load_request()) as load:
            load.follow(ClosedLoop(users), 0.0)
            watch(load, lambda: load.clock() >= least_s and _answers(load, load.clock()) >= users, limit_s)
            end_s = load.clock()
        answers = _answers(load, end_s)
        if not answers:
            raise OptimizeError(f"no answer within {limit_s:.0f} s of load: this configuration cannot be certified")
        return answers / (end_s - _CAPACITY_WARM_S)


def _answers(load: LoadRun, end_s: float) -> int:
    return sum(record.error is None and _CAPACITY_WARM_S <= record.done_s < end_s for record in load.records)


def watch(load: LoadRun, done: Callable[[], bool], limit_s: float) -> bool:
    """Collect the clients' reports until `done`; False if second `limit_s` of the load comes first."""
    while True:
        load.update()
        if done():
            return True
        if load.clock() >= limit_s:
            return False
        time.sleep(_POLL_S)


def watch_recovery(
    load: LoadRun, begin_s: float, limit_s: float, settings: Certify, not_before_s: float = 0.0
) -> float | None:
    """Keep the load up until P99 is normal again.

    Args:
        load: The load.
        begin_s: Second of the load from which recovery counts: of the fault, or of the end of a peak.
        limit_s: P99 that still counts as normal, in seconds.
        settings: Lengths of windows and of the calm that proves a recovery; `recovery_max_s` bounds the wait.
        not_before_s: Second of the load before which nothing counts as recovered.

    Returns:
        Seconds from `begin_s` to the recovery; None after `recovery_max_s`.
    """
    recovery_s: float | None = None

    def recovered() -> bool:
        nonlocal recovery_s
        if load.clock() < not_before_s:
            return False
        until_s = load.oldest_due_s()
        recovery_s = recovered_s(load.records, begin_s, until_s, limit_s, settings.window_s, settings.calm_s)
        return recovery_s is not None

    watch(load, recovered, begin_s + settings.recovery_max_s)
    return recovery_s
