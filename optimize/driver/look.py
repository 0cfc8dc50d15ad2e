"""A look at the machine before anything is measured: who else computes, and what is short, each with a remedy."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from optimize.checkpoint import defaults_in_words, tensor_bytes
from optimize.config.measuring import Guard
from optimize.config.recipes import is_made
from optimize.config.schema import Recipe
from optimize.driver.gpu_look import gpu_notes
from optimize.driver.progress import Progress
from optimize.engine.base import Flags
from optimize.evaluation.interference import Machine, exceeded
from optimize.formatting import gib, percent
from optimize.hardware import gpus
from optimize.plan import Plan
from optimize.quantize.recipe import recipe_text

_LOOK_S = 2.0
_NAMED, _LEAST_CORES = 3, 0.05
_VLLM_BYTES = 2 << 30
"""What vLLM's processes hold beside weights and KV cache: 1.5 to 1.8 GiB with the demo model on CPU."""
_SPARE_BYTES = 1 << 30
_OF_8_BITS, _OF_4_BITS, _PACKED = 0.6, 0.4, ("W4A16", "NVFP4", "MXFP4")
_KV_SPACE = "VLLM_CPU_KVCACHE_SPACE"


@dataclass(frozen=True, slots=True)
class Reading:
    """What others do on this machine.

    Attributes:
        shares: Readings of `optimize.evaluation.interference.Machine`.
        programs: Name of each program that computes -> processors that it uses.
    """

    shares: dict[str, float]
    programs: dict[str, float]

    def in_words(self, guard: Guard) -> str:
        """The disturbances and who they are, in one line; empty where the guard would accept them all."""
        reasons = exceeded(self.shares, guard)
        if not reasons:
            return ""
        largest = Counter({name: cores for name, cores in self.programs.items() if cores >= _LEAST_CORES})
        named = ", ".join(f"{name} {cores:.1f} cores" for name, cores in largest.most_common(_NAMED))
        return f"{'; '.join(reasons)}; {f'most of it {named}' if named else 'by programs that are not to be seen here'}"


def look(plan: Plan, progress: Progress) -> None:
    """Say what matters of the workload and of the machine, and wait for quiet.

    The machine is not looked at where `load.quiet_wait_s` is null or the engine is simulated.
    """
    for line in [*plan.workload.notes, *_defaults(plan)]:
        progress.say(f"note: {line}")
    wait_s = _wait_s(plan)
    if wait_s is None:
        return
    progress.phase("looking at the machine")
    for line in shortages(plan):
        progress.say(f"note: {line}")
    wait_for_quiet(plan.config.load.guard, wait_s, progress.say)


def _defaults(plan: Plan) -> list[str]:
    """A sentence on the sampling defaults that the model brings, unless a flag replaces them."""
    flags = {**dict(getattr(plan.launcher, "flags", {})), **plan.config.model.flags}
    if plan.launcher.request_knobs_only or flags.get("generation_config"):
        return []
    return list(filter(None, [defaults_in_words(plan.config.model.path)]))


def await_quiet(
    plan: Plan, progress: Progress, deadline: float | None, clock: Callable[[], float] = time.monotonic
) -> None:
    """Wait for quiet before a trial that the machine disturbed is run again, but not beyond the session's time.

    Args:
        plan: The study's parts.
        progress: Shows the wait.
        deadline: Second of the clock after which no trial begins; None for no limit.
        clock: Tells the time in seconds.
    """
    wait_s = _wait_s(plan)
    if wait_s is None:
        return
    progress.phase("waiting for a quiet machine")
    bound_s = wait_s if deadline is None else min(wait_s, max(0.0, deadline - clock()))
    wait_for_quiet(plan.config.load.guard, bound_s, progress.say, clock=clock)


def _wait_s(plan: Plan) -> float | None:
    """Longest wait for quiet; None where the machine is not looked at, or makes no difference."""
    return None if plan.signature["engine"].startswith("simulated") else plan.config.load.quiet_wait_s


