"""Tables of LLMSYS-HPOBench as problems: configurations of vLLM and SGLang that others have measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from benchmarks.searching.measured_table import Source, TableProblem
from benchmarks.searching.problem import Objective, Point
from objectives import Direction

DATA = Path(__file__).parents[1] / "data" / "llmsys-hpobench"
_NO = "disabled"


def vllm(learnable: bool = False) -> TableProblem:
    """537 configurations of vLLM, with 16 knobs.

    Of the 22 columns of knobs, the numbers of GPUs never change, speculation has one column more than it needs, and
    neither the all-reduce nor the swap space can matter to one GPU without parallel sampling.

    Args:
        learnable: Leave out the two objectives of which next to nothing is explained within a method of speculation:
            there, better configurations than others exist by the forest's opinion alone.
    """
    table = _table("vllm")
    space: dict[str, BaseDistribution] = {
        "block_size": CategoricalDistribution([16, 32, 64, 128]),
        "max_num_seqs": _whole(table, "max_num_seqs"),
        "max_num_batched_tokens": _whole(table, "max_num_batched_tokens"),
        "enable_chunked_prefill": CategoricalDistribution([False, True]),
        "enable_prefix_caching": CategoricalDistribution([False, True]),
        "max_seq_len_to_capture": _whole(table, "max_seq_len_to_capture"),
        "enforce_eager": CategoricalDistribution([False, True]),
        "scheduling_policy": CategoricalDistribution(["fcfs", "priority"]),
        "speculative_method": CategoricalDistribution([_NO, "eagle", "ngram"]),
        "num_speculative_tokens": IntDistribution(1, int(table["num_speculative_tokens"].max())),
        "prompt_lookup_max": IntDistribution(1, int(table["prompt_lookup_max"].max())),
        **{name: _real(table, name) for name in ("temperature", "min_p", "repetition_penalty", "length_penalty")},
        "top_k": _whole(table, "top_k"),
    }
    start = {
        "block_size": 16, "max_num_seqs": 256, "max_num_batched_tokens": 2048, "enable_chunked_prefill": True,
        "enable_prefix_caching": True, "max_seq_len_to_capture": 8192, "enforce_eager": False,
        "scheduling_policy": "fcfs", "speculative_method": _NO, "num_speculative_tokens": 1, "prompt_lookup_max": 1,
        "temperature": 1.0, "min_p": 0.0, "repetition_penalty": 1.0, "length_penalty": 1.0, "top_k": 100,
    }  # fmt: skip
    objectives = {
        "output_throughput+": Objective(Direction.MAXIMIZE, log=True),
        "p99_tpot_ms-": Objective(Direction.MINIMIZE, log=True),
        "mean_ttft_ms-": Objective(Direction.MINIMIZE, log=True),
        "mean_bleu+": Objective(Direction.MAXIMIZE, log=False),
    }
    if learnable:
        objectives = {name: o for name, o in objectives.items() if name not in ("p99_tpot_ms-", "mean_ttft_ms-")}
    start = {name: _inside(space[name], value) for name, value in start.items()}
    title = "HPOBench vLLM" + (", the two objectives that can be learned" if learnable else "")
    source = Source(title, table, "benchmark_duration_s", "speculative_method", _without_idle_settings)
    return TableProblem(source, space, objectives, start)


def _without_idle_settings(point: Mapping[str, Any]) -> Point:
    """Speculation that is off has no settings."""
    off = point.get("speculative_method") == _NO
    idle = {"num_speculative_tokens": 1, "prompt_lookup_max": 1} if off else {}
    if point.get("speculative_method") == "eagle":
        idle = {"prompt_lookup_max": 1}
    return {**point, **idle}


def sglang() -> TableProblem:
    """471 configurations of SGLang with 13 knobs, of which 416 failed; the others differ by the attention backend."""
    table = _table("sglang")
    table = table[table["gpu_memory_utilization"].notna() & table["attention_backend"].notna()]
    names = ("max_running_requests", "max_total_tokens", "chunked_prefill_size", "context_length", "top_k")
    table = table.dropna(subset=[*names, "enable_torch_compile", "enable_p2p_check", "disable_radix_cache"])
    table = table.astype({name: int for name in names})
    flags = ("enable_torch_compile", "enable_p2p_check", "disable_radix_cache")
    for flag in flags:
        table[flag] = table[flag].map(lambda value: str(value) == "True")
    space: dict[str, BaseDistribution] = {
        "attention_backend": CategoricalDistribution(["flashinfer", "torch_native"]),
        **{flag: CategoricalDistribution([False, True]) for flag in flags},
        **{name: _whole(table, name) for name in names},
        **{n: _real(table, n) for n in ("gpu_memory_utilization", "temperature", "top_p", "repetition_penalty")},
    }
    best = table.dropna(subset=["output_throughput+"])
    start = {name: best.iloc[0][name] for name in space}
    objectives = {
        "output_throughput+": Objective(Direction.MAXIMIZE, log=True),
        "p99_tpot_ms-": Objective(Direction.MINIMIZE, log=True),
        "mean_ttft_ms-": Objective(Direction.MINIMIZE, log=True),
    }
    return TableProblem(Source("HPOBench SGLang", table, "duration", "attention_backend"), space, objectives, start)


def _table(engine: str) -> pd.DataFrame:
    """A table with the prefixes of its columns left out."""
    table = pd.read_csv(DATA / f"llmsys-hpobench-{engine}.csv")
    return table.rename(
        columns=lambda c: c.removeprefix("cfg-").removeprefix("ai-").removeprefix("obj-").removeprefix("cost-")
    )


def _whole(table: pd.DataFrame, name: str) -> IntDistribution:
    return IntDistribution(int(table[name].min()), int(table[name].max()))


def _real(table: pd.DataFrame, name: str) -> FloatDistribution:
    return FloatDistribution(float(table[name].min()), float(table[name].max()))


def _inside(distribution: BaseDistribution, value: Any) -> Any:
    if isinstance(distribution, IntDistribution | FloatDistribution):
        return min(max(value, distribution.low), distribution.high)
    return value
