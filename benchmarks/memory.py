"""Do the parts of a configuration's memory add up to the measured growth of the engine's processes?

Usage: python -m benchmarks.memory [--repeats 3]

Each configuration of the model of a billion random weights is started and loaded; its parts (weights as held, KV pool,
peak activations) are read off the worker, and the memory of the whole process tree is sampled from outside meanwhile.
What an engine holds beside a model is that of one with next to no model, KV cache or activations, seen the same way.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from benchmarks.common import RESULTS, mean_interval, provenance, require_quiet
from objectives import Measurement, MemoryParts
from objectives.memory import kv_in_use
from optimize.config.compose import configuration
from optimize.config.schema import Model, RandomWeights
from optimize.engine.base import EngineConfig, RequestConfig
from optimize.engine.vllm import VllmLauncher
from optimize.engine.vllm_engine import VllmEngine
from optimize.evaluation.telemetry import Telemetry
from optimize.load.arrivals import ClosedLoop
from optimize.load.client_pool import ClientPool
from optimize.load.generator import Traffic, run_load
from optimize.model.random_weights import materialized
from optimize.plan import Plan, make_plan
from optimize.quantize.calibration import calibration_of
from optimize.quantize.checkpoints import make_checkpoints

MIB, GIB = 2**20, 2**30
Flags = Mapping[str, Any]
CASES: Mapping[str, tuple[str, Flags]] = {
    "BF16": ("fp16", {"dtype": "bfloat16"}),
    "BF16, KV pool of 256 MiB": ("fp16", {"dtype": "bfloat16", "kv_cache_memory_bytes": 256 * MIB}),
    "INT8": ("int8", {}),
    "INT8, KV pool of 512 MiB, 512 tokens per step": (
        "int8", {"kv_cache_memory_bytes": 512 * MIB, "max_num_batched_tokens": 512},
    ),
    "INT4": ("int4", {}),
    "INT4, KV pool of 256 MiB, 16 sequences at once": (
        "int4", {"kv_cache_memory_bytes": 256 * MIB, "max_num_seqs": 16},
    ),
    "MIXED8": ("mixed8", {}),
}  # fmt: skip
_BITS = {"BF16": 16, "INT8": 8, "MIXED8": 8, "INT4": 4}
USERS = 4
_SAMPLE_S = 0.1
_NOTHING = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
}
_OVERRIDES = [
    "+study=bulk", "study.name=memory", "model=llama_1b_random", "constraints=none", "objectives=[qps,memory_bytes]",
    "scenario.weights={qps: 1}", "recipes.mixed8.calibration_samples=4",
    "workload.prompt_tokens={_target_: optimize.workload.lengths.Fixed, tokens: 48}",
    "workload.output_tokens={_target_: optimize.workload.lengths.Fixed, tokens: 4}",
    "load.window_min_s=1", "load.window_requests=4", "load.window_max_s=15", "load.warmup_s=0",
    "load.warmup_requests=4", "load.warmup_max_s=4", "load.precision={}",
    "load.drain_max_s=120", "load.request_timeout_s=300",
]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Seen:
    """One engine under load.

    Attributes:
        parts: As the worker tells them.
        kv_in_use_bytes: Peak of what requests held.
        peak_bytes: Highest proportional set size of the process tree, sampled from outside.
    """

    parts: MemoryParts
    kv_in_use_bytes: float
    peak_bytes: int

    @property
    def sum_bytes(self) -> int:
        """All parts that have memory behind them."""
        assert self.parts.activations_bytes is not None and self.parts.kv_resident_bytes is not None
        return self.parts.weights_bytes + self.parts.kv_resident_bytes + self.parts.activations_bytes

    @property
    def needed_bytes(self) -> float:
        return self.parts.weights_bytes + self.kv_in_use_bytes + (self.parts.activations_bytes or 0)


def _held(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_full_info().pss)
    except psutil.Error:
        return 0


@contextmanager
def _sampled(engine: VllmEngine) -> Iterator[list[int]]:
    """The tree's memory, looked at now and then."""
    readings: list[int] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(_SAMPLE_S):
            readings.append(sum(_held(pid) for pid in engine.pids))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield readings
    finally:
        stop.set()
        thread.join()


