"""What every run of a certification stands on: a supervised engine behind a front, and a load through it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from optimize.config.certify import Certify
from optimize.config.serve import Serve
from optimize.engine.base import Endpoint, EngineConfig, RequestConfig
from optimize.engine.vllm import VllmLauncher
from optimize.errors import OptimizeError, TransientFault
from optimize.load.arrivals import Burst, ClosedLoop
from optimize.load.client_pool import ClientPool, LoadRequest, LoadRun
from optimize.plan import Plan
from optimize.serve.front import Front, bind
from optimize.serve.launchers import Starter, Starters
from optimize.serve.supervisor import Supervisor
from optimize.study.target import Target

_FIRST_TOKENS, _FIRST_S = 4, 120.0
_STANDBY_S = 180.0
_LOOK_S = 0.05
_WARM_S, _MOST_USERS = 2.0, 32


@dataclass(frozen=True)
class Setup:
    """How a run is set up.

    Attributes:
        engine: What is served.
        serve: How it is supervised.
        cgroups: Control groups that engines join.
    """

    engine: EngineConfig
    serve: Serve
    cgroups: tuple[str, ...] = ()

    def with_flags(self, **flags: object) -> Setup:
        merged = tuple(sorted({**dict(self.engine.flags), **flags}.items()))
        return replace(self, engine=replace(self.engine, flags=merged))


@dataclass
class SupervisedEngine:
    """One supervised engine behind its front.

    Attributes:
        supervisor: Keeps it up.
        front: Its address.
        figures: (unix time, what the engine said of itself) at every probe that was answered.
        seen: Processes of all its engines, as (id, time of creation).
    """

    supervisor: Supervisor
    front: Front
    figures: list[tuple[float, Mapping[str, float]]] = field(default_factory=list)
    seen: set[tuple[int, float]] = field(default_factory=set)

    def note(self) -> None:
        """Take down what the supervisor knows at this moment."""
        figures = self.supervisor.figures
        if figures and (not self.figures or figures is not self.figures[-1][1]):
            self.figures.append((time.time(), figures))

    def note_processes(self) -> None:
        for pid in self.supervisor.pids:
            try:
                self.seen.add((pid, psutil.Process(pid).create_time()))
            except psutil.Error:
                continue

    def orphans(self) -> int:
        """How many of the processes ever seen still live; to be asked once everything was stopped."""
        return sum(_lives(pid, created) for pid, created in self.seen)


def _lives(pid: int, created: float) -> bool:
    try:
        process = psutil.Process(pid)
        return process.create_time() == created and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


class Testbed:
    """What all runs of one certification share; a context manager.

    Args:
        plan: Workload and signature.
        chosen: The configuration that is certified.
        serve: How it is supervised.
        settings: What it is put through.
        make: Makes a launcher.
        folder: For logs.
        say: Told of every step.
    """

    def __init__(
        self, plan: Plan, chosen: Target, serve: Serve, settings: Certify, make: Callable[[], Starter], folder: Path,
        say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.plan, self.chosen, self.settings, self.say = plan, chosen, settings, say
        self._folder, self._serve = folder, serve
        self._cgroups: tuple[str, ...] = ()
        self.rate_per_s, self.fewest_blocks = 0.0, 0
        self._make = make
        self.starters = Starters(self._starter, 2 if settings.mitigations else 1)
        self.clients = ClientPool(plan.config.load.clients)
        self._held = ExitStack()

    def __enter__(self) -> Testbed:
        self._held.enter_context(self.starters)
        self._held.enter_context(self.clients)
        self.clients.begin()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def know(self, known: Mapping[str, float]) -> None:
        """Take in what was measured first; see `measure_first`."""
        settings = self.settings
        self.rate_per_s = settings.rate_per_s or settings.rate_share * known["capacity_per_s"]
        self.fewest_blocks = int(known["fewest_blocks"])

    def measure_first(self) -> dict[str, float]:
        """What faults need to know: answers per second through the front, and the fewest blocks of KV cache."""
        with self.engine(self.arrangement(), "first") as engine:
            capacity = self.capacity_per_s(engine.front.endpoint)
            current = engine.supervisor.current
            assert current is not None
            block = current.engine.memory().kv_block_tokens
            longest = current.engine.effective(["max_model_len"]).get("max_model_len", block)
        # One more block than the longest sequence: vLLM keeps one for itself.
        return {"capacity_per_s": capacity, "fewest_blocks": float(-(-int(longest) // block) + 1)}

    def _starter(self) -> Starter:
        made = self._make()
        if isinstance(made, VllmLauncher):
            made.cgroups = list(self._cgroups)
        return made

    def arrangement(self, **serve: object) -> Setup:
        """The configuration as it is, with some settings of the supervision replaced."""
        return Setup(self.chosen.config.engine, replace(self._serve, standby=False, **serve))  # type: ignore[arg-type]

    def asked(self, timeout_s: float | None = None, request: RequestConfig | None = None) -> LoadRequest:
        config, workload = self.plan.config, self.plan.workload
        limit_s = self.settings.request_timeout_s if timeout_s is None else timeout_s
        return LoadRequest(
            workload, request or self.chosen.config.request, workload.max_tokens, limit_s, config.study.seed
        )  # fmt: skip

    @contextmanager
    def engine(self, arrangement: Setup, name: str) -> Iterator[SupervisedEngine]:
        """A supervised engine, up, and its kernels compiled.

        Raises:
            EngineFailure, TransientFault: it does not start.
        """
        self._confine(arrangement.cgroups)
        flags, serve = dict(arrangement.engine.flags), arrangement.serve
        supervisor = Supervisor(arrangement.engine, self.starters, serve, self._folder / "runs" / name, self.say)
        with ExitStack() as held:
            sock = bind("127.0.0.1", 0)
            held.callback(sock.close)
            front = held.enter_context(Front(supervisor, serve, flags, None, sock))
            engine = SupervisedEngine(supervisor, front)
            supervisor.subscribe(engine.note)
            held.enter_context(supervisor)
            self.first_answers(front.endpoint)
            if not supervisor.wait_for_standby(_STANDBY_S):
                raise TransientFault(f"no standby was ready within {_STANDBY_S:.0f} s")
            engine.note_processes()
            yield engine
            engine.note_processes()

    def _confine(self, cgroups: tuple[str, ...]) -> None:
        self._cgroups = cgroups
        for starter in self.starters.all:
            if isinstance(starter, VllmLauncher):
                starter.cgroups = list(cgroups)

    def first_answers(self, endpoint: Endpoint) -> None:
        """Have kernels compiled, for one request and for several at once."""
        asked = replace(self.asked(_FIRST_S), max_tokens=_FIRST_TOKENS)
        for together in (1, 4):
            with self.clients.loading(endpoint, asked, processes=1) as flow:
                flow.follow(Burst(together))
                watch(flow, lambda f=flow, n=together: len(f.records) >= n, _FIRST_S)  # type: ignore[misc]
            if all(r.error is not None for r in flow.records):
                text = flow.records[-1].text if flow.records else "no answer"
                raise OptimizeError(f"the engine answers no request of this workload: {text[:200]}")

    def capacity_per_s(self, endpoint: Endpoint) -> float:
        """Answers per second with as many users as the engine runs sequences, up to 32, none of whom waits."""
        users = min(_MOST_USERS, int(dict(self.chosen.config.engine.flags).get("max_num_seqs") or _MOST_USERS))
        with self.clients.loading(endpoint, self.asked()) as flow:
            flow.follow(ClosedLoop(users), 0.0)
            end_s = _WARM_S + self.settings.capacity_s
            watch(flow, lambda: flow.clock() >= end_s, end_s)
        answers = sum(r.error is None and _WARM_S <= r.done_s < end_s for r in flow.records)
        if not answers:
            raise OptimizeError(f"no answer within {end_s:.0f} s of load: this configuration cannot be certified")
        return answers / self.settings.capacity_s


def watch(flow: LoadRun, done: Callable[[], bool], limit_s: float) -> bool:
    """Take in what the clients report until `done`; False if second `limit_s` of the load comes first."""
    while True:
        flow.update()
        if done():
            return True
        if flow.clock() >= limit_s:
            return False
        time.sleep(_LOOK_S)
