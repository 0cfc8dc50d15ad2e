"""Whether the engines of a study can serve what its search space and its objectives ask for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from objectives import Objective
from optimize.config.recipes import check_on_cuda, check_readable, check_unquantized
from optimize.config.schema import StudyConfig
from optimize.engine.adapters import ADAPTERS, check_adapters
from optimize.engine.base import Launcher
from optimize.engine.revisions import DRAFTS, adapters_in, drafts_of
from optimize.engine.variables import check_variables
from optimize.errors import ConfigError, setting_names
from optimize.model.hub import fetch_hub_models, fetch_models
from optimize.plan.flags import engine_flags
from optimize.search import variables
from optimize.search.knobs import flag_of, part_of
from optimize.search.space import SearchSpace

_CUDA_BUILD = "vllm "


def check_launcher(
    launcher: Launcher, space: SearchSpace, config: StudyConfig, objectives: Mapping[str, Objective]
) -> None:
    """Check the flags, and the models that this machine's engines are to serve.

    Raises:
        ConfigError: an unknown flag, a model that is not there or that the installed build cannot serve, or what an
            endpoint that someone else runs cannot change or measure.
    """
    searched = [f"{variables.PREFIX}{name}" for name in space.variables]
    parts = [knob for knob in space.distributions if part_of(knob)]
    launcher.preflight([*space.engine_flags, *parts, *(searched if launcher.request_knobs_only else [])])
    _check_whole(parts, config.engine.get("flags") or {})
    if launcher.request_knobs_only:
        _check_remote(space, config, objectives)
        return
    check_variables(config.engine.get("env") or {}, space.variables)
    _check_models(config, space)
    flags = engine_flags(config, space)
    with setting_names({"model.path=": f"{DRAFTS}.model=", "model.flags.": f"{DRAFTS}."}):
        fetch_hub_models(config, drafts_of(flags))
    with setting_names({"model.path=": f"{ADAPTERS}="}):
        fetch_hub_models(config, adapters_in(flags))
    if launcher.version().startswith(_CUDA_BUILD):
        check_on_cuda(space.recipes_needed())
    check_adapters({**(config.engine.get("flags") or {}), **config.model.flags}, config.model.path)


def _check_whole(parts: Iterable[str], fixed: Mapping[str, Any]) -> None:
    for knob in parts:
        if flag_of(knob) in fixed:
            raise ConfigError(
                f"search_space.{knob} is a part of the flag that engine.flags.{flag_of(knob)} fixes as a whole: "
                f"fix its other parts by model.flags.{flag_of(knob)}"
            )


def _check_remote(space: SearchSpace, config: StudyConfig, objectives: Mapping[str, Objective]) -> None:
    if "quantization" in space.distributions:
        raise ConfigError("engine=remote cannot change quantization: choose space=request")
    if config.model.lora:
        raise ConfigError("engine=remote serves its own adapters: name one by engine.model, and leave out model.lora")
    if "memory_bytes" in objectives:
        raise ConfigError(
            "engine=remote cannot measure memory_bytes: name the other objectives, "
            "e.g. objectives=[qps,p99_latency_s,bleu]"
        )


def _check_models(config: StudyConfig, space: SearchSpace) -> None:
    """The model and the ready-made checkpoints, which are fetched where they are none of this machine's folders."""
    model, recipes = config.model.path, space.recipes_needed()
    checkpoints = {recipe.name: recipe.checkpoint for recipe in recipes if recipe.checkpoint}
    check_readable([model])
    looks_local = model.startswith((".", "/", "~")) or model.count("/") != 1 or Path(model.split("/")[0]).exists()
    if not Path(model).is_dir() and looks_local:
        raise ConfigError(f"model.path={model} is neither a folder nor a Hugging Face id: correct model.path")
    fetch_models(config)
    for name, checkpoint in checkpoints.items():
        with setting_names({"model.path=": f"recipes.{name}.checkpoint="}):
            check_readable([checkpoint])
            fetch_models(config, [checkpoint])
    if Path(model).is_dir() and not (Path(model) / "config.json").is_file():
        raise ConfigError(f"model.path={model} holds no config.json: give the folder of a Hugging Face model")
    check_unquantized(model, recipes)
