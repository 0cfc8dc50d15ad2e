"""`python -m optimize.quantize quantization=int8 model=demo`: makes one checkpoint and prints its contents."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optimize.cli import run_verb
from optimize.config.recipes import check_files, check_unquantized, is_made
from optimize.config.schema import Recipe, StudyConfig
from optimize.errors import ConfigError, OptimizeError

if TYPE_CHECKING:
    from optimize.config.schema import Model
    from optimize.quantize.calibration import Calibration

_MIB = 2**20


def _quantize(config: StudyConfig, config_yaml: str) -> int:
    from optimize.model.hub import fetch_models
    from optimize.model.sources import materialized
    from optimize.quantize.checkpoints import make_checkpoints
    from optimize.quantize.steps import Steps

    recipe, cache = config.quantization, Path(config.cache_dir)
    check_files([recipe])
    if not is_made(recipe):
        source = recipe.checkpoint or "the model as it is"
        others = ", ".join(sorted(name for name, other in config.recipes.items() if is_made(other)))
        raise ConfigError(
            f"quantization={recipe.name} serves {source}: there is nothing to make; choose another recipe: {others}"
        )
    model = materialized(config.model, cache, print)
    if not (Path(model.path) / "config.json").is_file() and Path(model.path).exists():
        raise ConfigError(f"model.path={model.path} holds no config.json: give the folder of a Hugging Face model")
    fetch_models(dataclasses.replace(config, model=model))
    check_unquantized(model.path, [recipe])
    began = time.time()
    with Steps(recipe.name) as steps:
        checkpoints, failures = make_checkpoints(
            model, [recipe], cache, steps.say, _calibration(config, recipe, model), steps.event
        )
    if recipe.name in failures:
        raise OptimizeError(f"{failures[recipe.name]}: see {cache}/checkpoints/compress.log")
    print(report(Path(checkpoints[recipe.name]), began))
    return 0


def _calibration(config: StudyConfig, recipe: Recipe, model: Model) -> Calibration | None:
    from optimize.quantize.calibration import calibration_of
    from optimize.workload.fitting import as_text
    from optimize.workload.workload import load_workload

    if not recipe.calibration_samples:
        return None
    workload = load_workload(config.workload, model.path, Path(config.cache_dir), config.study.seed)
    return calibration_of(as_text(workload, model.path))


def report(folder: Path, began: float) -> str:
    """The essentials of a checkpoint's manifest.

    Args:
        folder: The checkpoint.
        began: Unix time when the command started; a checkpoint made earlier is from the cache.
    """
    from optimize.model.manifest import read_manifest
    from optimize.quantize.layers import Precision, summary

    facts = read_manifest(folder)
    size = sum(file["bytes"] for file in facts["files"].values())
    lines = [
        f"checkpoint:   {folder}",
        f"made:         {_when(facts, began)}",
        f"model:        {facts['model']} {facts['model_hash']}",
        f"recipe:       {facts['recipe']['name']}: {facts['recipe_text'].strip()}",
        f"calibration:  {_calibrated(facts)}",
        f"versions:     {', '.join(f'{k} {v}' for k, v in facts['versions'].items())}",
        f"size:         {size / _MIB:.1f} MiB, of which tensors {facts['tensor_bytes'] / _MIB:.1f} MiB",
        "layers:",
        *(f"  {line}" for line in summary({name: Precision(**fields) for name, fields in facts["layers"].items()})),
    ]
    return "\n".join(lines)


def _when(facts: Mapping[str, Any], began: float) -> str:
    if facts["made_at"] >= began:
        return f"now, in {facts['seconds']:.1f} s"
    day = time.strftime("%Y-%m-%d %H:%M", time.gmtime(facts["made_at"]))
    return f"{day} UTC, in {facts['seconds']:.1f} s; from the cache, complete"


def _calibrated(facts: Mapping[str, Any]) -> str:
    if not facts["calibration_samples"]:
        return "none needed"
    return f"{facts['calibration_samples']} prompts of the workload, hash {facts['calibration_hash']}"


def main() -> None:
    run_verb(_quantize, group="quantization")


if __name__ == "__main__":
    main()
