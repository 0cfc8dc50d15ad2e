"""Checkpoints: made once by llm-compressor, kept in a cache, verified, never served half-made or damaged."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from optimize.checkpoint import content_hash, folder_on_disk
from optimize.config.recipes import is_made
from optimize.config.schema import Model, Recipe
from optimize.entries import hold, remove_drafts
from optimize.errors import EngineFailure, FailureKind
from optimize.files import locked, path_part
from optimize.model.folder import is_missing
from optimize.model.hashes import model_hash
from optimize.model.manifest import MANIFEST, damage
from optimize.quantize.calibration import Calibration
from optimize.quantize.recipe import recipe_hash, recipe_text

__all__ = ["MANIFEST", "checkpoint_folder", "make_checkpoints"]

Event = dict[str, Any]
Checkpoints = tuple[dict[str, str], dict[str, EngineFailure]]
"""Recipe name -> checkpoint, and recipe name -> why there is none."""


def checkpoint_folder(
    model: Model, recipe: Recipe, cache_folder: Path, calibration: Calibration | None = None
) -> Path:  # fmt: skip
    """Folder of a checkpoint, named after the content and versions that determine it."""
    samples = _samples(recipe, calibration)
    determinants = {
        "model": model_hash(model.path, cache_folder),
        "recipe": recipe_hash(recipe),
        "calibration": samples.hash if samples is not None else "",
        "versions": [importlib.metadata.version(name) for name in ("llmcompressor", "compressed-tensors")],
    }
    digest = hashlib.sha256(json.dumps(determinants, sort_keys=True).encode()).hexdigest()[:12]
    name = f"{path_part(model.name)}-{path_part(recipe.name)}-{digest}"
    return cache_folder.resolve() / "checkpoints" / name


def _samples(recipe: Recipe, calibration: Calibration | None) -> Calibration | None:
    if calibration is None or not recipe.calibration_samples:
        return None
    return calibration.take(recipe.calibration_samples)


def make_checkpoints(
    model: Model, recipes: Sequence[Recipe], cache_folder: Path, say: Callable[[str], None],
    calibration: Calibration | None = None, watch: Callable[[Event], None] = lambda _: None,
) -> Checkpoints:  # fmt: skip
    """Make the checkpoints that the cache does not hold complete.

    All are made in one child process: importing llm-compressor takes longer than compressing a small model.

    Args:
        model: What to compress.
        recipes: One for each checkpoint; without scheme, modifiers or recipe it is the model itself, or the checkpoint
            that the recipe names.
        cache_folder: Root of the cache.
        say: Called with a line for people: what is being made, and which checkpoint was damaged.
        calibration: The samples for recipes with `calibration_samples`.
        watch: Called with the child's steps: {"job": 0, "step": "loading"} or {"job": 0, "share": 0.5}.

    Returns:
        (recipe name -> checkpoint, recipe name -> why there is none).
    """
    to_make = [r for r in recipes if is_made(r)]
    checkpoints = {r.name: r.checkpoint or model.path for r in recipes if not is_made(r)}
    failures = {
        r.name: EngineFailure(FailureKind.REFUSED, f"no {r.name} checkpoint: it needs calibration data")
        for r in to_make
        if r.calibration_samples and calibration is None
    }
    folders = {
        r.name: checkpoint_folder(model, r, cache_folder, calibration) for r in to_make if r.name not in failures
    }  # fmt: skip
    root = cache_folder / "checkpoints"
    root.mkdir(parents=True, exist_ok=True)
    with locked(root / "lock"):
        missing = [r for r in to_make if r.name in folders and is_missing(folders[r.name], say)]
        if missing:
            say(f"making checkpoints: {', '.join(r.name for r in missing)}")
            _compress(model, missing, folders, calibration, watch)
            for recipe in missing:
                hold(folders[recipe.name])
    for name, folder in folders.items():
        if (reason := damage(folder)) is None:
            checkpoints[name] = str(folder)
        else:
            failures[name] = EngineFailure(FailureKind.REFUSED, f"no {name} checkpoint: {_last_line(folder) or reason}")
    return checkpoints, failures


def _compress(
    model: Model, recipes: Sequence[Recipe], folders: Mapping[str, Path], calibration: Calibration | None,
    watch: Callable[[Event], None],
) -> None:  # fmt: skip
    jobs = [_job(model, r, folders[r.name], _samples(r, calibration)) for r in recipes]
    with (folders[recipes[0].name].parent / "compress.log").open("w", encoding="utf-8") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "optimize.quantize.compress"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            env={**os.environ, **({"HF_HUB_OFFLINE": "1"} if folder_on_disk(model.path) else {})},
        )  # fmt: skip
        assert child.stdin is not None and child.stdout is not None
        try:
            with child.stdout, contextlib.suppress(BrokenPipeError):  # a child that dies early says why in its log
                with child.stdin:
                    child.stdin.write(json.dumps(jobs))
                for line in child.stdout:
                    watch(json.loads(line))
        finally:
            child.kill()  # it has ended by itself, unless an exception came first
            child.wait()
            for folder in folders.values():
                remove_drafts(folder)


def _job(model: Model, recipe: Recipe, folder: Path, samples: Calibration | None) -> dict[str, Any]:
    return {
        "model": model.path,
        "source": str(folder_on_disk(model.path) or model.path),  # of the hub's models the revision that is hashed
        "model_hash": content_hash(model.path),
        "recipe": asdict(recipe),
        "recipe_text": recipe_text(recipe),
        "samples": list(samples.samples) if samples is not None else [],
        "calibration_hash": samples.hash if samples is not None else None,
        "folder": str(folder),
    }


def _last_line(folder: Path) -> str:
    """The error a recipe left beside its folder, or the end of the log if the whole process died."""
    error = folder.with_name(f"{folder.name}.error")
    log = folder.parent / "compress.log"
    for path in (error, log):
        if path.is_file() and (lines := path.read_text(encoding="utf-8").strip().splitlines()):
            return lines[-1][:300]
    return ""
