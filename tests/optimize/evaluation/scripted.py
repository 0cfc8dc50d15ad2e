"""An evaluator in virtual time: its clients, engines and telemetry follow a script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from objectives import Objective
from objectives.latency import LatencyQuantile
from objectives.throughput import RequestRate
from optimize.config import measuring
from optimize.config.measuring import Guard, Load
from optimize.config.schema import Model, Recipe, StudyConfig
from optimize.decision.constraints import Limit
from optimize.decision.futility import Futility
from optimize.engine.base import EngineConfig, Launcher, RequestConfig, TrialConfig
from optimize.engine.pool import EnginePool
from optimize.errors import OptimizeError
from optimize.evaluation.answers import AnswerStore
from optimize.evaluation.evaluator import Evaluator
from optimize.evaluation.references import References, ask
from optimize.ledger import Ledger, TrialRecord
from optimize.load.arrivals import Arrivals, ClosedLoop
from optimize.outcome import Evaluation, Role
from optimize.plan import Plan
from optimize.search.space import SearchSpace
from optimize.testing.scripted_engine import ScriptedLauncher, ScriptedTelemetry
from optimize.testing.scripted_load import ScriptedAnswer, ScriptedClients, ScriptedRequest, Server, VirtualClock
from optimize.workload.workload import Workload

ROWS = 60
WORKLOAD = Workload(
    "w", [f"prompt {i}" for i in range(ROWS)], [f"the old dog sees house {i}" for i in range(ROWS)], max_tokens=20
)
METRICS: Mapping[str, Objective] = {"qps": RequestRate(), "p99_latency_s": LatencyQuantile(0.99)}
SPACE = SearchSpace({}, Model("m", "model"), {"published": Recipe("published")}, Recipe("published"))
CONFIG = TrialConfig(EngineConfig("model", "fp16", (("max_num_seqs", 8),)), RequestConfig())


def steady(request: ScriptedRequest) -> ScriptedAnswer:
    return ScriptedAnswer(0.1, text=WORKLOAD.references[request.row])


class ScriptedWatch:
    """A machine that is disturbed in the same way throughout.

    Args:
        disturbances: In words.
    """

    def __init__(self, disturbances: Sequence[str]) -> None:
        self._disturbances = disturbances

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def disturbances(self, guard: Guard) -> list[str]:
        return list(self._disturbances)


class Rig:
    """The parts of one study's evaluations.

    Args:
        folder: The study's folder.
        server: Answers the requests.
        metrics: The plan's metrics.
        arrivals: When requests are due.
        guard: When a measurement is rejected.
        load: Further fields of `Load`.

    Attributes:
        phases: Names of all phases so far.
        starts_among: What disturbs the machine while an engine starts, in words.
    """

    def __init__(
        self, folder: Path, server: Server = steady, metrics: Mapping[str, Objective] = METRICS,
        arrivals: Arrivals | None = None, guard: Guard | None = None, load: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.clock, self.phases = VirtualClock(), list[str]()
        self.clients = ScriptedClients(self.clock, server)
        self.launcher: Launcher = ScriptedLauncher(self.clock)
        self.telemetry = ScriptedTelemetry(self.clock)
        self.answers: AnswerStore | None = None
        self.references: References | None = None
        self.workload = WORKLOAD
        self.limits: list[Limit] = []
        self.starts_among: list[str] = []
        self.ledger = Ledger(folder / "study")
        settings: dict[str, Any] = {
            "warmup_s": 0.5, "warmup_requests": 4, "window_min_s": 4.0, "window_requests": 20, "window_max_s": 30.0,
            "guard": guard or Guard(repeats=1), **(load or {}),
        }  # fmt: skip
        self._config = StudyConfig(load=Load(arrivals=None, **settings), cache_dir=str(folder / "cache"), engine={})
        self._metrics, self._arrivals = metrics, arrivals or ClosedLoop(users=4)
        self._pool: EnginePool | None = None

    def ask(self) -> References:
        """Have the unquantized model answer for reference."""
        return ask(self.plan, self.pool, self.clients, self.phases.append, self.clock)

    @property
    def engines(self) -> ScriptedLauncher:
        assert isinstance(self.launcher, ScriptedLauncher)
        return self.launcher

    @property
    def pool(self) -> EnginePool:
        self._pool = self._pool or EnginePool(self.launcher, self.ledger.folder / "engines")
        return self._pool

    @property
    def plan(self) -> Plan:
        return Plan(
            config=self._config, space=SPACE, objectives=self._metrics, metrics=self._metrics,
            limits=self.limits, launcher=self.launcher, arrivals=self._arrivals, workload=self.workload,
            folder=self.ledger.folder, signature={},
            reference=measuring.WORKLOAD if self.workload.references else measuring.BASELINE,
        )  # fmt: skip

    def watch(self) -> ScriptedWatch:
        return ScriptedWatch(self.starts_among)

    def fail_starts(self, **failures: OptimizeError) -> None:
        """Have the engines of some quantizations fail at their start."""
        self.launcher = ScriptedLauncher(self.clock, failures=failures)

    def evaluate(
        self, config: TrialConfig = CONFIG, record: TrialRecord | None = None, futility: Futility | None = None
    ) -> Evaluation:
        evaluator = Evaluator(
            self.plan, self.pool, self.clients, self.ledger, self.phases.append, self.answers, self.clock,
            self.telemetry, self.watch, self.references,
        )  # fmt: skip
        return evaluator.evaluate(config, record or trial(), lambda: self.phases.append("held"), futility)


def trial(number: int = 0, **fields: Any) -> TrialRecord:
    """A record that is about to be measured."""
    return TrialRecord("s", number, fields.pop("role", Role.SEARCH), {}, {}, {}, **fields)