def observe(plan: Plan, launcher: VllmLauncher, config: EngineConfig, clients: ClientPool) -> Seen:
    """Start an engine, load it, and read its memory from inside and outside."""
    with TemporaryDirectory() as folder:
        engine = launcher.launch(config, Path(folder) / "log")
        try:
            engine.reset()
            traffic = Traffic(plan.workload, RequestConfig(), ClosedLoop(users=USERS), plan.config.load)
            with _sampled(engine) as held, Telemetry(engine).sampling() as telemetry:
                loaded = run_load(clients, engine, traffic)
            series, parts = telemetry.series(loaded.began_at), engine.memory()
        finally:
            engine.stop()
    measured = Measurement(loaded.records, loaded.window_start_s, loaded.window_end_s, {}, series, parts)
    use = kv_in_use(measured)
    assert use is not None
    return Seen(parts, use.value, max(held))


def parameters(config: Mapping[str, Any]) -> int:
    """Number of weights of a Llama's shape."""
    hidden, inner, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    queries, keys = (config[n] * config["head_dim"] for n in ("num_attention_heads", "num_key_value_heads"))
    layer = hidden * (2 * queries + 2 * keys + 3 * inner + 2)
    ends = vocabulary * hidden * (1 if config.get("tie_word_embeddings") else 2)
    return int(config["num_hidden_layers"] * layer + ends + hidden)


def predicted_bytes(config: Mapping[str, Any], bits: int) -> float:
    """Bytes that the bits alone predict for a shape: `bits` per weight of the decoder's matrices, 16 for all others."""
    ends = 2 * config["vocab_size"] * config["hidden_size"]
    norms = (2 * config["num_hidden_layers"] + 1) * config["hidden_size"]
    matrices = parameters(config) - ends - norms
    return float(matrices * bits / 8 + 2 * (ends + norms))


def _mib(values: Sequence[float]) -> str:
    """Mean, with its interval where the repeats differ visibly."""
    mean, low, high = (v / MIB for v in mean_interval(values))
    return f"{mean:.0f}" if len(values) < 2 or high - low < 1 else f"{mean:.0f} [{low:.0f}, {high:.0f}]"


def report(readings: Mapping[str, Sequence[Seen]], beside: Sequence[Seen]) -> str:
    """The table in Markdown, in MiB."""
    base = statistics.fmean(s.peak_bytes - s.sum_bytes for s in beside)
    lines = [
        "| configuration | checkpoint | weights held | KV pool reserved | of it in use | peak activations | needed | "
        "parts held, sum | growth seen | sum : growth |",
        "|---" * 10 + "|",
    ]
    for name, runs in readings.items():
        columns: list[Sequence[float]] = [
            [r.parts.checkpoint_bytes for r in runs], [r.parts.weights_bytes for r in runs],
            [r.parts.kv_pool_bytes for r in runs], [r.kv_in_use_bytes for r in runs],
            [r.parts.activations_bytes or 0 for r in runs], [r.needed_bytes for r in runs],
            [r.sum_bytes for r in runs], [r.peak_bytes - base for r in runs],
        ]  # fmt: skip
        ratio = mean_interval([r.sum_bytes / (r.peak_bytes - base) for r in runs])
        shown = f"{ratio[0]:.3f}" + (f" [{ratio[1]:.3f}, {ratio[2]:.3f}]" if len(runs) > 1 else "")
        lines.append(f"| {name} | " + " | ".join(_mib(c) for c in columns) + f" | {shown} |")
    lines += ["", f"An engine beside its model: {_mib([s.peak_bytes - s.sum_bytes for s in beside])} MiB."]
    return "\n".join(lines)


