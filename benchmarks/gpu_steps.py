"""The steps of `benchmarks.gpu_check`, each in a process of its own: python -m benchmarks.gpu_steps STEP MODEL FOLDER.

A step prints what it learns as lines of JSON, at once; all else goes to its log. The first one, which looks at what is
installed, is `benchmarks.gpu_stack`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.gpu_stack import attempt, emit, run
from objectives import Measurement
from optimize.config.compose import configuration
from optimize.engine.base import EngineConfig, RequestConfig
from optimize.engine.http_client import client_of
from optimize.engine.pool import EnginePool, Lease
from optimize.engine.vllm import VllmLauncher
from optimize.hardware import gpus
from optimize.ledger import Ledger, study_folder
from optimize.load.arrivals import ClosedLoop
from optimize.load.client_pool import ClientPool
from optimize.load.generator import Traffic, run_load
from optimize.outcome import State
from optimize.plan import Plan, make_plan
from optimize.quantize.calibration import calibration_of
from optimize.quantize.checkpoints import Checkpoints, make_checkpoints

GIB = 2**30
RECIPES = ("fp8", "fp8_tensor", "int8", "int4", "mixed8")
USERS = (64, 256, 1024)
BATCHES = (1024, 1024, 64)
"""The first is compiled, the second finds that, as does the engine for many users; the third is compiled anew."""
_KERNELS: Mapping[str, Any] = {"max_num_seqs": 64, "enforce_eager": True}
"""Flags where kernels are looked at alone: compiling and capturing graphs would take a minute for each."""
_PROMPT, _TOKENS = "The old dog sees a house.", 16
_TIMEOUT_S = 60.0
_FIGURES = ("qps", "p50_latency_s", "p99_latency_s", "ttft_p99_s", "output_tokens_per_s")
_WORDS = (
    "+study=chat", "study.name=gpu_check", "constraints=none", "space=serving", "objectives=[qps,p99_latency_s]",
    "scenario.weights={qps: 1}", "load.arrivals.users=64", "load.warmup_requests=16", "load.warmup_settle_s=3",
    "load.window_min_s=4", "load.window_max_s=10", "load.precision={}",
)  # fmt: skip
_STUDY, _LOOK_S = "gpu_check_smoke", 1.0
_SHORT = (
    "+study=smoke", "model=demo", f"study.name={_STUDY}", "study.fresh=true", "study.trials=2", "confirm.candidates=0",
    "load.quiet_wait_s=null", "load.guard.repeats=0", "load.warmup_settle_s=3",
)  # fmt: skip


def devices() -> dict[str, Any]:
    """Memory in use on each GPU and the programs there, whoever they are."""
    seen = gpus()
    used = [round((gpu.total_bytes - gpu.free_bytes) / GIB, 2) for gpu in seen]
    return {"used_gib": used, "programs": sum(len(gpu.programs) for gpu in seen)} if seen else {}


@dataclass(frozen=True)
class Bench:
    """What the steps share.

    Attributes:
        model: Choice of the group `model`.
        folder: For logs, results of studies and checkpoints.
    """

    model: str
    folder: Path

    @cached_property
    def plan(self) -> Plan:
        return make_plan(configuration([*_WORDS, f"model={self.model}", *self.folders]))

    @property
    def folders(self) -> list[str]:
        return [f"output_dir={self.folder / 'mlruns'}", f"cache_dir={self.folder / 'cache'}"]

    def make(self, *recipes: str) -> Checkpoints:
        """The checkpoints of recipes, made together where there are none: llm-compressor takes long to import."""
        config, calibration = self.plan.config, calibration_of(self.plan.workload)
        needed = [config.recipes[recipe] for recipe in recipes]
        return make_checkpoints(config.model, needed, Path(config.cache_dir), _log, calibration)

    def engine(self, recipe: str = "published", **flags: Any) -> EngineConfig:
        """The engine of a recipe.

        Raises:
            EngineFailure: its checkpoint cannot be made.
        """
        plan, needed = self.plan, self.plan.config.recipes[recipe]
        checkpoints, broken = self.make(recipe)
        if recipe in broken:
            raise broken[recipe]
        dtype = {} if needed.dtype == "auto" else {"dtype": needed.dtype}
        settings = {**dtype, "max_logprobs": 64, **plan.config.model.flags, **needed.flags, **flags}
        return EngineConfig(checkpoints[recipe], recipe, tuple(sorted(settings.items())))

    def pool(self, start: str = "auto") -> EnginePool:
        assert isinstance(self.plan.launcher, VllmLauncher)
        return EnginePool(replace(self.plan.launcher, start=start), self.folder / "engines")


@contextmanager
def started(pool: EnginePool, config: EngineConfig, **what: Any) -> Iterator[Lease]:
    """An engine; the phases of its start are facts of the step, as is what it occupies of the GPU."""
    began = time.monotonic()
    with pool.lease(config) as lease:
        phases = {name: round(seconds, 2) for name, seconds in pool.start_seconds.items()}
        warm = getattr(lease.engine, "warm", None)
        emit(**what, ready_s=round(time.monotonic() - began, 2), warm=warm, **phases, **devices())
        yield lease
    pool.close()


def ask(lease: Lease, beams: int = 1) -> dict[str, Any]:
    """One answer of an engine, and how long it took."""
    endpoint = lease.engine.endpoint
    body: dict[str, Any] = {"model": endpoint.model, "prompt": _PROMPT, "max_tokens": _TOKENS, "temperature": 0}
    body["ignore_eos"] = True  # made-up weights end anywhere
    if beams > 1:
        body |= {"use_beam_search": True, "n": beams}
    began = time.monotonic()
    with client_of(endpoint, _TIMEOUT_S) as http:
        answer = http.post(endpoint.path("/completions"), json=body).raise_for_status().json()
    return {"beams": beams, "answer_s": round(time.monotonic() - began, 3), "text": answer["choices"][0]["text"][:60]}


# --- the steps ------------------------------------------------------------------------------------------------------


def starts(bench: Bench) -> None:
    """The demo, warm three times, once killed, once cold: how long, and what is left on the GPU."""
    demo = Bench("demo", bench.folder)
    emit(what="before", **devices())
    for kind, look in (("warm", _warm), ("cold", _cold)):  # a machine may do the one without the other
        with attempt(kind):
            look(demo)


def _warm(demo: Bench) -> None:
    with demo.pool("warm") as pool:
        for number in range(3):
            with started(pool, demo.engine(), what=f"warm {number + 1}"):
                pass
            emit(what="stopped", **devices())
        with pool.lease(demo.engine()) as lease:
            os.kill(lease.engine.pids[-1], signal.SIGKILL)
        began = time.monotonic()
        pool.close()
        emit(what="one process killed", stop_s=round(time.monotonic() - began, 2), **devices())


def _cold(demo: Bench) -> None:
    with demo.pool("cold") as pool:
        with started(pool, demo.engine(), what="cold"):
            pass
        emit(what="stopped", **devices())


def model(bench: Bench) -> None:
    """The model with graphs, twice at one batch size and once at another: seconds of the start, and memory by parts."""
    with bench.pool() as pool:
        for batch in BATCHES:
            with started(pool, bench.engine(max_num_seqs=batch), what="start", batch=batch) as lease:
                ask(lease)
                parts = lease.engine.memory()
                assert parts is not None
                names = ("weights", "kv_pool", "activations", "graphs", "context", "device")
                sizes = {name: getattr(parts, f"{name}_bytes") for name in names}
                gib = {f"{name}_gib": round(size / GIB, 3) for name, size in sizes.items() if size is not None}
                emit(what="memory", batch=batch, **gib)


def recipes(bench: Bench) -> None:
    """A greedy and a beam request to each quantization."""
    with bench.pool() as pool:  # which imports vLLM meanwhile
        with attempt("checkpoints"):
            began = time.monotonic()
            checkpoints, broken = bench.make(*RECIPES)
            seconds = round(time.monotonic() - began, 1)
            emit(what="checkpoints", made=sorted(checkpoints), broken=sorted(broken), ready_s=seconds)
        for recipe in RECIPES:
            with attempt(recipe), started(pool, bench.engine(recipe, **_KERNELS), what=recipe) as lease:
                for beams in (1, 4):
                    emit(what=recipe, **ask(lease, beams))


def cache(bench: Bench) -> None:
    """A KV cache of 8 bits."""
    config = bench.engine(kv_cache_dtype="fp8", **_KERNELS)
    with bench.pool() as pool, started(pool, config, what="fp8 cache") as lease:
        emit(what="fp8 cache", **ask(lease))


def servers(bench: Bench) -> None:
    """Two API servers before one engine."""
    config = bench.engine(api_server_count=2, **_KERNELS)
    with bench.pool() as pool, started(pool, config, what="two servers") as lease:
        emit(what="two servers", **ask(lease))


def study(bench: Bench) -> None:
    """A short study of the demo, which compresses it first: each of its trials once it has ended."""
    with subprocess.Popen([sys.executable, "-m", "optimize", *_SHORT, *bench.folders], stdout=sys.stderr) as process:
        shown = set[int]()
        while (code := process.poll()) is None:
            show_trials(bench, shown)
            time.sleep(_LOOK_S)
    show_trials(bench, shown)
    if code:
        raise SystemExit(code)


def show_trials(bench: Bench, shown: set[int]) -> None:
    """Show the trials of the short study that have ended, except those whose numbers `shown` holds."""
    for record in Ledger(study_folder(str(bench.folder / "mlruns"), _STUDY)).records():
        if record.state is not State.RUNNING and record.number not in shown:
            shown.add(record.number)
            figures = {name: round(e.value, 3) for name, e in record.estimates.items() if name in _FIGURES}
            emit(what=f"trial {record.number}", state=str(record.state), params=record.params, **figures)


def users(bench: Bench) -> None:
    """Throughput and latency with many users."""
    plan, senders = bench.plan, max(1, len(os.sched_getaffinity(0)) // 4)
    config = bench.engine(max_num_seqs=BATCHES[0])
    with bench.pool() as pool, started(pool, config, what="start") as lease, ClientPool(senders) as clients:
        for number in USERS:
            traffic = Traffic(plan.workload, RequestConfig(), ClosedLoop(users=number), plan.config.load)
            result = run_load(clients, lease.engine, traffic)
            seen = Measurement(result.records, result.window_start_s, result.window_end_s, {})
            estimates = {name: plan.metrics[name].estimate(seen) for name in _FIGURES}
            figures = {name: round(e.value, 4) for name, e in estimates.items() if e is not None}
            emit(what="load", users=number, client=result.audit.in_words(), **figures)


STEPS: Mapping[str, Callable[[Bench], None]] = {
    step.__name__: step for step in (starts, model, recipes, cache, servers, study, users)
}


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    name, choice, folder = sys.argv[1:]
    run(lambda: STEPS[name](Bench(choice, Path(folder))))


if __name__ == "__main__":
    main()
