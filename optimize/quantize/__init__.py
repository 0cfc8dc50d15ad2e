"""Quantized checkpoints: made once by llm-compressor, kept in a cache, never served half-made."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock

from optimize.checkpoint import content_hash
from optimize.errors import EngineFailure, FailureKind
from optimize.schema import Model, Recipe

MANIFEST = "manifest.json"
"""Written last: a folder with it is whole."""


def checkpoint_folder(model: Model, recipe: Recipe, cache_folder: Path) -> Path:
    """Where a checkpoint is kept: named after the content and versions that determine it."""
    determined_by = {
        "model": content_hash(model.path),
        "recipe": asdict(recipe),
        "llmcompressor": importlib.metadata.version("llmcompressor"),
    }
    digest = hashlib.sha256(json.dumps(determined_by, sort_keys=True).encode()).hexdigest()[:12]
    return cache_folder.resolve() / "checkpoints" / f"{model.name}-{recipe.name}-{digest}"


def make_checkpoints(
    model: Model, recipes: Sequence[Recipe], cache_folder: Path, say: Callable[[str], None]
) -> tuple[dict[str, str], dict[str, EngineFailure]]:
    """Make those checkpoints that the cache does not hold yet.

    All are made in one child process: importing llm-compressor takes longer than compressing a small model.

    Args:
        model: What to compress.
        recipes: How; a recipe without a scheme is the model itself.
        cache_folder: Root of the cache.
        say: Told what is being made.

    Returns:
        (recipe name -> checkpoint, recipe name -> why there is none).
    """
    folders = {r.name: checkpoint_folder(model, r, cache_folder) for r in recipes if r.scheme is not None}
    found = {r.name: model.path for r in recipes if r.scheme is None}
    root = cache_folder / "checkpoints"
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / "lock"):
        missing = [r for r in recipes if r.name in folders and not (folders[r.name] / MANIFEST).is_file()]
        if missing:
            say(f"making checkpoints: {', '.join(r.name for r in missing)}")
            _compress(model, missing, folders)
    broken: dict[str, EngineFailure] = {}
    for name, folder in folders.items():
        if (folder / MANIFEST).is_file():
            found[name] = str(folder)
        else:
            broken[name] = EngineFailure(FailureKind.REFUSED, f"no {name} checkpoint: {_last_line(folder)}")
    return found, broken


def _compress(model: Model, recipes: Sequence[Recipe], folders: Mapping[str, Path]) -> None:
    jobs = [
        {
            "model": model.path,
            "scheme": r.scheme,
            "ignore": r.ignore,
            "dtype": r.dtype,
            "folder": str(folders[r.name]),
        }
        for r in recipes
    ]
    log = folders[recipes[0].name].parent / "compress.log"
    with log.open("w", encoding="utf-8") as output:
        subprocess.run(
            [sys.executable, "-m", "optimize.quantize.compress"],
            input=json.dumps(jobs), text=True, stdout=output, stderr=output, check=False,
        )  # fmt: skip


def _last_line(folder: Path) -> str:
    """The error a recipe left beside its folder, or the end of the log if the whole process died."""
    error = folder.with_suffix(".error")
    log = folder.parent / "compress.log"
    for path in (error, log):
        if path.is_file() and (lines := path.read_text(encoding="utf-8").strip().splitlines()):
            return lines[-1][:300]
    return "llm-compressor left no message"
