"""A model whose weights a Python package holds as a GGUF file: made into a checkpoint for vLLM, once per machine.

For machines that reach a package index and no model hub.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from optimize.config.schema import Model, PackagedWeights
from optimize.entries import hold, remove_drafts
from optimize.errors import ConfigError, OptimizeError
from optimize.files import locked, path_part, python_path
from optimize.model.folder import is_missing
from optimize.model.packages import discard, installed, pinned

_CONVERSION = 1
"""Raised whenever the same file becomes another checkpoint."""
_LOG = "gguf.log"
_QUIET = {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
"""Variables of the child, whose last line is to be its error rather than a progress bar."""


def materialized(model: Model, cache_folder: Path, say: Callable[[str], None]) -> Model:
    """The model with `path` set to its folder; it is made of the package's file unless the cache holds it complete.

    Raises:
        ConfigError: the package cannot be installed, or holds no such file.
        OptimizeError: its file cannot be read.
    """
    package = model.package
    assert package is not None
    versions = pinned(Path(package.requirements))
    folder = cache_folder.resolve() / "checkpoints" / f"{path_part(model.name)}-{_digest(package)}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.parent / "lock"):
        if is_missing(folder, say):
            packages = installed(Path(package.requirements), cache_folder, say)
            say(f"making {model.name}: {package.file} in {package.dtype}")
            facts = {"source": model.source, "package": dataclasses.asdict(package), "packages": versions}
            _convert(package, packages, folder, facts)
            hold(folder)
    return dataclasses.replace(model, path=str(folder))


def _digest(package: PackagedWeights) -> str:
    lock = Path(package.requirements).read_bytes()
    determinants = f"{_CONVERSION} {package.file} {package.dtype} ".encode()
    return hashlib.sha256(determinants + lock).hexdigest()[:12]


def _convert(package: PackagedWeights, packages: Path, folder: Path, facts: dict[str, Any]) -> None:
    """Make the checkpoint in a process of its own, whose memory ends with it."""
    file = packages / package.file
    if not file.is_file():
        raise ConfigError(f"model.package.file={package.file} is not in {packages}: correct it, or the lock's version")
    job = {"file": str(file), "folder": str(folder), "dtype": package.dtype, "facts": facts}
    path = os.pathsep.join(filter(None, [python_path(), str(packages)]))
    log = folder.parent / _LOG
    try:
        with log.open("w", encoding="utf-8") as output:
            child = subprocess.run(
                [sys.executable, "-m", "optimize.model.gguf"], input=json.dumps(job), text=True, check=False,
                stdout=output, stderr=output, env={**os.environ, "PYTHONPATH": path, **_QUIET},
            )  # fmt: skip
    finally:
        remove_drafts(folder)
    if child.returncode:
        discard(packages)  # the same command installs it again, in case it is damaged
        raise OptimizeError(f"{package.file} cannot be made into a checkpoint ({_last_line(log)}): see {log}")


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "the process was killed, perhaps for its memory"