def weights_table(config: Mapping[str, Any], readings: Mapping[str, Sequence[Seen]]) -> str:
    """What the bits predict beside what is there, in MiB."""
    lines = [
        "| recipe | its bits predict | checkpoint | checkpoint : predicted | held by the engine | held : predicted |",
        "|---|---|---|---|---|---|",
    ]
    for name, bits in _BITS.items():
        if name not in readings:
            continue
        predicted, parts = predicted_bytes(config, bits), readings[name][0].parts
        lines.append(
            f"| {name} | {predicted / MIB:.0f} | {parts.checkpoint_bytes / MIB:.0f} | "
            f"{parts.checkpoint_bytes / predicted:.3f} | {parts.weights_bytes / MIB:.0f} | "
            f"{parts.weights_bytes / predicted:.3f} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cases", type=int, default=len(CASES), help="number of cases to run, from the first")
    args = parser.parse_args(arguments)
    require_quiet()
    plan = make_plan(configuration(_OVERRIDES))
    model, cache = plan.config.model, Path(plan.config.cache_dir)
    cases = dict(list(CASES.items())[: args.cases])
    needed = [plan.config.recipes[r] for r in dict.fromkeys(recipe for recipe, _ in cases.values())]
    checkpoints, broken = make_checkpoints(model, needed, cache, print, calibration_of(plan.workload))
    assert not broken, broken
    nothing = materialized(_without_a_model(model), cache, print)
    launcher = VllmLauncher(env=plan.config.hardware.env, start="warm")
    launcher.prepare()
    readings: dict[str, list[Seen]] = {name: [] for name in cases}
    beside: list[Seen] = []
    try:
        with ClientPool() as clients:
            for _ in range(args.repeats):
                small = {**model.flags, "kv_cache_memory_bytes": 4 * MIB, "dtype": "bfloat16"}
                beside.append(
                    observe(plan, launcher, EngineConfig(nothing.path, "fp16", tuple(small.items())), clients)
                )
                print("beside", beside[-1], flush=True)
                for name, (recipe, flags) in cases.items():
                    settings = {"dtype": plan.config.recipes[recipe].dtype, **model.flags, **flags}
                    config = EngineConfig(checkpoints[recipe], recipe, tuple(sorted(settings.items())))
                    readings[name].append(observe(plan, launcher, config, clients))
                    print(name, readings[name][-1], flush=True)
    finally:
        launcher.close()
    shape = model.random.config if model.random else {}
    head = "# Memory, part by part\n\n" + provenance(f"python -m benchmarks.memory --repeats {args.repeats}")
    what = (
        f"A Llama of {parameters(shape) / 1e9:.2f} billion random weights (`model=llama_1b_random`), {USERS} users, "
        f"prompts of 48 tokens, answers of 4. All in MiB; means over {args.repeats} engines each, in turns, with "
        "their interval. Weights, KV pool and activations are told by vLLM's worker "
        "(`optimize/engine/worker_extension.py`); "
        f"growth is the highest proportional set size of the process tree, sampled from outside every {_SAMPLE_S:g} "
        "s, less that of an engine with next to no model. What is needed counts the KV cache in use; what is held "
        "counts the whole pool, which vLLM fills with zeros at its start. What grew beside the parts is what a load "
        "leaves with the process, holes in the heap among it; it was not traced further."
    )
    text = "\n\n".join([head, what, report(readings, beside), "## Weights", weights_table(shape, readings)])
    print(text)
    (RESULTS / "memory.md").write_text(text + "\n", encoding="utf-8")


def _without_a_model(model: Model) -> Model:
    """The same vocabulary, and next to nothing behind it."""
    assert model.random is not None
    shape: RandomWeights = dataclasses.replace(model.random, config={**model.random.config, **_NOTHING})
    return Model("next_to_nothing", "", model.flags, shape)


if __name__ == "__main__":
    main()