def wait_for_quiet(
    guard: Guard, wait_s: float, say: Callable[[str], None], read: Callable[[], Reading] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:  # fmt: skip
    """Return once nobody disturbs, or after a while.

    Args:
        guard: What disturbs.
        wait_s: Longest wait, in seconds.
        say: Prints a line.
        read: Looks at the machine for a moment.
        clock: Tells the time in seconds.
    """
    began, take, is_announced = clock(), read or reading, False
    while reasons := take().in_words(guard):
        if not is_announced and wait_s:
            say(f"note: {reasons}: end them, or let them end; waiting up to {wait_s:g} s for quiet (load.quiet_wait_s)")
        is_announced = True
        if clock() - began >= wait_s:
            say(f"note: {reasons}: it goes on all the same; figures that they disturb are marked")
            return
    if is_announced:
        say(f"quiet after {clock() - began:.0f} s")


def reading(sleep: Callable[[float], None] = time.sleep) -> Reading:
    """What others do in the next two seconds; the processes of this program do not count."""
    machine, before = Machine(lambda: [p.pid for p in psutil.Process().children(recursive=True)]), _cpu_s()
    sleep(_LOOK_S)
    shares, programs = machine.sample(), Counter[str]()
    own = {os.getpid(), *(p.pid for p in psutil.Process().children(recursive=True))}
    for (pid, name), used_s in _cpu_s().items():
        if pid not in own:
            programs[name] += (used_s - before.get((pid, name), used_s)) / _LOOK_S  # type: ignore[assignment]
    return Reading(shares, dict(programs))


def _cpu_s() -> dict[tuple[int, str], float]:
    """(Process, its program) -> processor seconds so far."""
    seconds = {}
    for process in psutil.process_iter(["name", "cpu_times"]):
        times = process.info["cpu_times"]
        if times is not None:
            seconds[process.pid, str(process.info["name"])] = times.user + times.system
    return seconds


def shortages(plan: Plan) -> Iterator[str]:
    """What this machine is short of for the engines of a study, one line each."""
    if plan.launcher.request_knobs_only:
        return
    weights = tensor_bytes(plan.config.model.path)
    if plan.signature["engine"].startswith("vllm-cpu"):
        yield from _memory(weights, kv_bytes(plan), psutil.virtual_memory().available)
    else:
        yield from gpu_notes(plan, gpus())
    to_make = checkpoint_bytes(plan.space.recipes_needed(), weights)
    yield from _disk("cache_dir", Path(plan.config.cache_dir), to_make + _SPARE_BYTES)
    yield from _cache(to_make, plan.config.cache_max_gib)
    yield from _disk("output_dir", plan.folder, _SPARE_BYTES)


def checkpoint_bytes(recipes: Sequence[Recipe], weights: int) -> int:
    """Bytes of the checkpoints that recipes make of a model, of which embeddings and output head stay as they are.

    Args:
        recipes: The recipes.
        weights: Bytes of the model's tensors, of 16 bits each.
    """
    return round(sum(_share(recipe) * weights for recipe in recipes if is_made(recipe)))


def _share(recipe: Recipe) -> float:
    """A checkpoint's size beside the model's: llm-compressor packs 4-bit weights, but stores those of W4A8 in bytes."""
    text = recipe_text(recipe)
    return _OF_4_BITS if any(f'"{scheme}' in text for scheme in _PACKED) else _OF_8_BITS


def _cache(needed: int, max_gib: float) -> Iterator[str]:
    """Checkpoints that the cache does not keep beside each other from one study to the next."""
    if needed > max_gib * 2**30:
        fitting = math.ceil(needed / 2**30)
        yield (
            f"the checkpoints of this study take about {gib(needed)}, and the cache keeps {max_gib:g} GiB from one "
            f"study to the next: they are made again then, unless you set cache_max_gib={fitting} or more"
        )


def kv_bytes(plan: Plan) -> int:
    """Bytes of the KV cache of a CPU engine: the flag's, else the variable's, else none that are known."""
    fixed: Flags = tuple({**plan.config.model.flags, **dict(getattr(plan.launcher, "flags", {}))}.items())
    flag = dict(fixed).get("kv_cache_memory_bytes")
    space = dict(getattr(plan.launcher, "env", {})).get(_KV_SPACE, 0)
    return int(flag) if flag is not None else int(float(space) * 2**30)


def _memory(weights: int, kv_cache: int, available: int) -> Iterator[str]:
    needed = weights + kv_cache + _VLLM_BYTES
    if available < needed:
        yield (
            f"{gib(available)} of memory are free, and an engine needs about {gib(needed)} (weights {gib(weights)}, "
            f"KV cache {gib(kv_cache)}, vLLM {gib(_VLLM_BYTES)}): end other programs, or lower kv_cache_memory_bytes"
        )


def _disk(key: str, folder: Path, needed: int) -> Iterator[str]:
    place = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    usage = shutil.disk_usage(place)
    if usage.free < needed:
        yield (
            f"{gib(usage.free)} are free on the disk of {key}={folder} ({percent(usage.used / usage.total)} used), "
            f"and the study may need {gib(needed)}: make room (`python -m optimize.cache`), or name another {key}"
        )
