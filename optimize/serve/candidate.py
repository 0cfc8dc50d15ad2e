"""The configuration that a canary compares, and whether there is room for its engine beside the one that serves."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from optimize.checkpoint import tensor_bytes
from optimize.config.schema import StudyConfig
from optimize.engine.base import EngineConfig
from optimize.errors import ConfigError, setting_names
from optimize.formatting import gib
from optimize.hardware import gpus
from optimize.plan import Plan
from optimize.study.target import Say, Target, choose

_VLLM_BYTES = 2 << 30
_KV_FLAG, _KV_SPACE = "kv_cache_memory_bytes", "VLLM_CPU_KVCACHE_SPACE"
_GPU_FLAG, _GPU_SHARE = "gpu_memory_utilization", 0.92
_GPU_VARIABLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Candidate:
    """What is compared.

    Attributes:
        target: Its configuration.
        words: The words of a command line that serve it.
        slot: Number of the launcher that starts it.
        record: File that the verdict is written to.
    """

    target: Target
    words: str
    slot: int
    record: Path

    @property
    def config(self) -> EngineConfig:
        return self.target.config.engine


def choose_candidate(config: StudyConfig, name: str, served: Target, say: Say) -> tuple[Target, str]:
    """The candidate that `serve.canary` names, and the words of a command line that serve it.

    Args:
        config: The typed configuration.
        name: Name of the plan.
        served: The configuration that serves.
        say: Receives messages about checkpoints that are being made.

    Raises:
        ConfigError, OptimizeError: as `choose`.
    """
    canary = config.serve.canary
    target, words = served, ""
    if canary.row is not None:
        words = f"row={canary.row}"
        with setting_names({"row=": "serve.canary.row="}):
            _, target = choose(dataclasses.replace(config, row=canary.row, at={}), name, say)
    if canary.at:
        at = {**target.params, **canary.at}
        words = " ".join(f"+at.{knob}={value}" for knob, value in at.items())
        with setting_names({f"at.{knob}": f"serve.canary.at.{knob}" for knob in canary.at}):
            _, target = choose(dataclasses.replace(config, at=at), name, say)
    return target, words


def check_room(plan: Plan, targets: Sequence[Target], available: int | None = None) -> None:
    """Refuse to start engines that this machine has no memory for.

    On GPUs, engines that see the same ones must not claim more than all of their memory. On CPUs each needs its
    weights, its KV cache and what vLLM itself takes, or what the study measured, where that is more.

    Args:
        plan: The plan of what is served.
        targets: The configurations of all engines that will live at a time.
        available: Free bytes of this machine's memory; None looks.

    Raises:
        ConfigError: there is not enough.
    """
    if plan.signature["engine"].startswith("simulated"):
        return
    if plan.signature["engine"].startswith("vllm-cpu"):
        _check_memory(plan, targets, psutil.virtual_memory().available if available is None else available)
    elif gpus():
        _check_shares(plan, targets)


def _check_memory(plan: Plan, targets: Sequence[Target], available: int) -> None:
    needed = [_bytes_of(plan, target) for target in targets]
    if sum(needed) > available:
        raise ConfigError(
            f"{len(targets)} engines at a time need about {gib(sum(needed))} ({' + '.join(map(gib, needed))}), and "
            f"{gib(available)} of memory are free: serve without a canary or a standby, or lower {_KV_FLAG}"
        )


def _bytes_of(plan: Plan, target: Target) -> int:
    engine = target.config.engine
    flags = {**_launchers(plan, "flags"), **dict(engine.flags)}
    variables = {**_launchers(plan, "env"), **dict(engine.env)}
    kv_bytes = int(flags.get(_KV_FLAG) or float(str(variables.get(_KV_SPACE, 0))) * 2**30)
    measured = target.estimates.get("process_memory_bytes")
    least = tensor_bytes(engine.checkpoint) + kv_bytes + _VLLM_BYTES
    return max(least, 0 if measured is None else int(measured.value))


def _check_shares(plan: Plan, targets: Sequence[Target]) -> None:
    claims: dict[str, float] = {}
    for target in targets:
        engine = target.config.engine
        flags = {**_launchers(plan, "flags"), **dict(engine.flags)}
        devices = str({**_launchers(plan, "env"), **dict(engine.env)}.get(_GPU_VARIABLE, ""))
        claims[devices] = claims.get(devices, 0.0) + float(str(flags.get(_GPU_FLAG) or _GPU_SHARE))
    claim = max(claims.values())
    if claim > 1:
        fitting = _GPU_SHARE / len(targets)
        raise ConfigError(
            f"{len(targets)} engines at a time claim {claim:.0%} of the memory of the same GPUs: set "
            f"+engine.flags.{_GPU_FLAG}={fitting:.2f}, or serve without a canary or a standby"
        )


def _launchers(plan: Plan, name: str) -> Mapping[str, object]:
    """Flags or variables that the launcher gives every engine."""
    return dict(getattr(plan.launcher, name, {}))
