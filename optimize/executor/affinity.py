"""Processors for engines on GPUs: whole cores, on the GPU's own side of the machine. Pure but for what NVML tells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Cores = Sequence[tuple[int, ...]]
"""Cores, each by the numbers of its processors."""
_WORD_BITS = 64


def near_cpus(nvml: Any, handle: Any, allowed: frozenset[int]) -> frozenset[int]:
    """The processors on a GPU's side of the machine; all of them where the driver tells none of these.

    Args:
        nvml: The module pynvml, or what stands for it.
        handle: NVML's handle of the GPU.
        allowed: The processors that this process may use.
    """
    words = max(allowed, default=0) // _WORD_BITS + 1
    try:
        masks = nvml.nvmlDeviceGetCpuAffinity(handle, words)
    except nvml.NVMLError:
        return allowed
    near = {word * _WORD_BITS + bit for word, mask in enumerate(masks) for bit in range(_WORD_BITS) if mask >> bit & 1}
    return frozenset(near & allowed) or allowed


def shares(near: Sequence[frozenset[int]], cores: Cores) -> list[tuple[int, ...]]:
    """Processors for each of several engines: equal numbers of whole cores, neighbours together, near its GPUs.

    Engines whose GPUs are near the same processors share these; a core that is near several groups of engines goes to
    the group that has the fewest for each of its engines.

    Args:
        near: For each engine, the processors near its GPUs.
        cores: All cores, in the order of their processors.

    Returns:
        For each engine its processors, ascending; for all engines none where one of them would get no core.
    """
    groups: dict[frozenset[int], list[int]] = {}
    for engine, processors in enumerate(near):
        groups.setdefault(processors, []).append(engine)
    owned: dict[frozenset[int], list[tuple[int, ...]]] = {group: [] for group in groups}
    for core in sorted(cores, key=lambda core: sum(not group.isdisjoint(core) for group in groups)):
        candidates = [group for group in groups if not group.isdisjoint(core)]
        if candidates:
            owned[min(candidates, key=lambda group: len(owned[group]) / len(groups[group]))].append(core)
    result: list[tuple[int, ...]] = [()] * len(near)
    for group, engines in groups.items():
        size = len(owned[group]) // len(engines)
        if not size:
            return [()] * len(near)
        ordered = sorted(owned[group])
        for place, engine in enumerate(engines):
            own = ordered[place * size : (place + 1) * size]
            result[engine] = tuple(sorted(cpu for core in own for cpu in core))
    return result
