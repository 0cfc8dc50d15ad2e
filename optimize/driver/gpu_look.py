"""A look at the GPUs before anything is measured: what they cannot compute, and who else uses them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from optimize.config.schema import Recipe
from optimize.formatting import gib, percent
from optimize.hardware import Gpu, GpuProgram
from optimize.plan import Plan

_DTYPES = {"bfloat16": (8, 0)}
_SCHEMES = {"FP8": (8, 9), "NVFP4": (10, 0), "W8A8": (7, 5)}
"""Beginning of a scheme's name -> first compute capability with instructions for it; likewise of data types."""
_SHARE, _SHARE_FLAG = 0.92, "gpu_memory_utilization"
"""vLLM's default from 0.26 on, 0.9 before: the share of a GPU's memory that must be free when an engine starts."""
_LEAST_SHARE, _MARGIN = 0.05, 0.02
_NAMED = 3


def gpu_notes(plan: Plan, gpus: Sequence[Gpu]) -> Iterator[str]:
    """What matters of the GPUs for the engines of a study, one line each, with the remedy."""
    recipes = plan.space.recipes_needed()
    for gpu in {(g.name, g.capability): g for g in reversed(gpus)}.values():
        yield from _lacking(gpu, recipes, plan.config.model.flags)
    for gpu in gpus:
        yield from _occupied(gpu, _share(plan))


def _lacking(gpu: Gpu, recipes: Sequence[Recipe], flags: Mapping[str, Any]) -> Iterator[str]:
    """The formats that recipes compute in and the GPU has no instructions for."""
    if gpu.capability is None:
        return
    lacking: dict[str, list[str]] = {}
    for recipe in recipes:
        for format_, since in _formats(recipe, flags):
            if gpu.capability < since:
                lacking.setdefault(f"{format_} (from {_version(since)} on", []).append(recipe.name)
    if lacking:
        affected = {name for names in lacking.values() for name in names}
        named = " and ".join(f"{format_}; {', '.join(names)})" for format_, names in lacking.items())
        yield (
            f"GPU {gpu.number} ({gpu.name}, compute capability {_version(gpu.capability)}) has no instructions for "
            f"{named}: vLLM refuses or emulates that; {_without([r.name for r in recipes if r.name not in affected])}"
        )


def _formats(recipe: Recipe, flags: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, int]]]:
    """(Format, first compute capability with instructions for it) of what a recipe computes in.

    vLLM itself takes float16 where the type is left to it and the GPU has no bfloat16.
    """
    dtype = str(recipe.flags.get("dtype", flags.get("dtype", recipe.dtype)))
    if dtype in _DTYPES:
        yield dtype, _DTYPES[dtype]
    modifiers = [m for m in recipe.modifiers.values() if isinstance(m, Mapping)]
    schemes = (recipe.scheme, *(m.get("scheme") for m in modifiers), recipe.flags.get("quantization"))
    for scheme in dict.fromkeys(str(s) for s in schemes if s):
        since = next((since for name, since in _SCHEMES.items() if scheme.upper().startswith(name)), None)
        if since is not None:
            yield scheme, since


def _without(names: Sequence[str]) -> str:
    if not names:
        return "search others, e.g. 'search_space.quantization.choices=[published,fp16]'"
    return f"leave them out: 'search_space.quantization.choices=[{','.join(names)}]'"


def _occupied(gpu: Gpu, share: float) -> Iterator[str]:
    """The memory that is in use, where an engine could not start beside it or the program is a large one."""
    used = gpu.total_bytes - gpu.free_bytes
    large = [p for p in gpu.programs if (p.memory_bytes or 0) >= _LEAST_SHARE * gpu.total_bytes]
    in_use = f"{gib(used)} of {gib(gpu.total_bytes)} of GPU {gpu.number} ({gpu.name}) are in use{_by(gpu.programs)}"
    if gpu.free_bytes < share * gpu.total_bytes:
        fitting = max(0.0, gpu.free_bytes / gpu.total_bytes - _MARGIN)
        yield (
            f"{in_use}, and vLLM asks for {percent(share)} of it: end the other programs, or set "
            f"+engine.flags.{_SHARE_FLAG}={fitting:.2f}"
        )
    elif large:
        yield f"{in_use}: what they compute slows the engines, so end them, or let them end"


def _by(programs: Sequence[GpuProgram]) -> str:
    """The largest programs with their processes; empty where none is to be seen."""
    largest = sorted(programs, key=lambda p: -(p.memory_bytes or 0))[:_NAMED]
    return f" by {', '.join(map(_in_words, largest))}" if largest else ""


def _in_words(program: GpuProgram) -> str:
    size = "" if program.memory_bytes is None else f", {gib(program.memory_bytes)}"
    return f"{program.name or 'a program'} (pid {program.pid}{size})"


def _share(plan: Plan) -> float:
    fixed = {**dict(getattr(plan.launcher, "flags", {})), **plan.config.model.flags}
    return float(fixed.get(_SHARE_FLAG) or _SHARE)


def _version(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))
